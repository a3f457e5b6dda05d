/* links: daemon/connect_order.c proto/wire/addr.c proto/wire/err.c */
#include "daemon/connect_order.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Letters for IPv6, digits for IPv4; each address carries its character as its port. */
static void check(const char *before, const char *after)
{
	struct mt_addr addrs[16];
	char got[17] = "";
	size_t n = strlen(before);

	for (size_t i = 0; i < n; i++) {
		bool v4 = before[i] >= '0' && before[i] <= '9';

		assert_int_equal(
			mt_addr_parse(&addrs[i], v4 ? "192.0.2.1:1" : "[2001:db8::1]:1"), 0);
		mt_addr_set_port(&addrs[i], (uint16_t)before[i]);
	}
	mt_connect_interleave(addrs, n);
	for (size_t i = 0; i < n; i++) {
		got[i] = (char)mt_addr_port(&addrs[i]);
	}
	assert_string_equal(got, after);
}

static void test_interleave_alternates(void **state)
{
	(void)state;
	check("", "");
	check("a", "a");
	check("abc", "abc");
	check("123", "123");
	check("ab12", "a1b2");
	check("12ab", "1a2b");
	check("abcd1", "a1bcd");
	check("a1234", "a1234");
	check("1abc23", "1a2b3c");
	check("abcdefgh12345678", "a1b2c3d4e5f6g7h8");
}

static void test_better_error_prefers_the_host(void **state)
{
	static const int rising[] = {0, MT_E_DENIED, -EAFNOSUPPORT, -EINVAL, -ENETUNREACH,
		-EHOSTUNREACH, MT_E_TIMEOUT, -ECONNRESET, -ECONNREFUSED};
	const size_t n = sizeof(rising) / sizeof(rising[0]);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = i; j < n; j++) {
			assert_int_equal(mt_connect_better_error(rising[i], rising[j]), rising[j]);
			assert_int_equal(mt_connect_better_error(rising[j], rising[i]), rising[j]);
		}
	}
	/* Of two alike the first stays. */
	assert_int_equal(mt_connect_better_error(-ETIMEDOUT, MT_E_TIMEOUT), -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interleave_alternates),
		cmocka_unit_test(test_better_error_prefers_the_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
