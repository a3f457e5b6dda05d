/* links: daemon/history.c daemon/histogram.c daemon/metrics.c web/metrics.c */
#include "daemon/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double real(const json_t *o, const char *key)
{
	assert_true(json_is_number(json_object_get(o, key)));
	return json_number_value(json_object_get(o, key));
}

static void test_observe_finds_the_bucket(void **state)
{
	struct mt_histogram h = {0};
	struct mt_histogram_sum sum = {0};
	uint64_t last = mt_histogram_times.us[mt_histogram_times.count - 1];

	(void)state;
	mt_histogram_observe(&h, &mt_histogram_times, 0);
	mt_histogram_observe(&h, &mt_histogram_times, 100000); /* on the first bound */
	mt_histogram_observe(&h, &mt_histogram_times, 101000); /* right beyond */
	mt_histogram_observe(&h, &mt_histogram_times, last * 1000);
	mt_histogram_observe(&h, &mt_histogram_times, UINT64_MAX); /* beyond all */
	mt_histogram_add(&sum, &h);
	assert_int_equal(sum.counts[0], 2);
	assert_int_equal(sum.counts[1], 1);
	assert_int_equal(sum.counts[mt_histogram_times.count - 1], 1);
	assert_int_equal(sum.counts[mt_histogram_times.count], 1);
	assert_int_equal(sum.count, 5);
}

static void test_add_sums_several(void **state)
{
	struct mt_histogram h[2] = {0};
	struct mt_histogram_sum sum = {0};
	struct mt_histogram_sum before;
	struct mt_histogram_sum since;

	(void)state;
	mt_histogram_observe(&h[0], &mt_histogram_times, 2000000);
	mt_histogram_add(&sum, &h[0]);
	mt_histogram_add(&sum, &h[1]);
	before = sum;
	mt_histogram_observe(&h[1], &mt_histogram_times, 4000000);
	sum = (struct mt_histogram_sum){0};
	mt_histogram_add(&sum, &h[0]);
	mt_histogram_add(&sum, &h[1]);
	since = mt_histogram_since(&sum, &before);
	assert_int_equal(since.count, 1);
	assert_int_equal(since.sum_us, 4000);
	assert_float_equal(mt_histogram_mean_ms(&sum), 3.0, 1e-9);
	assert_float_equal(mt_histogram_mean_ms(&since), 4.0, 1e-9);
}

static void test_quantile_lies_between_bounds(void **state)
{
	struct mt_histogram h = {0};
	struct mt_histogram_sum sum = {0};

	(void)state;
	assert_true(mt_histogram_quantile_ms(&sum, &mt_histogram_times, 0.95) < 0);
	assert_true(mt_histogram_mean_ms(&sum) < 0);
	for (int i = 0; i < 100; i++) {
		mt_histogram_observe(&h, &mt_histogram_times, i < 90 ? 20000000 : 200000000);
	}
	mt_histogram_add(&sum, &h);
	/* 90 in (10, 25] ms, 10 in (100, 250] ms. */
	assert_float_equal(mt_histogram_quantile_ms(&sum, &mt_histogram_times, 0.45), 17.5, 1e-6);
	assert_float_equal(mt_histogram_quantile_ms(&sum, &mt_histogram_times, 0.95), 175, 1e-6);
	assert_float_equal(mt_histogram_quantile_ms(&sum, &mt_histogram_times, 1), 250, 1e-6);
}

static void test_feed_makes_rates(void **state)
{
	struct mt_history *h = mt_history_new();
	struct mt_sums sums = {.at_ns = 1000000000, .at_ms = 5000, .workers = 2};
	json_t *now;

	(void)state;
	assert_non_null(h);
	mt_history_feed(h, &sums);
	now = mt_history_now_json(h);
	assert_true(json_is_null(now)); /* one moment makes no rate */
	json_decref(now);
	sums.at_ns += 2000000000;
	sums.at_ms += 2000;
	sums.bytes_received = 3000;
	sums.packets_sent = 10;
	sums.packets_lost = 1;
	sums.connections = 7;
	sums.worker_busy_ns[1] = 1000000000;
	sums.worker_connections[1] = 7;
	sums.connect_failures[MT_CONNECT_DNS] = 4;
	mt_history_feed(h, &sums);
	now = mt_history_now_json(h);
	assert_int_equal(json_integer_value(json_object_get(now, "time_ms")), 7000);
	assert_float_equal(real(now, "received_bytes_per_second"), 1500, 1e-9);
	assert_float_equal(real(now, "loss"), 0.1, 1e-9);
	assert_int_equal(json_integer_value(json_object_get(now, "connections")), 7);
	assert_true(json_is_null(json_object_get(now, "rtt_ms")));
	assert_float_equal(
		real(json_object_get(now, "connect_failures_per_second"), "dns"), 2, 1e-9);
	assert_int_equal(json_array_size(json_object_get(now, "worker_busy")), 2);
	assert_float_equal(
		json_number_value(json_array_get(json_object_get(now, "worker_busy"), 1)), 0.5,
		1e-9);
	json_decref(now);
	mt_history_free(h);
}

static void test_history_is_bounded(void **state)
{
	struct mt_history *h = mt_history_new();
	struct mt_sums sums = {.at_ns = 1, .workers = 1};
	json_t *all;
	json_t *sent;
	const char *key;
	json_t *column;
	json_int_t last;

	(void)state;
	assert_non_null(h);
	/* Ticks that come late do not shift the steps for good. */
	for (int i = 0; i < 2 * MT_HISTORY_STEPS * MT_HISTORY_STEP_S; i++) {
		mt_history_feed(h, &sums);
		sums.at_ns += 1001000000;
		sums.at_ms += 1001;
		sums.bytes_sent += 1001;
	}
	all = mt_history_json(h);
	assert_int_equal(json_integer_value(json_object_get(all, "step_seconds")), 10);
	sent = json_object_get(all, "sent_bytes_per_second");
	assert_int_equal(json_array_size(sent), MT_HISTORY_STEPS);
	assert_float_equal(json_number_value(json_array_get(sent, 0)), 1000, 1e-3);
	json_object_foreach(all, key, column)
	{
		if (json_is_array(column) && strncmp(key, "worker_", 7) != 0) {
			assert_int_equal(json_array_size(column), MT_HISTORY_STEPS);
		}
	}
	column = json_object_get(all, "time");
	last = 0;
	for (size_t i = 0; i < json_array_size(column); i++) {
		json_int_t at = json_integer_value(json_array_get(column, i));

		assert_true(at > last);
		last = at;
	}
	json_decref(all);
	mt_history_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_observe_finds_the_bucket),
		cmocka_unit_test(test_add_sums_several),
		cmocka_unit_test(test_quantile_lies_between_bounds),
		cmocka_unit_test(test_feed_makes_rates),
		cmocka_unit_test(test_history_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
