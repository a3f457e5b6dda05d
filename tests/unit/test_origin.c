/* links: web/origin.c proto/wire/addr.c proto/wire/err.c */
#include "web/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define LOCAL "127.0.0.1:9090"

static void test_host_loopback_names(void **state)
{
	(void)state;
	assert_true(mt_web_host_allowed("127.0.0.1:9090", LOCAL, NULL));
	assert_true(mt_web_host_allowed("localhost:9090", LOCAL, NULL));
	assert_true(mt_web_host_allowed("LOCALHOST", LOCAL, NULL));
	assert_true(mt_web_host_allowed("[::1]:9090", LOCAL, NULL));
	assert_true(mt_web_host_allowed("127.0.0.1", LOCAL, NULL));
}

static void test_host_refused(void **state)
{
	static const char *const bad[] = {"evil.example:9090", "evil.example", "localhost:80",
		"localhost.evil.example:9090", "10.0.0.1:9090", "", ":9090",
		"127.0.0.1:", "127.0.0.1:9090x", "[::1:9090", "localhost:9090:9090",
		"127.0.0.1:99999"};

	(void)state;
	assert_false(mt_web_host_allowed(NULL, LOCAL, NULL));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(mt_web_host_allowed(bad[i], LOCAL, NULL));
	}
}

static void test_host_other_binds(void **state)
{
	(void)state;
	assert_true(mt_web_host_allowed("192.0.2.1:9090", "192.0.2.1:9090", NULL));
	assert_false(mt_web_host_allowed("192.0.2.2:9090", "192.0.2.1:9090", NULL));
	/* A literal cannot be rebound; a name can. */
	assert_true(mt_web_host_allowed("192.0.2.2:9090", "0.0.0.0:9090", NULL));
	assert_true(mt_web_host_allowed("[2001:db8::1]:9090", "[::]:9090", NULL));
	assert_false(mt_web_host_allowed("evil.example:9090", "0.0.0.0:9090", NULL));
}

static void test_origin(void **state)
{
	(void)state;
	assert_true(mt_web_origin_allowed(NULL, LOCAL, NULL, false));
	assert_true(mt_web_origin_allowed("http://127.0.0.1:9090", LOCAL, NULL, false));
	assert_true(mt_web_origin_allowed("http://localhost:9090", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("http://localhost", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("http://localhost:9091", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("https://localhost:9090", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("http://evil.example:9090", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("null", LOCAL, NULL, false));
	assert_false(mt_web_origin_allowed("", LOCAL, NULL, false));
}

static void test_another_name(void **state)
{
	static const char local[] = "192.0.2.1:9090";

	(void)state;
	assert_true(mt_web_host_allowed("vpn.example:9090", local, "vpn.example"));
	assert_true(mt_web_host_allowed("VPN.example", local, "vpn.example"));
	assert_false(mt_web_host_allowed("evil.example", local, "vpn.example"));
	assert_false(mt_web_host_allowed("", local, ""));
	assert_true(mt_web_origin_allowed("https://vpn.example:9090", local, "vpn.example", true));
	assert_false(mt_web_origin_allowed("http://vpn.example:9090", local, "vpn.example", true));
	assert_false(mt_web_origin_allowed("https://vpn.example", local, "vpn.example", true));
	assert_true(mt_web_origin_allowed("https://192.0.2.1", "192.0.2.1:443", NULL, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_loopback_names),
		cmocka_unit_test(test_host_refused),
		cmocka_unit_test(test_host_other_binds),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_another_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
