#include "web/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mt_exposition {
	FILE *out;
	char *text;
	size_t len;
	const char *family;
};

struct mt_exposition *mt_exposition_new(void)
{
	struct mt_exposition *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		return NULL;
	}
	e->out = open_memstream(&e->text, &e->len);
	if (e->out == NULL) {
		free(e);
		return NULL;
	}
	return e;
}

char *mt_exposition_finish(struct mt_exposition *e, size_t *len)
{
	/* Writes to memory fail for want of memory alone, which the stream remembers. */
	bool bad = ferror(e->out) != 0;
	char *text = NULL;

	bad = fclose(e->out) != 0 || bad;
	if (bad) {
		free(e->text);
	} else {
		text = e->text;
		*len = e->len;
	}
	free(e);
	return text;
}

static const char *type_text(enum mt_web_metric_type type)
{
	switch (type) {
	case MT_WEB_COUNTER: return "counter";
	case MT_WEB_GAUGE: return "gauge";
	case MT_WEB_HISTOGRAM: return "histogram";
	case MT_WEB_UNTYPED: break;
	}
	return "untyped";
}

static void write_help(FILE *out, const char *help)
{
	for (; *help != '\0'; help++) {
		if (*help == '\\' || *help == '\n') {
			fputs(*help == '\n' ? "\\n" : "\\\\", out);
		} else {
			fputc(*help, out);
		}
	}
}

/* The length of the well-formed UTF-8 sequence at `s` (RFC 3629), 0 when there is none. */
static size_t sequence(const char *s)
{
	const unsigned char *b = (const unsigned char *)s;
	size_t len = b[0] < 0x80 ? 1 : b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;

	if (len > 1 && (b[0] < 0xc2 || b[0] > 0xf4)) {
		return 0;
	}
	for (size_t i = 1; i < len; i++) { /* the string's end is no continuation */
		if ((b[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	/* Overlong forms, surrogates, and beyond the last code point. */
	if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
		(b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f)) {
		return 0;
	}
	return len;
}

static void write_label_value(FILE *out, const char *value)
{
	while (*value != '\0') {
		size_t n = sequence(value);

		if (*value == '\n') {
			fputs("\\n", out);
		} else if (*value == '"' || *value == '\\') {
			fputc('\\', out);
			fputc(*value, out);
		} else if (n == 0) {
			fputc('?', out);
		} else {
			fwrite(value, 1, n, out);
		}
		value += n > 0 ? n : 1;
	}
}

static void write_name(struct mt_exposition *e, const char *suffix,
	const struct mt_web_label *labels, size_t count)
{
	fputs(e->family, e->out);
	fputs(suffix, e->out);
	for (size_t i = 0; i < count; i++) {
		fprintf(e->out, "%c%s=\"", i == 0 ? '{' : ',', labels[i].name);
		write_label_value(e->out, labels[i].value);
		fputc('"', e->out);
	}
	if (count > 0) {
		fputc('}', e->out);
	}
}

void mt_exposition_family(
	struct mt_exposition *e, const char *name, enum mt_web_metric_type type, const char *help)
{
	e->family = name;
	fprintf(e->out, "# HELP %s ", name);
	write_help(e->out, help);
	fprintf(e->out, "\n# TYPE %s %s\n", name, type_text(type));
}

void mt_exposition_count(
	struct mt_exposition *e, const struct mt_web_label *labels, size_t count, uint64_t value)
{
	write_name(e, "", labels, count);
	fprintf(e->out, " %" PRIu64 "\n", value);
}

void mt_exposition_value(
	struct mt_exposition *e, const struct mt_web_label *labels, size_t count, double value)
{
	/* Whole numbers up to 2^53 without exponent, as people and simple parsers like them. */
	if (value >= 0 && value <= 9007199254740992.0 && value == floor(value)) {
		mt_exposition_count(e, labels, count, (uint64_t)value);
		return;
	}
	write_name(e, "", labels, count);
	fprintf(e->out, " %.17g\n", value);
}

void mt_exposition_histogram(struct mt_exposition *e, const uint64_t *bounds_us, size_t bounds,
	const uint64_t *counts, uint64_t sum_us)
{
	uint64_t total = 0;
	char text[32];

	for (size_t i = 0; i <= bounds; i++) {
		const struct mt_web_label le = {"le", text};

		total += counts[i];
		if (i == bounds) {
			(void)snprintf(text, sizeof(text), "+Inf"); /* fits */
		} else {
			(void)snprintf(text, sizeof(text), "%.9g",
				(double)bounds_us[i] / 1e6); /* nine digits, a point, an exponent */
		}
		write_name(e, "_bucket", &le, 1);
		fprintf(e->out, " %" PRIu64 "\n", total);
	}
	write_name(e, "_sum", NULL, 0);
	fprintf(e->out, " %.17g\n", (double)sum_us / 1e6);
	write_name(e, "_count", NULL, 0);
	fprintf(e->out, " %" PRIu64 "\n", total);
}
