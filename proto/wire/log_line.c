#include "proto/wire/log_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define REPLACEMENT 0xfffd

struct line {
	char *buf;
	size_t len;
	size_t cap; /* leaves room for what must come at the end */
	bool cut;
};

static const char *const level_names[MT_LOG_LEVELS] = {"error", "warn", "info", "debug"};

const char *mt_log_level_text(enum mt_log_level level)
{
	return level_names[level];
}

static void put(struct line *l, const char *text, size_t len)
{
	if (l->cut || len > l->cap - l->len) {
		l->cut = true;
		return;
	}
	memcpy(l->buf + l->len, text, len);
	l->len += len;
}

static void put_text(struct line *l, const char *text)
{
	put(l, text, strlen(text));
}

/* Reads one character of more than one byte; 0 for what is not UTF-8 (RFC 3629, section 4). */
static size_t decode(const unsigned char *p, uint32_t *out)
{
	const size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = p[0] & (0x7fu >> n);

	if (p[0] < 0xc2 || p[0] > 0xf4) {
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80) { /* the final NUL too */
			return 0;
		}
		c = (c << 6) | (p[i] & 0x3f);
	}
	if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
		return 0;
	}
	*out = c;
	return n;
}

/* Characters that move the cursor, end the line, or turn the direction of what follows. */
static bool is_unsafe(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void put_escaped(struct line *l, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p != '\0' && !l->cut) {
		uint32_t c = *p;
		size_t n = 1;

		if (c >= 0x80) {
			n = decode(p, &c);
			if (n == 0) {
				c = REPLACEMENT;
			}
		}
		if (n == 0 || is_unsafe(c)) {
			char esc[8];

			(void)snprintf(esc, sizeof(esc), "\\u%04x", c & 0xffff); /* all below */
			put_text(l, esc);
		} else {
			if (c == '"' || c == '\\') {
				put(l, "\\", 1);
			}
			put(l, (const char *)p, n);
		}
		p += n > 0 ? n : 1;
	}
}

/* Needs no quotes in a line for people. */
static bool is_plain(const char *text)
{
	if (*text == '\0') {
		return false;
	}
	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=') {
			return false;
		}
	}
	return true;
}

static void put_number(struct line *l, const struct mt_log_field *f)
{
	char text[32];

	if (f->thousandths == 0) {
		(void)snprintf(text, sizeof(text), "%" PRId64, f->number); /* always fits */
	} else {
		const uint64_t size = f->number < 0 ? 0 - (uint64_t)f->number : (uint64_t)f->number;

		(void)snprintf(text, sizeof(text), "%s%" PRIu64 ".%03u", f->number < 0 ? "-" : "",
			size / 1000, (unsigned)(size % 1000)); /* always fits */
	}
	put_text(l, text);
}

static void put_field(struct line *l, bool json, const struct mt_log_field *f)
{
	put_text(l, json ? ",\"" : " ");
	put_text(l, f->key);
	put_text(l, json ? "\":" : "=");
	if (f->text == NULL) {
		put_number(l, f);
	} else if (!json && is_plain(f->text)) {
		put_text(l, f->text);
	} else {
		put(l, "\"", 1);
		put_escaped(l, f->text);
		put(l, "\"", 1);
	}
}

size_t mt_log_line_format(char *buf, size_t cap, bool json, int64_t unix_ms,
	enum mt_log_level level, const char *event, const struct mt_log_field *fields, size_t count)
{
	static const char cut_json[] = ",\"truncated\":true}\n";
	static const char cut_plain[] = " truncated\n";
	struct line l = {.buf = buf, .cap = cap - sizeof(cut_json)};
	time_t seconds = (time_t)(unix_ms / 1000);
	struct tm tm;
	char stamp[48];
	const char *tail;

	(void)gmtime_r(&seconds, &tm); /* fails only for years beyond int */
	(void)snprintf(stamp, sizeof(stamp), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
		tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		(int)(unix_ms % 1000));
	put_text(&l, json ? "{\"time\":\"" : "");
	put_text(&l, stamp);
	put_text(&l, json ? "\",\"level\":\"" : " ");
	put_text(&l, level_names[level]);
	put_text(&l, json ? "\",\"event\":\"" : " ");
	put_text(&l, event);
	put_text(&l, json ? "\"" : "");
	for (size_t i = 0; i < count; i++) {
		size_t before = l.len;

		put_field(&l, json, &fields[i]);
		if (l.cut) {
			l.len = before; /* half a value would not be JSON */
			break;
		}
	}
	tail = l.cut ? (json ? cut_json : cut_plain) : (json ? "}\n" : "\n");
	memcpy(buf + l.len, tail, strlen(tail) + 1);
	return l.len + strlen(tail);
}
