/* links: ctl/table.c ctl/suggest.c */
#include "ctl/suggest.h"
#include "ctl/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_print_aligns(void **state)
{
	static const char *const headings[] = {"ID", "NAME"};
	struct mt_table *t = mt_table_new(headings, 2);
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(t);
	assert_non_null(out);
	mt_table_add(t, "h\xc3\xa4user");
	mt_table_add(t, "x\033[2J");
	mt_table_addf(t, "%d", 7);
	mt_table_add(t, "");
	assert_int_equal(mt_table_print(t, out, false), 0);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "ID      NAME\nh\xc3\xa4user  x?[2J\n7       \n");
	free(text);
	mt_table_free(t);
}

static void test_numbers(void **state)
{
	char buf[MT_NUMBER_TEXT_MAX];

	(void)state;
	assert_string_equal(mt_format_bytes(buf, 0), "0 B");
	assert_string_equal(mt_format_bytes(buf, 999), "999 B");
	assert_string_equal(mt_format_bytes(buf, 1500), "1.5 kB");
	assert_string_equal(mt_format_bytes(buf, 999999), "1.0 MB");
	assert_string_equal(mt_format_bytes(buf, UINT64_MAX), "18.4 EB");
	assert_string_equal(mt_format_duration(buf, 59), "59s");
	assert_string_equal(mt_format_duration(buf, 61), "1m 1s");
	assert_string_equal(mt_format_duration(buf, 3600), "1h 0m");
	assert_string_equal(mt_format_duration(buf, 90000), "1d 1h");
}

static void test_suggest(void **state)
{
	(void)state;
	assert_int_equal(mt_suggest_distance("", "abc"), 3);
	assert_int_equal(mt_suggest_distance("statsu", "status"), 1);
	assert_int_equal(mt_suggest_distance("kitten", "sitting"), 3);
	assert_true(mt_suggest_is_near("client lsit", "client list"));
	assert_true(mt_suggest_is_near("conections", "connections"));
	assert_false(mt_suggest_is_near("fly", "get"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_print_aligns),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_suggest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
