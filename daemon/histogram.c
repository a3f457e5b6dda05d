#include "daemon/histogram.h"

const struct mt_histogram_bounds mt_histogram_times = {
	.count = 16,
	.us = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
		1000000, 2500000, 5000000, 10000000},
};

void mt_histogram_observe(
	struct mt_histogram *h, const struct mt_histogram_bounds *bounds, uint64_t ns)
{
	uint64_t us = ns / 1000;
	size_t i = 0;

	while (i < bounds->count && us > bounds->us[i]) {
		i++;
	}
	mt_count(&h->counts[i], 1);
	mt_count(&h->sum_us, us);
}

void mt_histogram_add(struct mt_histogram_sum *sum, const struct mt_histogram *h)
{
	for (size_t i = 0; i <= MT_HISTOGRAM_BOUNDS_MAX; i++) {
		uint64_t n = mt_counter_get(&h->counts[i]);

		sum->counts[i] += n;
		sum->count += n;
	}
	sum->sum_us += mt_counter_get(&h->sum_us);
}

struct mt_histogram_sum mt_histogram_since(
	const struct mt_histogram_sum *now, const struct mt_histogram_sum *before)
{
	struct mt_histogram_sum d = {
		.count = now->count - before->count, .sum_us = now->sum_us - before->sum_us};

	for (size_t i = 0; i <= MT_HISTOGRAM_BOUNDS_MAX; i++) {
		d.counts[i] = now->counts[i] - before->counts[i];
	}
	return d;
}

double mt_histogram_mean_ms(const struct mt_histogram_sum *sum)
{
	return sum->count > 0 ? (double)sum->sum_us / 1000.0 / (double)sum->count : -1;
}

double mt_histogram_quantile_ms(
	const struct mt_histogram_sum *sum, const struct mt_histogram_bounds *bounds, double q)
{
	double wanted = q * (double)sum->count;
	double below = 0;

	if (sum->count == 0) {
		return -1;
	}
	for (size_t i = 0; i < bounds->count; i++) {
		double n = (double)sum->counts[i];
		double low = i > 0 ? (double)bounds->us[i - 1] : 0;

		if (n > 0 && below + n >= wanted) {
			double part = (wanted - below) / n;

			return (low + ((double)bounds->us[i] - low) * part) / 1000.0;
		}
		below += n;
	}
	return (double)bounds->us[bounds->count - 1] / 1000.0;
}
