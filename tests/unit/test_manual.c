/* links: proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c */
/* The settings of the daemon's manual page come from the table, when building (ctl/manual): the
 * page has one place for them, and none is written by hand beside it.
 */
#include "proto/wire/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_manual_takes_settings_from_table(void **state)
{
	static char page[64 * 1024];
	const struct mt_setting *table = mt_settings_table();
	FILE *in = fopen("daemon/mytunneld.8", "re");
	char heading[128];
	size_t len;

	(void)state;
	assert_non_null(in); /* tests run in the project's folder */
	len = fread(page, 1, sizeof(page) - 1, in);
	assert_int_equal(fclose(in), 0);
	assert_true(len > 0 && len < sizeof(page) - 1);
	assert_non_null(strstr(page, "\n.\\\" settings\n"));
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		(void)snprintf(heading, sizeof(heading), ".BR %s \" (default", table[i].key);
		assert_null(strstr(page, heading));
	}
}

/* What the page says of a row must read as a sentence. */
static void test_settings_help_reads_as_sentence(void **state)
{
	const struct mt_setting *table = mt_settings_table();

	(void)state;
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		size_t len = strlen(table[i].help);

		assert_true(len > 10);
		assert_true(table[i].help[0] >= 'A' && table[i].help[0] <= 'Z');
		assert_true(table[i].help[len - 1] != '.');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manual_takes_settings_from_table),
		cmocka_unit_test(test_settings_help_reads_as_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
