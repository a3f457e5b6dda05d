/* Tables for people: columns as wide as their contents, headings underlined by colour alone. Also
 * the forms of numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MT_TABLE_COLUMNS_MAX 12

struct mt_table;

/* `headings` borrowed, `columns` of them; NULL without memory. */
struct mt_table *mt_table_new(const char *const *headings, size_t columns);
void mt_table_free(struct mt_table *t); /* NULL is allowed */
/* Adds the next cell of the current row (copied; control characters become '?'). Failures show when
 * it is printed. */
void mt_table_add(struct mt_table *t, const char *text);
void mt_table_addf(struct mt_table *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* 0 or -ENOMEM, when a cell could not be added. */
int mt_table_print(const struct mt_table *t, FILE *out, bool color);

#define MT_NUMBER_TEXT_MAX 32
/* "1.5 MB": powers of 1000. Returns `buf` (MT_NUMBER_TEXT_MAX). */
const char *mt_format_bytes(char *buf, uint64_t bytes);
/* "2d 3h", "4m 5s". */
const char *mt_format_duration(char *buf, int64_t seconds);
/* "2026-01-02 03:04:05", local time. */
const char *mt_format_time(char *buf, int64_t unix_seconds);
