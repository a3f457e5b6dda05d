/* links: daemon/metrics.c daemon/histogram.c web/metrics.c */
#include "daemon/metrics.h"
#include "web/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void test_table_rows_are_unique(void **state)
{
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		for (size_t j = i + 1; j < count; j++) {
			bool same = strcmp(table[i].name, table[j].name) == 0;

			assert_string_not_equal(table[i].key, table[j].key);
			assert_false(same && same_text(table[i].value, table[j].value));
			if (same) { /* a family: one after the other, told apart by the same label
				     */
				assert_string_equal(table[j - 1].name, table[i].name);
				assert_string_equal(table[i].label, table[j].label);
				assert_string_equal(table[i].help, table[j].help);
				assert_int_equal(table[i].type, table[j].type);
			}
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

static void test_exposition(void **state)
{
	const struct mt_web_label one = {"x", "1"};
	const struct mt_web_label two[] = {
		{"x", "a\"b\\c\nd"}, {"y", "gr\xc3\xbc\xc3\x9f \xff\xc3"}};
	const uint64_t bounds[] = {500, 1000000};
	const uint64_t counts[] = {2, 0, 1};
	struct mt_exposition *e = mt_exposition_new();
	size_t len = 0;
	char *text;

	(void)state;
	assert_non_null(e);
	mt_exposition_family(e, "a_total", MT_WEB_COUNTER, "First\nline \\.");
	mt_exposition_count(e, NULL, 0, UINT64_MAX);
	mt_exposition_family(e, "b", MT_WEB_GAUGE, "B.");
	mt_exposition_value(e, &one, 1, 0.5);
	mt_exposition_value(e, two, 2, 9007199254740992.0);
	mt_exposition_family(e, "c", MT_WEB_UNTYPED, "C.");
	mt_exposition_value(e, NULL, 0, -1);
	mt_exposition_family(e, "d_seconds", MT_WEB_HISTOGRAM, "D.");
	mt_exposition_histogram(e, bounds, 2, counts, 2500000);
	text = mt_exposition_finish(e, &len);
	assert_non_null(text);
	assert_int_equal(len, strlen(text));
	assert_string_equal(text,
		"# HELP a_total First\\nline \\\\.\n# TYPE a_total counter\n"
		"a_total 18446744073709551615\n"
		"# HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 0.5\n"
		"b{x=\"a\\\"b\\\\c\\nd\",y=\"gr\xc3\xbc\xc3\x9f ??\"} 9007199254740992\n"
		"# HELP c C.\n# TYPE c untyped\nc -1\n"
		"# HELP d_seconds D.\n# TYPE d_seconds histogram\n"
		"d_seconds_bucket{le=\"0.0005\"} 2\nd_seconds_bucket{le=\"1\"} 2\n"
		"d_seconds_bucket{le=\"+Inf\"} 3\nd_seconds_sum 2.5\nd_seconds_count 3\n");
	free(text);
}

#define PAGE_MAX (1u << 18)

static char *read_page(void)
{
	FILE *file = fopen("web/mytunnel-http.7", "r");
	char *page = calloc(1, PAGE_MAX);

	assert_non_null(file);
	assert_non_null(page);
	assert_in_range(fread(page, 1, PAGE_MAX - 1, file), 1, PAGE_MAX - 2);
	(void)fclose(file); /* only read */
	return page;
}

/* Whoever adds a metric documents it: the page names each with its type and its labels. */
static void test_table_is_documented(void **state)
{
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);
	char *page = read_page();

	(void)state;
	for (size_t i = 0; i < count; i++) {
		char name[128];
		char key[128];
		char value[128];
		const char *at;
		const char *next;

		(void)snprintf(name, sizeof(name), "\\fB%s\\fR ", table[i].name);
		(void)snprintf(key, sizeof(key), ", totals.\\fB%s\\fR", table[i].key);
		at = strstr(page, name);
		if (at == NULL) {
			fail_msg("web/mytunnel-http.7 does not know %s", table[i].name);
			continue; /* never: it has jumped away */
		}
		next = strstr(at + 1, "\\fBmytunnel_");
		if (table[i].label != NULL) {
			(void)snprintf(value, sizeof(value), "%s=\\fB%s\\fR", table[i].label,
				table[i].value);
			at = strstr(at, value);
		}
		at = at != NULL ? strstr(at, key) : NULL;
		if (at == NULL || (next != NULL && at > next)) {
			fail_msg("web/mytunnel-http.7 lacks %s of %s", table[i].key, table[i].name);
		}
	}
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_has_the_fixed_names),
		cmocka_unit_test(test_table_rows_are_unique),
		cmocka_unit_test(test_table_is_complete),
		cmocka_unit_test(test_sum_over_workers),
		cmocka_unit_test(test_exposition),
		cmocka_unit_test(test_table_is_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
