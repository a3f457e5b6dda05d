/* links: proto/wire/message.c */
#include "proto/wire/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_message_request_round_trip(void **state)
{
	json_t *root = NULL, *args = NULL, *sent = json_object();
	const char *verb = NULL;
	char why[128] = "", *line = NULL;

	(void)state;
	assert_int_equal(json_object_set_new(sent, "key", json_string("a \"b\"\n\xc3\xbc")), 0);
	line = mt_message_format_request("set", sent);
	assert_non_null(line);
	assert_ptr_equal(
		strchr(line, '\n'), line + strlen(line) - 1); /* one line, the newline last */
	assert_int_equal(mt_message_parse_request(
				 &root, &verb, &args, line, strlen(line) - 1, why, sizeof(why)),
		0);
	assert_string_equal(verb, "set");
	assert_string_equal(json_string_value(json_object_get(args, "key")), "a \"b\"\n\xc3\xbc");
	json_decref(root);
	free(line);
}

static void test_message_request_without_args(void **state)
{
	json_t *root = NULL, *args = NULL;
	const char *verb = NULL;
	char why[128] = "", *line = mt_message_format_request("status", NULL);

	(void)state;
	assert_string_equal(line, "{\"verb\":\"status\"}\n");
	assert_int_equal(
		mt_message_parse_request(&root, &verb, &args, line, strlen(line), why, sizeof(why)),
		0);
	assert_true(json_is_object(args));
	assert_int_equal(json_object_size(args), 0);
	json_decref(root);
	free(line);
}

static void test_message_parse_request_refuses(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} wrong[] = {
#define T(s) {s, sizeof(s) - 1}
		T(""),
		T(" "),
		T("{"),
		T("[]"),
		T("\"x\""),
		T("null"),
		T("1"),
		T("{}"),
		T("{\"verb\":1}"),
		T("{\"verb\":null}"),
		T("{\"verb\":\"\"}"),
		T("{\"verb\":\"x\",\"args\":[]}"),
		T("{\"verb\":\"x\",\"args\":null}"),
		T("{\"verb\":\"x\"} x"),
		T("{\"verb\":\"x\"}{}"),
		T("{\"verb\":\"x\",\"verb\":\"y\"}"),
		T("{\"verb\":\"x\",\"args\":{\"a\":1,\"a\":2}}"),
		T("{\"verb\":\"\xff\"}"),
		T("{\"verb\":\"\xc0\xaf\"}"),
		T("{\"verb\":\"\xed\xa0\x80\"}"),
		T("{\"verb\":\"a\\u0000b\"}"),
		T("{\"verb\":\"a\0b\"}"),
		T("\0{\"verb\":\"x\"}"),
		T("{'verb':'x'}"),
		T("{\"verb\":\"x\",}"),
		T("{\"verb\":\"x\n\"}\0"),
#undef T
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		json_t *root = NULL, *args = NULL;
		const char *verb = NULL;
		char why[128] = "", *copy = malloc(wrong[i].len + (wrong[i].len == 0));
		int err = 0;

		assert_non_null(copy);
		memcpy(copy, wrong[i].text, wrong[i].len);
		err = mt_message_parse_request(
			&root, &verb, &args, copy, wrong[i].len, why, sizeof(why));
		if (err != MT_E_MALFORMED) {
			fail_msg("accepted: %s", wrong[i].text);
		}
		assert_true(root == NULL && verb == NULL && args == NULL);
		assert_string_not_equal(why, "");
		free(copy);
	}
}

/* {"verb":"x","args":{"a":[[...]]}} with `depth` levels in all. */
static char *nested(size_t depth, char open, char close)
{
	static const char head[] = "{\"verb\":\"x\",\"args\":{\"a\":";
	size_t levels = depth - 2, used = sizeof(head) - 1;
	char *text = malloc(used + 2 * levels + 4);

	assert_non_null(text);
	memcpy(text, head, used);
	memset(text + used, open, levels);
	used += levels;
	memset(text + used, close, levels);
	used += levels;
	memcpy(text + used, "}}", 3);
	return text;
}

static void test_message_parse_request_depth(void **state)
{
	const size_t depths[] = {3, 16, 17, 100, 50000};

	(void)state;
	for (size_t i = 0; i < COUNT(depths); i++) {
		json_t *root = NULL, *args = NULL;
		const char *verb = NULL;
		char why[128] = "", *text = nested(depths[i], '[', ']');
		int err = mt_message_parse_request(
			&root, &verb, &args, text, strlen(text), why, sizeof(why));

		assert_int_equal(err, depths[i] <= 16 ? 0 : MT_E_MALFORMED);
		json_decref(root);
		free(text);
	}
}

