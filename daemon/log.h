/* The daemon's log: one line per event on standard error, as JSON or for people. Any thread may
 * write; a line is one write(2), and is dropped rather than waited for when standard error takes no
 * more. Each event name has a budget per second. Secrets never belong into a field.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mt_log_level {
	MT_LOG_ERROR,
	MT_LOG_WARN,
	MT_LOG_INFO,
	MT_LOG_DEBUG,
};

#define MT_LOG_LINE_MAX   4096 /* bytes of a line; longer values are cut and marked */
#define MT_LOG_PER_SECOND 50   /* lines of one event name; the rest is counted */

struct mt_log_field {
	const char *key;
	const char *text; /* NULL: `number` */
	int64_t number;
};

#define MT_LOG_TEXT(key, value)   ((struct mt_log_field){(key), (value), 0})
#define MT_LOG_NUMBER(key, value) ((struct mt_log_field){(key), NULL, (int64_t)(value)})

/* mt_log(MT_LOG_INFO, "client_added", MT_LOG_TEXT("name", name), MT_LOG_NUMBER("id", id)); */
#define mt_log(level, event, ...)                                                                  \
	mt_log_write((level), (event), (const struct mt_log_field[]){__VA_ARGS__},                 \
		sizeof((const struct mt_log_field[]){__VA_ARGS__}) / sizeof(struct mt_log_field))

/* `event` is a string literal. errno is preserved. */
void mt_log_write(enum mt_log_level level, const char *event, const struct mt_log_field *fields,
	size_t count);
/* A line that is a record by itself, such as one of the access log: whatever the level in force,
 * without a budget. */
void mt_log_record(const char *event, const struct mt_log_field *fields, size_t count);
/* Whether a line of this level would be written. */
bool mt_log_enabled(enum mt_log_level level);
/* Takes effect at once for all threads; texts as in logging.level and logging.format. */
void mt_log_configure(const char *level, const char *format);
/* Formats one line with its newline, NUL-terminated; returns its length. Pure: for mt_log_write and
 * tests. */
size_t mt_log_format(char *buf, size_t cap, bool json, int64_t unix_ms, enum mt_log_level level,
	const char *event, const struct mt_log_field *fields, size_t count);
/* Lines that were not written, for want of budget or of a reader. */
uint64_t mt_log_dropped(void);
