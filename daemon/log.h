/* The daemon's log: one line per event on standard error, as JSON or for people. Any thread may
 * write, and none waits: lines go through a bounded queue to a thread of the log's own, which alone
 * feels a reader that is slow. A line that finds the queue full is dropped and counted. Each kind
 * of line has a budget per second. Secrets never belong into a field.
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/log_line.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_LOG_PER_SECOND         50   /* lines of one kind; of the rest, how many */
#define MT_LOG_RECORDS_PER_SECOND 5000 /* the same for records */
#define MT_LOG_QUEUE_BYTES        (1024 * 1024)

/* mt_log(MT_LOG_INFO, "client_added", MT_LOG_TEXT("name", name), MT_LOG_NUMBER("id", id)); */
#define mt_log(level, event, ...)                                                                  \
	mt_log_write((level), (event), (const struct mt_log_field[]){__VA_ARGS__},                 \
		sizeof((const struct mt_log_field[]){__VA_ARGS__}) / sizeof(struct mt_log_field))

/* Starts the thread; before that, and without it, lines are written at once where standard error
 * takes them. Under systemd (JOURNAL_STREAM) each line gets its priority from now on.
 */
int mt_log_start(void) MT_MUST_CHECK;
/* Writes what waits, for a second at most, and ends the thread. */
void mt_log_stop(void);
/* `event` is a string literal. errno is preserved. */
void mt_log_write(enum mt_log_level level, const char *event, const struct mt_log_field *fields,
	size_t count);
/* A line that is a record by itself, such as one of the access log: whatever the level in force. */
void mt_log_record(const char *event, const struct mt_log_field *fields, size_t count);
/* Whether a line of this level would be written. */
bool mt_log_enabled(enum mt_log_level level);
/* Takes effect at once for all threads; texts as in logging.level and logging.format. */
void mt_log_configure(const char *level, const char *format);
/* Lines that were not written, for want of budget or of a reader. */
uint64_t mt_log_dropped(void);
