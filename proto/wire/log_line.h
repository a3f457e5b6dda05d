/* One line of a log, as JSON or for people: the same form for the daemon's log and the client's.
 * Pure; who writes it, where and how often is the programs' business.
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

#define MT_LOG_LEVELS   4
#define MT_LOG_LINE_MAX 4096 /* bytes of a line; longer values are cut and marked */

struct mt_log_field {
	const char *key;
	const char *text; /* NULL: `number` */
	int64_t number;
	unsigned thousandths; /* 1: `number` is written with three decimals */
};

#define MT_LOG_TEXT(key, value)   ((struct mt_log_field){(key), (value), 0, 0})
#define MT_LOG_NUMBER(key, value) ((struct mt_log_field){(key), NULL, (int64_t)(value), 0})
/* Nanoseconds, written as milliseconds with three decimals. */
#define MT_LOG_MS(key, ns) ((struct mt_log_field){(key), NULL, (int64_t)((ns) / 1000), 1})

/* "error", "warn", "info", "debug". */
const char *mt_log_level_text(enum mt_log_level level);
/* Formats one line with its newline, NUL-terminated; returns its length. `cap` is at least 256.
 * Texts may hold anything: control characters, such as change a terminal, and what is not UTF-8 are
 * escaped.
 */
size_t mt_log_line_format(char *buf, size_t cap, bool json, int64_t unix_ms,
	enum mt_log_level level, const char *event, const struct mt_log_field *fields,
	size_t count);