static void test_message_parse_request_brackets_in_strings(void **state)
{
	static const char text[] = "{\"verb\":\"[[[[[[[[[[[[[[[[[[[[[\",\"args\":"
				   "{\"\\\"{{{{{{{{{{{{{{{{{{{\":\"\\\\\"}}";
	json_t *root = NULL, *args = NULL;
	const char *verb = NULL;
	char why[128] = "";

	(void)state;
	assert_int_equal(mt_message_parse_request(
				 &root, &verb, &args, text, sizeof(text) - 1, why, sizeof(why)),
		0);
	json_decref(root);
}

static void test_message_parse_request_too_long(void **state)
{
	const size_t len = MT_MESSAGE_MAX + 1;
	char *text = malloc(len), why[128] = "";
	json_t *root = NULL, *args = NULL;
	const char *verb = NULL;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', len);
	memcpy(text, "{\"verb\":\"x\"}", 12);
	assert_int_equal(
		mt_message_parse_request(&root, &verb, &args, text, len - 1, why, sizeof(why)), 0);
	json_decref(root);
	root = NULL;
	assert_int_equal(mt_message_parse_request(&root, &verb, &args, text, len, why, sizeof(why)),
		MT_E_TOO_LONG);
	assert_null(root);
	free(text);
}

static void test_message_result_round_trip(void **state)
{
	char *line = mt_message_format_result(json_pack("{s:i}", "n", 7));
	json_t *root = NULL, *result = NULL, *error = NULL;

	(void)state;
	assert_string_equal(line, "{\"ok\":true,\"schema\":1,\"result\":{\"n\":7}}\n");
	assert_int_equal(mt_message_parse_answer(&root, &result, &error, line, strlen(line)), 0);
	assert_int_equal(json_integer_value(json_object_get(result, "n")), 7);
	assert_null(error);
	json_decref(root);
	free(line);
	assert_null(mt_message_format_result(NULL));
}

static void test_message_error_round_trip(void **state)
{
	char *line = mt_message_format_error("range", "too \"big\"", NULL);
	json_t *root = NULL, *result = NULL, *error = NULL;

	(void)state;
	assert_int_equal(
		mt_message_parse_answer(&root, &result, &error, line, strlen(line)), MT_E_DENIED);
	assert_null(result);
	assert_string_equal(json_string_value(json_object_get(error, "code")), "range");
	assert_string_equal(json_string_value(json_object_get(error, "message")), "too \"big\"");
	assert_string_equal(json_string_value(json_object_get(error, "next")), "");
	json_decref(root);
	free(line);
}

static void test_message_format_error_invalid_utf8(void **state)
{
	char *line = mt_message_format_error("x", "name \xff\xfe is wrong", "try \xc3");

	(void)state;
	assert_string_equal(line, "{\"ok\":false,\"schema\":1,\"error\":{\"code\":\"x\","
				  "\"message\":\"name ?? is wrong\",\"next\":\"try ?\"}}\n");
	free(line);
}

static void test_message_parse_answer_refuses(void **state)
{
	static const char *const wrong[] = {"", "{", "[]", "{}", "{\"ok\":1,\"result\":{}}",
		"{\"ok\":true}", "{\"ok\":false}", "{\"ok\":false,\"error\":\"x\"}",
		"{\"ok\":false,\"error\":{}}", "{\"ok\":false,\"error\":{\"code\":\"x\"}}",
		"{\"ok\":false,\"error\":{\"code\":1,\"message\":\"x\"}}",
		"{\"ok\":true,\"ok\":false,\"result\":{}}", "{\"ok\":true,\"result\":{}} x"};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		json_t *root = NULL, *result = NULL, *error = NULL;

		assert_int_equal(
			mt_message_parse_answer(&root, &result, &error, wrong[i], strlen(wrong[i])),
			MT_E_MALFORMED);
		assert_true(root == NULL && result == NULL && error == NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_request_round_trip),
		cmocka_unit_test(test_message_request_without_args),
		cmocka_unit_test(test_message_parse_request_refuses),
		cmocka_unit_test(test_message_parse_request_depth),
		cmocka_unit_test(test_message_parse_request_brackets_in_strings),
		cmocka_unit_test(test_message_parse_request_too_long),
		cmocka_unit_test(test_message_result_round_trip),
		cmocka_unit_test(test_message_error_round_trip),
		cmocka_unit_test(test_message_format_error_invalid_utf8),
		cmocka_unit_test(test_message_parse_answer_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
