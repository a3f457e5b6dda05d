/* links: proto/wire/log_line.c */
#include "proto/wire/log_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define NOW_MS INT64_C(1700000000123)

static void test_format_json(void **state)
{
	const struct mt_log_field fields[] = {
		MT_LOG_TEXT("name", "a\"b\\c\nd\x7f"), MT_LOG_NUMBER("n", -5)};
	char line[MT_LOG_LINE_MAX];
	size_t len = mt_log_line_format(
		line, sizeof(line), true, NOW_MS, MT_LOG_WARN, "thing_done", fields, 2);
	json_t *o = json_loads(line, 0, NULL);

	(void)state;
	assert_non_null(o);
	assert_int_equal(len, strlen(line));
	assert_ptr_equal(strchr(line, '\n'), line + len - 1);
	assert_string_equal(
		json_string_value(json_object_get(o, "time")), "2023-11-14T22:13:20.123Z");
	assert_string_equal(json_string_value(json_object_get(o, "level")), "warn");
	assert_string_equal(json_string_value(json_object_get(o, "event")), "thing_done");
	assert_string_equal(json_string_value(json_object_get(o, "name")), "a\"b\\c\nd\x7f");
	assert_int_equal(json_integer_value(json_object_get(o, "n")), -5);
	json_decref(o);
}

static void test_format_bad_utf8(void **state)
{
	static const char *const bad[] = {
		"\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\x80", "\xc0\xaf"};
	char line[MT_LOG_LINE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct mt_log_field field = MT_LOG_TEXT("x", bad[i]);
		json_t *o;

		(void)mt_log_line_format(
			line, sizeof(line), true, NOW_MS, MT_LOG_INFO, "e", &field, 1);
		o = json_loads(line, 0, NULL);
		assert_non_null(o);
		json_decref(o);
	}
}

static void test_format_long_value(void **state)
{
	char value[3 * MT_LOG_LINE_MAX];
	char line[MT_LOG_LINE_MAX];
	const struct mt_log_field fields[] = {
		MT_LOG_TEXT("a", "kept"), MT_LOG_TEXT("b", value), MT_LOG_TEXT("c", "x")};
	json_t *o;

	(void)state;
	memset(value, '"', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	for (int json = 0; json < 2; json++) {
		size_t len = mt_log_line_format(
			line, sizeof(line), json, NOW_MS, MT_LOG_INFO, "e", fields, 3);

		assert_true(len < sizeof(line));
		assert_int_equal(line[len - 1], '\n');
	}
	o = json_loads(line, 0, NULL);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "a")), "kept");
	assert_true(json_is_true(json_object_get(o, "truncated")));
	json_decref(o);
}

static void test_format_pretty(void **state)
{
	const struct mt_log_field fields[] = {MT_LOG_TEXT("peer", "127.0.0.1:5"),
		MT_LOG_TEXT("why", "two words"), MT_LOG_TEXT("none", ""), MT_LOG_NUMBER("n", 7)};
	char line[MT_LOG_LINE_MAX];

	(void)state;
	(void)mt_log_line_format(
		line, sizeof(line), false, NOW_MS, MT_LOG_INFO, "opened", fields, 4);
	assert_string_equal(line, "2023-11-14T22:13:20.123Z info opened peer=127.0.0.1:5 why=\"two "
				  "words\" none=\"\" n=7\n");
}

/* Everything that could move a cursor, end a line or turn its direction, and what is no UTF-8. */
static void test_format_hostile_text(void **state)
{
	static const struct {
		const char *text;
		const char *shown;
	} cases[] = {
		{"\x1b[31m", "\\u001b[31m"},
		{"a\r\nb", "a\\u000d\\u000ab"},
		{"\xc2\x9b"
		 "31m",
			"\\u009b31m"},
		{"\xe2\x80\xae"
		 "txt",
			"\\u202etxt"},
		{"\xe2\x80\xa8", "\\u2028"},
		{"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},
		{"\xc0\xaf", "\\ufffd\\ufffd"},
		{"\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd"},
		{"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
		{"\xff", "\\ufffd"},
		{"m\xc3\xbcnchen.example \xf0\x9f\x98\x80",
			"m\xc3\xbcnchen.example \xf0\x9f\x98\x80"},
	};
	char line[MT_LOG_LINE_MAX];
	char expected[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct mt_log_field field = MT_LOG_TEXT("x", cases[i].text);

		(void)snprintf(expected, sizeof(expected), ",\"x\":\"%s\"}\n", cases[i].shown);
		(void)mt_log_line_format(
			line, sizeof(line), true, NOW_MS, MT_LOG_INFO, "e", &field, 1);
		assert_non_null(strstr(line, expected));
		json_decref(json_loads(line, 0, NULL));
		(void)snprintf(expected, sizeof(expected), " x=\"%s\"\n", cases[i].shown);
		(void)mt_log_line_format(
			line, sizeof(line), false, NOW_MS, MT_LOG_INFO, "e", &field, 1);
		assert_non_null(strstr(line, expected));
	}
}

static void test_format_milliseconds(void **state)
{
	const struct mt_log_field fields[] = {MT_LOG_MS("a_ms", 1234567), MT_LOG_MS("b_ms", 999),
		MT_LOG_MS("c_ms", UINT64_C(10000000000)), {"d_ms", NULL, -1500, 1}};
	char line[MT_LOG_LINE_MAX];

	(void)state;
	(void)mt_log_line_format(line, sizeof(line), true, NOW_MS, MT_LOG_INFO, "e", fields, 4);
	assert_non_null(strstr(
		line, ",\"a_ms\":1.234,\"b_ms\":0.000,\"c_ms\":10000.000,\"d_ms\":-1.500}\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_json),
		cmocka_unit_test(test_format_bad_utf8),
		cmocka_unit_test(test_format_long_value),
		cmocka_unit_test(test_format_pretty),
		cmocka_unit_test(test_format_hostile_text),
		cmocka_unit_test(test_format_milliseconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
