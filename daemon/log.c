#include "daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 64

/* The one piece of process-wide state of the daemon besides libuv's: every thread logs to the same
 * standard error. */
static _Atomic int current_level = MT_LOG_INFO;
static _Atomic bool current_json = true;
static _Atomic uint64_t dropped;
/* Second (high 32 bits) and lines in it (low 32 bits), by hash of the event's name. */
static _Atomic uint64_t budget[BUCKETS];
static _Atomic uint32_t suppressed[BUCKETS];

static const char *const level_names[] = {"error", "warn", "info", "debug"};

struct line {
	char *buf;
	size_t len;
	size_t cap; /* leaves room for what must come at the end */
	bool cut;
};

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

/* Quotes what could break the line or its JSON. Bytes above 0x7f pass when they are UTF-8 in shape,
 * which is checked by sequence length alone; stray ones become '?'.
 */
static void put_escaped(struct line *l, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p != '\0' && !l->cut) {
		size_t n = 1;

		if (*p == '"' || *p == '\\') {
			put(l, "\\", 1);
			put(l, (const char *)p, 1);
		} else if (*p < 0x20 || *p == 0x7f) {
			char esc[8];

			(void)snprintf(esc, sizeof(esc), "\\u%04x", *p); /* always fits */
			put_text(l, esc);
		} else if (*p < 0x80) {
			put(l, (const char *)p, 1);
		} else {
			n = *p >= 0xf0 && *p < 0xf5   ? 4
			    : *p >= 0xe0 && *p < 0xf0 ? 3
			    : *p >= 0xc2 && *p < 0xe0 ? 2
						      : 0;
			for (size_t i = 1; i < n; i++) {
				if ((p[i] & 0xc0) != 0x80) {
					n = 0;
				}
			}
			if (n == 0) {
				put(l, "?", 1);
				n = 1;
			} else {
				put(l, (const char *)p, n);
			}
		}
		p += n;
	}
}

static bool plain(const char *text)
{
	if (*text == '\0') {
		return false;
	}
	for (; *text != '\0'; text++) {
		if (*text <= ' ' || *text == '"' || *text == '\\' || *text == '=' ||
			*text == 0x7f) {
			return false;
		}
	}
	return true;
}

static void put_field(struct line *l, bool json, const struct mt_log_field *f)
{
	char number[32];

	put_text(l, json ? ",\"" : " ");
	put_text(l, f->key);
	put_text(l, json ? "\":" : "=");
	if (f->text == NULL) {
		(void)snprintf(
			number, sizeof(number), "%lld", (long long)f->number); /* always fits */
		put_text(l, number);
	} else if (!json && plain(f->text)) {
		put_text(l, f->text);
	} else {
		put(l, "\"", 1);
		put_escaped(l, f->text);
		put(l, "\"", 1);
	}
}

size_t mt_log_format(char *buf, size_t cap, bool json, int64_t unix_ms, enum mt_log_level level,
	const char *event, const struct mt_log_field *fields, size_t count)
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

/* Whether this event may write another line in this second; `*missed` is how many could not since
 * the last one. */
static bool take_budget(const char *event, uint32_t now, uint32_t *missed)
{
	uint32_t hash = 2166136261u;
	unsigned slot;
	uint64_t old;
	uint64_t new;

	for (const char *p = event; *p != '\0'; p++) {
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	}
	slot = hash % BUCKETS;
	old = atomic_load_explicit(&budget[slot], memory_order_relaxed);
	do {
		if ((uint32_t)(old >> 32) != now) {
			new = ((uint64_t)now << 32) | 1;
		} else if ((uint32_t)old >= MT_LOG_PER_SECOND) {
			atomic_fetch_add_explicit(&suppressed[slot], 1, memory_order_relaxed);
			return false;
		} else {
			new = old + 1;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&budget[slot], &old, new, memory_order_relaxed, memory_order_relaxed));
	*missed = atomic_exchange_explicit(&suppressed[slot], 0, memory_order_relaxed);
	return true;
}

static void emit(const char *text, size_t len)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

	/* A pipe whose reader hangs must not stop a worker. Writable means room for a page, which a
	 * line never exceeds. */
	if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0 ||
		write(STDERR_FILENO, text, len) < 0) {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
	}
}

void mt_log_write(
	enum mt_log_level level, const char *event, const struct mt_log_field *fields, size_t count)
{
	int saved = errno;
	struct timespec now;
	uint32_t missed = 0;
	char line[MT_LOG_LINE_MAX];
	bool json = atomic_load_explicit(&current_json, memory_order_relaxed);
	int64_t ms;
	size_t len;

	if (!mt_log_enabled(level)) {
		return;
	}
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	if (!take_budget(event, (uint32_t)now.tv_sec, &missed)) {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
		errno = saved;
		return;
	}
	if (missed > 0) {
		len = mt_log_format(line, sizeof(line), json, ms, MT_LOG_WARN, "log_suppressed",
			(const struct mt_log_field[]){
				MT_LOG_TEXT("of", event), MT_LOG_NUMBER("lines", missed)},
			2);
		emit(line, len);
	}
	len = mt_log_format(line, sizeof(line), json, ms, level, event, fields, count);
	emit(line, len);
	errno = saved;
}

void mt_log_record(const char *event, const struct mt_log_field *fields, size_t count)
{
	int saved = errno;
	struct timespec now;
	char line[MT_LOG_LINE_MAX];
	bool json = atomic_load_explicit(&current_json, memory_order_relaxed);

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	emit(line, mt_log_format(line, sizeof(line), json,
			   (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, MT_LOG_INFO, event,
			   fields, count));
	errno = saved;
}

bool mt_log_enabled(enum mt_log_level level)
{
	return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void mt_log_configure(const char *level, const char *format)
{
	for (int i = 0; i < (int)(sizeof(level_names) / sizeof(level_names[0])); i++) {
		if (strcmp(level, level_names[i]) == 0) {
			atomic_store_explicit(&current_level, i, memory_order_relaxed);
		}
	}
	atomic_store_explicit(&current_json, strcmp(format, "json") == 0, memory_order_relaxed);
}

uint64_t mt_log_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}
