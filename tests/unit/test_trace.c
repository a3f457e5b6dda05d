/* links: proto/wire/trace.c daemon/failure.c proto/wire/err.c */
#include "proto/wire/trace.h"

#include "daemon/failure.h"
#include "proto/wire/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_trace_format(void **state)
{
	char text[MT_TRACE_TEXT_MAX];

	(void)state;
	assert_string_equal(mt_trace_format(text, 0x8f2c51d00b7e93a4, 12), "8f2c51d00b7e93a4-12");
	assert_string_equal(mt_trace_format(text, 1, 0), "0000000000000001-0");
	assert_string_equal(mt_trace_format_connection(text, 0xff), "00000000000000ff");
	/* The longest there can be. */
	assert_int_equal(strlen(mt_trace_format(text, UINT64_MAX, INT64_MIN)), 16 + 1 + 20);
}

static void test_failure_text(void **state)
{
	static const struct {
		int err;
		const char *text;
	} cases[] = {
		{MT_E_DENIED, "denied"},
		{MT_E_DNS, "dns"},
		{-ECONNREFUSED, "refused"},
		{-ECONNRESET, "reset"},
		{-EHOSTUNREACH, "unreachable"},
		{MT_E_TIMEOUT, "timeout"},
		{-ETIMEDOUT, "timeout"},
		{-EMFILE, "resources"},
		{MT_E_MALFORMED, "address"},
		{-EIO, "other"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(mt_failure_text(cases[i].err), cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trace_format),
		cmocka_unit_test(test_failure_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
