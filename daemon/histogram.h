/* A histogram with one writer: the thread that owns it observes, any thread may read. An
 * observation costs a search among at most MT_HISTOGRAM_BOUNDS_MAX bounds and two additions, and
 * takes no lock.
 */
#pragma once

#include "proto/quic/counters.h"

#include <stddef.h>
#include <stdint.h>

#define MT_HISTOGRAM_BOUNDS_MAX 16

struct mt_histogram {
	mt_counter counts[MT_HISTOGRAM_BOUNDS_MAX + 1]; /* not cumulative; the last: beyond all */
	mt_counter sum_us;
};

/* Upper bounds in microseconds, ascending. */
struct mt_histogram_bounds {
	size_t count;
	uint64_t us[MT_HISTOGRAM_BOUNDS_MAX];
};

/* From 0.1 ms to 10 s, for whatever waits for a network. */
extern const struct mt_histogram_bounds mt_histogram_times;

/* What a reader sees of one or several. */
struct mt_histogram_sum {
	uint64_t counts[MT_HISTOGRAM_BOUNDS_MAX + 1];
	uint64_t count; /* of all observations */
	uint64_t sum_us;
};

/* Owner: a duration in nanoseconds. */
void mt_histogram_observe(
	struct mt_histogram *h, const struct mt_histogram_bounds *bounds, uint64_t ns);
/* Any thread: adds what `h` holds to `sum`. */
void mt_histogram_add(struct mt_histogram_sum *sum, const struct mt_histogram *h);
/* `now` less `before`, an earlier sum of the same. */
struct mt_histogram_sum mt_histogram_since(
	const struct mt_histogram_sum *now, const struct mt_histogram_sum *before);
/* In milliseconds; negative without observations. */
double mt_histogram_mean_ms(const struct mt_histogram_sum *sum);
/* The value below which the share `q` (0 to 1) lies, as if observations were spread evenly between
 * two bounds; what is beyond the last bound counts as that bound.
 */
double mt_histogram_quantile_ms(
	const struct mt_histogram_sum *sum, const struct mt_histogram_bounds *bounds, double q);
