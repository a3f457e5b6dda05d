/* links: daemon/metrics.c web/metrics.c */
#include "daemon/metrics.h"
#include "web/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_table_has_the_fixed_names(void **state)
{
	static const char *const fixed[] = {"mytunnel_connections_total",
		"mytunnel_connections_active", "mytunnel_connections_failed",
		"mytunnel_bytes_received", "mytunnel_bytes_sent", "mytunnel_packets_received",
		"mytunnel_packets_sent", "mytunnel_streams_opened", "mytunnel_streams_closed",
		"mytunnel_datagrams_received", "mytunnel_datagrams_sent", "mytunnel_errors_total",
		"mytunnel_timeouts_total"};
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);

	(void)state;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		size_t found = count;
		size_t len = strlen(fixed[i]);

		for (size_t j = 0; j < count; j++) {
			found = strcmp(table[j].name, fixed[i]) == 0 ? j : found;
		}
		assert_true(found < count);
		if (strcmp(fixed[i] + len - 6, "_total") == 0) {
			assert_int_equal(table[found].type, MT_WEB_COUNTER);
		} else if (strcmp(fixed[i] + len - 7, "_active") != 0) {
			assert_int_equal(table[found].type, MT_WEB_UNTYPED);
		}
	}
}

static void test_table_names_are_unique(void **state)
{
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);

	(void)state;
	assert_true(count + 8 <= MT_WEB_METRICS_MAX);
	for (size_t i = 0; i < count; i++) {
		for (size_t j = i + 1; j < count; j++) {
			assert_string_not_equal(table[i].name, table[j].name);
			assert_string_not_equal(table[i].key, table[j].key);
		}
		/* Prometheus: what counts ends in _total, what does not count does not. */
		if (table[i].type == MT_WEB_COUNTER) {
			assert_string_equal(table[i].name + strlen(table[i].name) - 6, "_total");
		}
	}
}

/* Every counter is shown: the table has a row for each word of the structure. */
static void test_table_is_complete(void **state)
{
	struct mt_worker_counters c;
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);

	(void)state;
	for (size_t at = 0; at < offsetof(struct mt_worker_counters, errors);
		at += sizeof(mt_counter)) {
		size_t shown = 0;

		if (at >= sizeof(struct mt_quic_counters) &&
			at < offsetof(struct mt_worker_counters, bytes_received)) {
			continue; /* padding */
		}
		memset(&c, 0, sizeof(c));
		mt_count((mt_counter *)(void *)((char *)&c + at), 3);
		for (size_t i = 0; i < count; i++) {
			shown += mt_metric_value(&table[i], &c) == 3;
		}
		assert_true(shown > 0);
	}
}

static void test_sum_over_workers(void **state)
{
	static struct mt_worker_counters c[3];

	(void)state;
	mt_count(&c[0].bytes_sent, 5);
	mt_count(&c[1].bytes_sent, 6);
	mt_count(&c[2].bytes_sent, 100);
	mt_count(&c[0].errors, 1);
	mt_count(&c[1].quic.protocol_errors, 2);
	assert_int_equal(mt_metric_sum_of("bytes_sent", c, 2), 11);
	assert_int_equal(mt_metric_sum_of("errors_total", c, 2), 3);
	assert_int_equal(mt_metric_sum_of("no_such", c, 2), 0);
}

static void test_format(void **state)
{
	const struct mt_web_metric rows[] = {
		{"a_total", "First\nline \\.", MT_WEB_COUNTER, NULL, 12},
		{"b", "B.", MT_WEB_GAUGE, "x=\"1\"", 0.5},
		{"b", "B.", MT_WEB_GAUGE, "x=\"2\"", 9007199254740992.0},
		{"c", "C.", MT_WEB_UNTYPED, NULL, -1},
	};
	size_t len = 0;
	char *text = mt_web_metrics_format(rows, 4, &len);

	(void)state;
	assert_non_null(text);
	assert_int_equal(len, strlen(text));
	assert_string_equal(text,
		"# HELP a_total First\\nline \\\\.\n# TYPE a_total counter\na_total 12\n"
		"# HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 0.5\nb{x=\"2\"} 9007199254740992\n"
		"# HELP c C.\n# TYPE c untyped\nc -1\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_has_the_fixed_names),
		cmocka_unit_test(test_table_names_are_unique),
		cmocka_unit_test(test_table_is_complete),
		cmocka_unit_test(test_sum_over_workers),
		cmocka_unit_test(test_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
