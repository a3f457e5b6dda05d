/* The text form of Prometheus (version 0.0.4). Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MT_WEB_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum mt_web_metric_type {
	MT_WEB_UNTYPED,
	MT_WEB_COUNTER,
	MT_WEB_GAUGE,
	MT_WEB_HISTOGRAM,
};

struct mt_web_label {
	const char *name;
	const char *value; /* any text: it is escaped, and what is no UTF-8 becomes '?' */
};

/* A text being written; failures (of memory alone) are told at the end. */
struct mt_exposition;
struct mt_exposition *mt_exposition_new(void); /* NULL without memory */
/* A string for free() with its length, NULL without memory; ends the writing in either case. */
char *mt_exposition_finish(struct mt_exposition *e, size_t *len);

/* Begins a family: HELP and TYPE. Its values follow before the next one begins. */
void mt_exposition_family(
	struct mt_exposition *e, const char *name, enum mt_web_metric_type type, const char *help);
/* One value of the family; `count` labels. */
void mt_exposition_value(
	struct mt_exposition *e, const struct mt_web_label *labels, size_t count, double value);
void mt_exposition_count(
	struct mt_exposition *e, const struct mt_web_label *labels, size_t count, uint64_t value);
/* A histogram without labels: `counts` has `bounds` + 1 entries, which are not cumulative. Bounds
 * in microseconds are shown in seconds. */
void mt_exposition_histogram(struct mt_exposition *e, const uint64_t *bounds_us, size_t bounds,
	const uint64_t *counts, uint64_t sum_us);
