/* links: ctl/host_checks.c */
#include "ctl/host_checks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	assert_non_null(text);
	return text;
}

static const json_t *find(const json_t *list, const char *check)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);

		if (strcmp(text_of(row, "check"), check) == 0) {
			return row;
		}
	}
	return NULL;
}

/* Whatever machine this is, each check says something, and a bad one what to do. */
static void test_host_checks_each_says_something(void **state)
{
	static const char *const checks[] = {
		"kernel buffers", "kernel pipes", "queueing", "kernel TLS", "group"};
	json_t *list = json_array();

	(void)state;
	mt_host_checks(list);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		assert_non_null(find(list, checks[i]));
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);
		const char *verdict = text_of(row, "verdict");

		assert_true(strlen(text_of(row, "text")) > 0);
		if (strcmp(verdict, "warn") == 0 || strcmp(verdict, "fail") == 0) {
			assert_true(strlen(text_of(row, "next")) > 0);
		} else {
			assert_true(strcmp(verdict, "ok") == 0 || strcmp(verdict, "info") == 0);
		}
	}
	json_decref(list);
}

static void test_host_check_add_cuts_long_text(void **state)
{
	json_t *list = json_array();
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	mt_host_check_add(list, "name", "ok", "", "%s", text);
	assert_int_equal(json_array_size(list), 1);
	assert_in_range(strlen(text_of(json_array_get(list, 0), "text")), 100, 1000);
	json_decref(list);
}

static void test_host_check_add_keeps_every_part(void **state)
{
	json_t *list = json_array();
	const json_t *row;

	(void)state;
	mt_host_check_add(list, "kernel pipes", "warn", "sudo sysctl -w x=1", "%d of %s", 3, "4");
	row = find(list, "kernel pipes");
	assert_non_null(row);
	assert_string_equal(text_of(row, "verdict"), "warn");
	assert_string_equal(text_of(row, "next"), "sudo sysctl -w x=1");
	assert_string_equal(text_of(row, "text"), "3 of 4");
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_checks_each_says_something),
		cmocka_unit_test(test_host_check_add_cuts_long_text),
		cmocka_unit_test(test_host_check_add_keeps_every_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
