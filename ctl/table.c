#include "ctl/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct mt_table {
	size_t columns;
	size_t widths[MT_TABLE_COLUMNS_MAX];
	const char *headings[MT_TABLE_COLUMNS_MAX];
	char **cells;
	size_t count;
	size_t cap;
	bool failed;
};

/* Characters on the screen, for names in UTF-8: continuation bytes take no place. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		n += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return n;
}

struct mt_table *mt_table_new(const char *const *headings, size_t columns)
{
	struct mt_table *t = calloc(1, sizeof(*t));

	if (t == NULL || columns == 0 || columns > MT_TABLE_COLUMNS_MAX) {
		free(t);
		return NULL;
	}
	t->columns = columns;
	for (size_t i = 0; i < columns; i++) {
		t->headings[i] = headings[i];
		t->widths[i] = width(headings[i]);
	}
	return t;
}

void mt_table_free(struct mt_table *t)
{
	if (t == NULL) {
		return;
	}
	for (size_t i = 0; i < t->count; i++) {
		free(t->cells[i]);
	}
	free(t->cells);
	free(t);
}

void mt_table_add(struct mt_table *t, const char *text)
{
	size_t column = t->count % t->columns;
	char *copy;

	if (t->count == t->cap && !t->failed) {
		size_t cap = t->cap == 0 ? 64 : t->cap * 2;
		char **grown = reallocarray(t->cells, cap, sizeof(*grown));

		t->failed = grown == NULL;
		if (!t->failed) {
			t->cells = grown;
			t->cap = cap;
		}
	}
	copy = t->failed ? NULL : strdup(text);
	if (copy == NULL) {
		t->failed = true;
		return;
	}
	for (char *p = copy; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			*p = '?'; /* no escape sequences from elsewhere on the terminal */
		}
	}
	t->widths[column] = width(copy) > t->widths[column] ? width(copy) : t->widths[column];
	t->cells[t->count++] = copy;
}

void mt_table_addf(struct mt_table *t, const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0) {
		text = NULL;
	}
	va_end(args);
	if (text == NULL) {
		t->failed = true;
		return;
	}
	mt_table_add(t, text);
	free(text);
}

static void print_cell(const struct mt_table *t, size_t column, const char *text, FILE *out)
{
	fputs(text, out);
	if (column + 1 < t->columns) {
		fprintf(out, "%*s", (int)(t->widths[column] - width(text) + 2), "");
	}
}

int mt_table_print(const struct mt_table *t, FILE *out, bool color)
{
	if (t->failed) {
		return -ENOMEM;
	}
	fputs(color ? "\033[1m" : "", out);
	for (size_t i = 0; i < t->columns; i++) {
		print_cell(t, i, t->headings[i], out);
	}
	fputs(color ? "\033[0m\n" : "\n", out);
	for (size_t i = 0, column = 0; i < t->count; i++) {
		print_cell(t, column, t->cells[i], out);
		if (++column == t->columns) {
			fputc('\n', out);
			column = 0;
		}
	}
	return 0;
}

const char *mt_format_bytes(char *buf, uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 999.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1000;
		unit++;
	}
	(void)snprintf(buf, MT_NUMBER_TEXT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", value,
		units[unit]); /* always fits */
	return buf;
}

const char *mt_format_duration(char *buf, int64_t seconds)
{
	int64_t d = seconds / 86400;
	int64_t h = seconds / 3600 % 24;
	int64_t m = seconds / 60 % 60;
	int64_t s = seconds % 60;

	/* All of these fit. */
	if (d > 0) {
		(void)snprintf(buf, MT_NUMBER_TEXT_MAX, "%" PRId64 "d %" PRId64 "h", d, h);
	} else if (h > 0) {
		(void)snprintf(buf, MT_NUMBER_TEXT_MAX, "%" PRId64 "h %" PRId64 "m", h, m);
	} else if (m > 0) {
		(void)snprintf(buf, MT_NUMBER_TEXT_MAX, "%" PRId64 "m %" PRId64 "s", m, s);
	} else {
		(void)snprintf(buf, MT_NUMBER_TEXT_MAX, "%" PRId64 "s", s);
	}
	return buf;
}

const char *mt_format_time(char *buf, int64_t unix_seconds)
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL ||
		strftime(buf, MT_NUMBER_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0) {
		(void)snprintf(buf, MT_NUMBER_TEXT_MAX, "?");
	}
	return buf;
}
