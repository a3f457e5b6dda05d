/* links: web/listing.c proto/wire/err.c */
#include "web/listing.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS 5

static struct mt_web_connection rows[ROWS];

static void make_rows(void)
{
	static const char *const clients[] = {"a", "b", "a", "", "c\"\\"};

	for (size_t i = 0; i < ROWS; i++) {
		rows[i] = (struct mt_web_connection){.transport = i == 4 ? "tls" : "quic",
			.congestion_control = "cubic",
			.worker = (unsigned)i % 2,
			.connected_at = 100 + (int64_t)i,
			.rtt_ms = 1.5 * (double)i,
			.bytes_sent = (i * 7) % 5};
		(void)snprintf(rows[i].id, sizeof(rows[i].id), "%zu-%zu", i % 2, i);
		(void)snprintf(rows[i].client, sizeof(rows[i].client), "%s", clients[i]);
		(void)snprintf(rows[i].peer, sizeof(rows[i].peer), "192.0.2.%zu:5", i);
	}
}

/* The ids that a query answers, in their order, with a comma behind each. */
static void check(const char *const *parameters, const char *ids, json_int_t matched)
{
	struct mt_listing_query q;
	const char *why = NULL;
	char got[256] = "";
	char *text;
	json_t *answer;
	json_t *row;
	size_t i;

	mt_listing_begin(&q, MT_WEB_CONNECTIONS);
	for (; *parameters != NULL; parameters += 2) {
		assert_int_equal(mt_listing_take(&q, parameters[0], parameters[1], &why), 0);
	}
	text = mt_listing_format(&q, rows, ROWS);
	assert_non_null(text);
	answer = json_loads(text, 0, NULL);
	assert_non_null(answer);
	json_array_foreach(json_object_get(answer, "connections"), i, row)
	{
		size_t len = strlen(got);

		(void)snprintf(got + len, sizeof(got) - len, "%s,",
			json_string_value(json_object_get(row, "id")));
	}
	assert_string_equal(got, ids);
	assert_int_equal(json_integer_value(json_object_get(answer, "matched")), matched);
	assert_int_equal(json_integer_value(json_object_get(answer, "total")), ROWS);
	json_decref(answer);
	free(text);
}

static void test_format_filters_and_sorts(void **state)
{
	(void)state;
	make_rows();
	check((const char *const[]){NULL}, "0-0,0-2,0-4,1-1,1-3,", 5);
	check((const char *const[]){"client", "a", NULL}, "0-0,0-2,", 2);
	check((const char *const[]){"client", "c\"\\", "transport", "tls", NULL}, "0-4,", 1);
	check((const char *const[]){"worker", "1", NULL}, "1-1,1-3,", 2);
	check((const char *const[]){"peer", "192.0.2.3", NULL}, "1-3,", 1);
	check((const char *const[]){"sort", "rtt_ms", NULL}, "0-4,1-3,0-2,1-1,0-0,", 5);
	check((const char *const[]){"sort", "bytes_sent", "limit", "2", NULL}, "0-2,0-4,", 5);
	check((const char *const[]){"offset", "3", NULL}, "1-1,1-3,", 5);
	check((const char *const[]){"offset", "999999999", NULL}, "", 5);
	check((const char *const[]){"offset", "1", "limit", "1", "sort", "peer", NULL}, "1-1,", 5);
}

static void test_take_refuses(void **state)
{
	static const char *const bad[][2] = {{"limit", "0"}, {"limit", "1001"}, {"limit", "-1"},
		{"limit", "1x"}, {"limit", NULL}, {"limit", ""}, {"offset", "9999999999"},
		{"sort", "rtt"}, {"transport", "tcp"}, {"transport", "quic|tls"}, {"worker", "x"},
		{"state", "active"}, {"nothing", "1"}};
	struct mt_listing_query q;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = NULL;

		mt_listing_begin(&q, MT_WEB_CONNECTIONS);
		assert_int_not_equal(mt_listing_take(&q, bad[i][0], bad[i][1], &why), 0);
		assert_non_null(why);
	}
}

static void test_clients_have_null_for_nothing(void **state)
{
	const struct mt_web_client clients[] = {
		{.name = "a", .state = "over quota", .quota_bytes = 5, .last_address = "x"},
		{.name = "b", .state = "active"},
	};
	struct mt_listing_query q;
	const char *why = NULL;
	char *text;
	json_t *answer;
	json_t *row;

	(void)state;
	mt_listing_begin(&q, MT_WEB_CLIENTS);
	text = mt_listing_format(&q, clients, 2);
	answer = json_loads(text, 0, NULL);
	row = json_array_get(json_object_get(answer, "clients"), 1);
	assert_true(json_is_null(json_object_get(row, "last_address")));
	assert_true(json_is_null(json_object_get(row, "quota_bytes")));
	assert_true(json_is_integer(json_object_get(row, "quota_used")));
	json_decref(answer);
	free(text);
	assert_int_equal(mt_listing_take(&q, "state", "over quota", &why), 0);
	text = mt_listing_format(&q, clients, 2);
	assert_non_null(strstr(text, "\"matched\":1"));
	free(text);
	text = mt_listing_format(&q, NULL, 0);
	assert_non_null(strstr(text, "\"total\":0"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_filters_and_sorts),
		cmocka_unit_test(test_take_refuses),
		cmocka_unit_test(test_clients_have_null_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
