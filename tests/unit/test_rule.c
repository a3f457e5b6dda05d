/* links: proto/wire/rule.c proto/wire/net.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c
 */
#include "proto/wire/rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_parse_canonical(void **state)
{
	static const char *const pairs[][2] = {
		{"allow", "allow"},
		{" DENY\t", "deny"},
		{"deny client guest tcp *.Example.COM port 25",
			"deny client guest tcp *.example.com port 25"},
		{"allow net 10.1.0.0/16 port 22-443", "allow net 10.1.0.0/16 port 22-443"},
		{"allow 10.1.0.0/16", "allow net 10.1.0.0/16"},
		{"allow 192.0.2.7 udp", "allow udp net 192.0.2.7/32"},
		{"allow net 2001:DB8::/32", "allow net 2001:db8::/32"},
		{"deny ::1", "deny net ::1/128"},
		{"deny port 25 net 0.0.0.0/0 tcp client tcp",
			"deny client tcp tcp net 0.0.0.0/0 port 25"},
		{"deny *", "deny *"},
		{"deny host *", "deny *"},
		{"deny host localhost", "deny host localhost"},
		{"deny host client port 1-65535", "deny host client port 1-65535"},
		{"deny host example.com. port 7-7", "deny example.com port 7"},
		{"allow db.corp net 10.0.0.0/8", "allow db.corp net 10.0.0.0/8"},
		{"deny *.com", "deny *.com"},
	};
	char why[256];
	char buf[MT_RULE_TEXT_MAX];
	char again[MT_RULE_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct mt_rule rule;
		struct mt_rule second;

		assert_int_equal(mt_rule_parse(&rule, pairs[i][0], why, sizeof(why)), 0);
		assert_string_equal(mt_rule_format(&rule, buf, sizeof(buf)), pairs[i][1]);
		assert_int_equal(mt_rule_parse(&second, buf, why, sizeof(why)), 0);
		assert_true(mt_rule_equal(&rule, &second));
		assert_string_equal(mt_rule_format(&second, again, sizeof(again)), buf);
	}
}

static void test_parse_refuses(void **state)
{
	/* The text, and a part of the reason. */
	static const char *const pairs[][2] = {
		{"", "begins"},
		{"permit tcp", "begins"},
		{"allow guest", "client guest"},
		{"allow client", "needs a value"},
		{"allow client -x", "no client's name"},
		{"allow client a client b", "one client"},
		{"allow tcp udp", "one protocol"},
		{"allow net 10.1.2.3/16", "behind its prefix"},
		{"allow net 10.0.0.0/33", "no network"},
		{"allow net 10.0.0.0/08", "no network"},
		{"allow net 010.0.0.0/8", "no network"},
		{"allow 10.1", "no network"},
		{"allow 0x7f000001", "no network"},
		{"allow net fe80::1%2", "no network"},
		{"allow net ::/129", "no network"},
		{"allow net example.com", "no network"},
		{"allow net 10.0.0.0/8 net 11.0.0.0/8", "one network"},
		{"allow port 0", "no port"},
		{"allow port 80-", "no port"},
		{"allow port 80-79", "no port"},
		{"allow port 65536", "no port"},
		{"allow port 080", "no port"},
		{"allow port +80", "no port"},
		{"allow port 80 port 81", "one port"},
		{"allow *.*.example.com", "front of a name"},
		{"allow a*.example.com", "front of a name"},
		{"allow example.*", "front of a name"},
		{"allow *.", "no host name"},
		{"allow *.1", "no host name"},
		{"allow a..example.com", "no host name"},
		{"allow a.example b.example", "one host"},
		{"allow host 10.0.0.1", "no host name"},
		{"allow b\xc3\xbc"
		 "cher.example",
			"ASCII"},
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct mt_rule rule = {.port_first = 4711};

		if (mt_rule_parse(&rule, pairs[i][0], why, sizeof(why)) != MT_E_MALFORMED ||
			strstr(why, pairs[i][1]) == NULL || rule.port_first != 4711) {
			fail_msg("'%s': %s", pairs[i][0], why);
		}
	}
}

static void test_parse_longest(void **state)
{
	char text[2 * MT_RULE_TEXT_MAX];
	char name[254];
	char buf[MT_RULE_TEXT_MAX];
	char why[256];
	struct mt_rule rule;
	struct mt_rule again;

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t i = 63; i < sizeof(name); i += 64) {
		name[i] = '.';
	}
	name[253] = '\0';
	(void)snprintf(text, sizeof(text),
		"deny client %.64s udp *.%s net ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff port "
		"60000-65535",
		"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", name);
	assert_int_equal(mt_rule_parse(&rule, text, why, sizeof(why)), 0);
	mt_rule_format(&rule, buf, sizeof(buf));
	assert_int_equal(mt_rule_parse(&again, buf, why, sizeof(why)), 0);
	assert_string_equal(again.host, rule.host);
	memset(text, ' ', sizeof(text));
	memcpy(text, "allow", 5);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(mt_rule_parse(&rule, text, why, sizeof(why)), MT_E_TOO_LONG);
}

static struct mt_addr addr_of(const char *text)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, text), 0);
	return addr;
}

static void test_net_contains(void **state)
{
	static const struct {
		const char *net;
		const char *in;
		const char *out;
	} rows[] = {
		{"10.0.0.0/8", "10.255.1.2:80", "11.0.0.0:80"},
		{"192.168.128.0/17", "192.168.255.255:1", "192.168.127.255:1"},
		{"192.0.2.7", "192.0.2.7:1", "192.0.2.6:1"},
		{"0.0.0.0/0", "255.255.255.255:1", "[::]:1"},
		{"::/0", "[ffff::]:1", "0.0.0.0:1"},
		{"2001:db8::/33", "[2001:db8:7fff::1]:1", "[2001:db8:8000::1]:1"},
		{"fe80::1", "[fe80::1%3]:1", "[fe80::2%3]:1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mt_addr in = addr_of(rows[i].in);
		struct mt_addr out = addr_of(rows[i].out);
		struct mt_net net;

		assert_int_equal(mt_net_parse(&net, rows[i].net), 0);
		assert_true(mt_net_contains(&net, &in));
		assert_false(mt_net_contains(&net, &out));
	}
}

static void test_net_of(void **state)
{
	struct mt_addr addr = addr_of("172.31.255.255:80");
	struct mt_net net;
	char buf[MT_NET_TEXT_MAX];

	(void)state;
	mt_net_of(&net, &addr, 12);
	assert_string_equal(mt_net_format(&net, buf, sizeof(buf)), "172.16.0.0/12");
	mt_net_of(&net, &addr, 200);
	assert_string_equal(mt_net_format(&net, buf, sizeof(buf)), "172.31.255.255/32");
	addr = addr_of("[febf::1%7]:80");
	mt_net_of(&net, &addr, 10);
	assert_string_equal(mt_net_format(&net, buf, sizeof(buf)), "fe80::/10");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_canonical),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_longest),
		cmocka_unit_test(test_net_contains),
		cmocka_unit_test(test_net_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
