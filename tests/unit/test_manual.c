/* links: proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c */
/* The manual page of the daemon lists every setting with its default. */
#include "proto/wire/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_manual_has_every_setting(void **state)
{
	static char page[64 * 1024];
	const struct mt_setting *table = mt_settings_table();
	FILE *in = fopen("daemon/mytunneld.8", "re");
	char heading[MT_SETTING_VALUE_MAX + 128];
	size_t len;

	(void)state;
	assert_non_null(in); /* tests run in the project's folder */
	len = fread(page, 1, sizeof(page) - 1, in);
	assert_int_equal(fclose(in), 0);
	assert_true(len > 0 && len < sizeof(page) - 1);
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		const char *at;

		(void)snprintf(heading, sizeof(heading), ".BR %s \" (default %s)\"\n", table[i].key,
			table[i].initial[0] != '\0' ? table[i].initial : "empty");
		at = strstr(page, heading);
		if (at == NULL) {
			fail_msg("the manual page lacks: %s", heading);
			return;
		}
		if (table[i].applies == MT_APPLIES_RESTART) {
			const char *next = strstr(at, "\n.TP\n");
			const char *says = strstr(at, "Applies at the next start");

			assert_non_null(next);
			assert_true(says != NULL && says < next);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manual_has_every_setting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
