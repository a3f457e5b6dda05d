/* links: proto/wire/err.c */
#include "proto/wire/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void test_strerror_own_codes(void **state)
{
	(void)state;
	for (int err = MT_E_AGAIN; err >= MT_E_BUSY; err--) {
		const char *text = mt_strerror(err);

		assert_string_not_equal(text, "unknown error");
		assert_true(strlen(text) > 0 && text[strlen(text) - 1] != '.');
		for (int other = MT_E_AGAIN; other > err; other--) {
			assert_string_not_equal(text, mt_strerror(other));
		}
	}
	assert_string_equal(mt_strerror(0), "success");
}

static void test_strerror_errno(void **state)
{
	(void)state;
	assert_string_equal(mt_strerror(-ECONNREFUSED), "Connection refused");
	assert_string_equal(mt_strerror(-ENOMEM), "Cannot allocate memory");
}

static void test_strerror_unknown(void **state)
{
	(void)state;
	assert_string_equal(mt_strerror(1), "unknown error");
	assert_string_equal(mt_strerror(-4095), "unknown error");
	assert_string_equal(mt_strerror(MT_E_BUSY - 1), "unknown error");
	assert_string_equal(mt_strerror(INT32_MIN), "unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strerror_own_codes),
		cmocka_unit_test(test_strerror_errno),
		cmocka_unit_test(test_strerror_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
