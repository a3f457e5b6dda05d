/* links: client/forward.c proto/wire/addr.c proto/wire/err.c */
#include "client/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_forward(const char *text, const char *bind, const char *host, uint16_t port)
{
	struct mt_forward forward;
	const char *why = "";
	char buf[MT_ADDR_TEXT_MAX];

	assert_int_equal(mt_forward_parse(&forward, text, &why), 0);
	assert_string_equal(mt_addr_format(&forward.bind, buf, sizeof(buf)), bind);
	assert_string_equal(forward.host, host);
	assert_int_equal(forward.port, port);
}

static void test_forward_parse_forms(void **state)
{
	(void)state;
	assert_forward("2222:host:22", "127.0.0.1:2222", "host", 22);
	assert_forward("0:host.example:22", "127.0.0.1:0", "host.example", 22);
	assert_forward("192.0.2.1:80:[2001:db8::1]:8080", "192.0.2.1:80", "2001:db8::1", 8080);
	assert_forward("[::1]:80:127.0.0.1:8080", "[::1]:80", "127.0.0.1", 8080);
	assert_forward("localhost:80:h:1", "127.0.0.1:80", "h", 1);
}

static void test_forward_parse_refused(void **state)
{
	static const char *const bad[] = {"", "22", "22:host", "22:host:0", "22:host:65536",
		"x:host:22", "22::22", "host:22:host:22", "1:2:3:4:5", "[::1:22:h:1", "22:[::1]x:1",
		"22:ho st:1", "-1:h:1", "22:h:1 ", "22:[::1%eth0]:1", "22:a%b:1"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct mt_forward forward;
		const char *why = "";

		assert_int_equal(mt_forward_parse(&forward, bad[i], &why), MT_E_MALFORMED);
		assert_true(why[0] != '\0');
	}
}

static void test_listen_parse(void **state)
{
	struct mt_addr addr;
	char buf[MT_ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(mt_listen_parse(&addr, "1080"), 0);
	assert_string_equal(mt_addr_format(&addr, buf, sizeof(buf)), "127.0.0.1:1080");
	assert_int_equal(mt_listen_parse(&addr, "[::]:0"), 0);
	assert_string_equal(mt_addr_format(&addr, buf, sizeof(buf)), "[::]:0");
	assert_int_equal(mt_listen_parse(&addr, "example.com:1080"), MT_E_MALFORMED);
	assert_int_equal(mt_listen_parse(&addr, "127.0.0.1"), MT_E_MALFORMED);
	assert_int_equal(mt_listen_parse(&addr, "::1:1080"), MT_E_MALFORMED);
}

static void test_target_format(void **state)
{
	char buf[64];

	(void)state;
	assert_string_equal(mt_target_format("h", 1, buf, sizeof(buf)), "h:1");
	assert_string_equal(mt_target_format("::1", 22, buf, sizeof(buf)), "[::1]:22");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward_parse_forms),
		cmocka_unit_test(test_forward_parse_refused),
		cmocka_unit_test(test_listen_parse),
		cmocka_unit_test(test_target_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
