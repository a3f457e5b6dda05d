/* links: daemon/enrol.c proto/wire/addr.c proto/wire/err.c */
#include "daemon/enrol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct scene {
	struct mt_addr listeners[4];
	struct mt_addr hosts[8];
	struct mt_enrol_view view;
};

static void set_up(struct scene *s, const char *public_addr, const char *const *listeners,
	const char *const *hosts)
{
	s->view = (struct mt_enrol_view){
		.public_addr = public_addr, .listeners = s->listeners, .hosts = s->hosts};
	for (; *listeners != NULL; listeners++) {
		assert_int_equal(
			mt_addr_parse(&s->listeners[s->view.listener_count++], *listeners), 0);
	}
	for (; *hosts != NULL; hosts++) {
		assert_int_equal(mt_addr_parse(&s->hosts[s->view.host_count++], *hosts), 0);
	}
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NONE      ((const char *const[]){NULL})

static void expect(const struct scene *s, const char *host, uint16_t port, int warned)
{
	struct mt_enrol_target t;
	char why[256] = "";

	assert_int_equal(mt_enrol_choose(&t, &s->view, why, sizeof(why)), 0);
	assert_string_equal(t.host, host);
	assert_int_equal(t.port, port);
	assert_int_equal(t.warning[0] != '\0', warned);
}

static void test_choose_public(void **state)
{
	struct scene s;

	(void)state;
	set_up(&s, "vpn.example.org", LIST("0.0.0.0:443"), LIST("192.0.2.1:0"));
	expect(&s, "vpn.example.org", 443, 0);
	set_up(&s, "vpn.example.org:8443", LIST("0.0.0.0:443"), NONE);
	expect(&s, "vpn.example.org", 8443, 0);
	set_up(&s, "[2001:db8::1]:8443", NONE, NONE);
	expect(&s, "2001:db8::1", 8443, 0);
	set_up(&s, "2001:db8::1", LIST("[::]:444"), NONE);
	expect(&s, "2001:db8::1", 444, 0);
}

static void test_choose_bound_address(void **state)
{
	struct scene s;

	(void)state;
	set_up(&s, "", LIST("198.51.100.7:4433"), LIST("198.51.100.8:0"));
	expect(&s, "198.51.100.7", 4433, 0);
	set_up(&s, "", LIST("127.0.0.1:4433"), LIST("8.8.8.8:0"));
	expect(&s, "127.0.0.1", 4433, 1);
	set_up(&s, "", LIST("0.0.0.0:443", "[2001:db8::5]:444"), LIST("8.8.8.8:0"));
	expect(&s, "2001:db8::5", 444, 0);
}

static void test_choose_wildcard(void **state)
{
	struct scene s;

	(void)state;
	set_up(&s, "", LIST("0.0.0.0:443", "[::]:444"),
		LIST("127.0.0.1:0", "10.0.0.5:0", "8.8.8.8:0", "[fe80::1]:0", "[2606:4700::1]:0"));
	expect(&s, "8.8.8.8", 443, 1);
	set_up(&s, "", LIST("0.0.0.0:443", "[::]:444"),
		LIST("127.0.0.1:0", "10.0.0.5:0", "[2606:4700::1]:0"));
	expect(&s, "2606:4700::1", 444, 1);
	set_up(&s, "", LIST("0.0.0.0:443"), LIST("127.0.0.1:0", "10.0.0.5:0", "[2606:4700::1]:0"));
	expect(&s, "10.0.0.5", 443, 1);
}

static void test_choose_names_the_setting(void **state)
{
	struct mt_enrol_target t;
	struct scene s;
	char why[256];

	(void)state;
	set_up(&s, "", LIST("0.0.0.0:443"), LIST("127.0.0.1:0", "169.254.3.4:0"));
	assert_int_equal(mt_enrol_choose(&t, &s.view, why, sizeof(why)), MT_E_NOT_FOUND);
	assert_non_null(strstr(why, "server.public_addr"));
	set_up(&s, "vpn.example.org", NONE, NONE);
	assert_int_equal(mt_enrol_choose(&t, &s.view, why, sizeof(why)), MT_E_NOT_FOUND);
	assert_non_null(strstr(why, "server.public_addr"));
	set_up(&s, "a b", LIST("0.0.0.0:443"), NONE);
	assert_int_equal(mt_enrol_choose(&t, &s.view, why, sizeof(why)), MT_E_MALFORMED);
	assert_non_null(strstr(why, "server.public_addr"));
	set_up(&s, "", LIST("0.0.0.0:0"), LIST("8.8.8.8:0"));
	assert_int_equal(mt_enrol_choose(&t, &s.view, why, sizeof(why)), MT_E_NOT_FOUND);
}

static void test_split_bad_forms(void **state)
{
	static const char *const bad[] = {"", ":443", "host:", "host:0", "host:65536", "host:4x",
		"[::1", "[::1]443", "[host]:443", "[::1]:", "ho st", "host:123456"};
	char host[256];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_not_equal(mt_enrol_split(bad[i], host, sizeof(host), &port), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose_public),
		cmocka_unit_test(test_choose_bound_address),
		cmocka_unit_test(test_choose_wildcard),
		cmocka_unit_test(test_choose_names_the_setting),
		cmocka_unit_test(test_split_bad_forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
