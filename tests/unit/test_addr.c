/* links: proto/wire/addr.c */
#include "proto/wire/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct mt_addr addr_of(const char *text)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, text), 0);
	return addr;
}

static struct mt_addr host_of(const char *text)
{
	enum mt_host_kind kind;
	struct mt_addr addr;

	assert_int_equal(mt_host_parse(&kind, &addr, text, strlen(text), 1), 0);
	assert_int_not_equal(kind, MT_HOST_NAME);
	return addr;
}

static void test_addr_parse_format(void **state)
{
	static const char *const texts[][2] = {
		{"192.0.2.1:443", "192.0.2.1:443"},
		{"0.0.0.0:0", "0.0.0.0:0"},
		{"255.255.255.255:65535", "255.255.255.255:65535"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[2001:DB8:0:0:0:0:0:1]:00443", "[2001:db8::1]:443"},
		{"[::]:1", "[::]:1"},
		{"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1"},
		{"[fe80::1%2]:80", "[fe80::1%2]:80"},
		{"[fe80::1%4294967295]:80", "[fe80::1%4294967295]:80"},
		{"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295]:65535",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"},
	};
	char buf[MT_ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct mt_addr addr = addr_of(texts[i][0]);

		assert_string_equal(mt_addr_format(&addr, buf, sizeof(buf)), texts[i][1]);
		addr = addr_of(buf);
		assert_string_equal(mt_addr_format(&addr, buf, sizeof(buf)), texts[i][1]);
	}
}

static void test_addr_parse_refuses(void **state)
{
	static const char *const wrong[] = {"", ":", ":443", "192.0.2.1",
		"192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1", "192.0.2.1: 1",
		"192.0.2.1:1 ", " 192.0.2.1:1", "192.0.2.1:0x1", "192.0.2.1:99999999999999999999",
		"192.0.2:1", "192.0.2.256:1", "0x7f.0.0.1:1", "example.com:443", "2001:db8::1:443",
		"[2001:db8::1]", "[2001:db8::1]:", "[2001:db8::1]443", "[2001:db8::1:443", "[]:1",
		"[192.0.2.1]:1", "[::1%]:1", "[::1%eth0]:1", "[::1%4294967296]:1", "[::1]]:1",
		"[[::1]:1", "[%1]:1", "[:::]:1",
		"[2001:db8:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1"};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct mt_addr addr = {.len = 77};

		assert_int_equal(mt_addr_parse(&addr, wrong[i]), MT_E_MALFORMED);
		assert_int_equal(addr.len, 77);
	}
}

static void test_addr_from_sockaddr_families(void **state)
{
	struct mt_addr v4 = addr_of("192.0.2.1:5"), v6 = addr_of("[fe80::1%3]:6"), out;
	struct sockaddr_storage other = {.ss_family = AF_UNIX};

	(void)state;
	assert_int_equal(mt_addr_from_sockaddr(&out, &v4.sa, v4.len), 0);
	assert_true(mt_addr_equal(&out, &v4));
	assert_int_equal(out.len, sizeof(struct sockaddr_in));
	v6.v6.sin6_flowinfo = 5;
	assert_int_equal(mt_addr_from_sockaddr(&out, &v6.sa, v6.len), 0);
	assert_true(mt_addr_equal(&out, &v6));
	assert_int_equal(out.v6.sin6_flowinfo, 0);
	assert_int_equal(mt_addr_from_sockaddr(&out, &v4.sa, v4.len - 1), MT_E_UNSUPPORTED);
	assert_int_equal(mt_addr_from_sockaddr(&out, &v6.sa, v6.len - 1), MT_E_UNSUPPORTED);
	assert_int_equal(mt_addr_from_sockaddr(&out, (struct sockaddr *)&other, sizeof(other)),
		MT_E_UNSUPPORTED);
	assert_int_equal(mt_addr_from_sockaddr(&out, NULL, 0), MT_E_UNSUPPORTED);
}

static void test_addr_port_set(void **state)
{
	struct mt_addr none = {.len = 0}, v4 = addr_of("192.0.2.1:5"), v6 = addr_of("[::1]:6");

	(void)state;
	mt_addr_set_port(&v4, 700);
	mt_addr_set_port(&v6, 65535);
	mt_addr_set_port(&none, 1);
	assert_int_equal(mt_addr_port(&v4), 700);
	assert_int_equal(mt_addr_port(&v6), 65535);
	assert_int_equal(mt_addr_port(&none), 0);
}

static void test_addr_format_none(void **state)
{
	struct mt_addr none = {.len = 0}, v6 = addr_of("[fe80::1%3]:6");
	char buf[MT_ADDR_TEXT_MAX];

	(void)state;
	assert_string_equal(mt_addr_format(&none, buf, sizeof(buf)), "-");
	assert_string_equal(mt_addr_format_host(&none, buf, sizeof(buf)), "-");
	assert_string_equal(mt_addr_format_host(&v6, buf, sizeof(buf)), "fe80::1%3");
}

static void test_addr_equal_parts(void **state)
{
	struct mt_addr a = addr_of("192.0.2.1:5"), b = addr_of("192.0.2.1:6");
	struct mt_addr c = addr_of("[fe80::1%3]:5"), d = addr_of("[fe80::1%4]:5");
	struct mt_addr none = {.len = 0};

	(void)state;
	assert_true(mt_addr_equal(&a, &a));
	assert_false(mt_addr_equal(&a, &b));
	assert_true(mt_addr_equal_host(&a, &b));
	assert_true(mt_addr_equal(&c, &c));
	assert_false(mt_addr_equal_host(&c, &d));
	assert_false(mt_addr_equal_host(&a, &c));
	assert_false(mt_addr_equal(&a, &none));
	assert_true(mt_addr_equal(&none, &none));
}

static void test_addr_is_any_loopback(void **state)
{
	struct mt_addr none = {.len = 0}, a = addr_of("0.0.0.0:1"), b = addr_of("[::]:1");
	struct mt_addr c = addr_of("127.9.9.9:1"), d = addr_of("[::1]:1");
	struct mt_addr e = addr_of("[::ffff:127.0.0.1]:1"), f = addr_of("128.0.0.1:1");

	(void)state;
	assert_true(mt_addr_is_any(&a) && mt_addr_is_any(&b));
	assert_false(mt_addr_is_any(&c) || mt_addr_is_any(&none));
	assert_true(mt_addr_is_loopback(&c) && mt_addr_is_loopback(&d) && mt_addr_is_loopback(&e));
	assert_false(
		mt_addr_is_loopback(&a) || mt_addr_is_loopback(&f) || mt_addr_is_loopback(&none));
}

static void test_addr_unmap_mapped_only(void **state)
{
	struct mt_addr mapped = addr_of("[::ffff:192.0.2.1]:7"), plain = addr_of("192.0.2.1:7");
	struct mt_addr v6 = addr_of("[2001:db8::1]:7"), copy = v6;

	(void)state;
	mt_addr_unmap(&mapped);
	assert_true(mt_addr_equal(&mapped, &plain));
	assert_int_equal(mapped.len, plain.len);
	mt_addr_unmap(&v6);
	assert_true(mt_addr_equal(&v6, &copy));
	mt_addr_unmap(&plain);
	assert_true(mt_addr_equal(&mapped, &plain));
}

static void test_addr_hash_spreads(void **state)
{
	struct mt_addr a = addr_of("192.0.2.1:5"), b = addr_of("192.0.2.1:6");
	struct mt_addr c = addr_of("[::192.0.2.1]:5"), d = addr_of("[fe80::1%3]:5");
	struct mt_addr e = addr_of("[fe80::1%4]:5");
	unsigned buckets[64] = {0};

	(void)state;
	assert_true(mt_addr_hash(&a, 1) == mt_addr_hash(&a, 1));
	assert_true(mt_addr_hash(&a, 1) != mt_addr_hash(&a, 2));
	assert_true(mt_addr_hash(&a, 1) != mt_addr_hash(&b, 1));
	assert_true(mt_addr_hash(&a, 1) != mt_addr_hash(&c, 1));
	assert_true(mt_addr_hash(&d, 1) != mt_addr_hash(&e, 1));
	for (unsigned i = 0; i < 6400; i++) {
		mt_addr_set_port(&a, (uint16_t)i);
		buckets[mt_addr_hash(&a, 42) % 64]++;
	}
	for (size_t i = 0; i < 64; i++) {
		assert_in_range(buckets[i], 50, 170);
	}
}

static void test_host_parse_ipv4_spellings(void **state)
{
	static const char *const spellings[][2] = {
		{"127.0.0.1", "127.0.0.1"},
		{"127.1", "127.0.0.1"},
		{"127.0.1", "127.0.0.1"},
		{"2130706433", "127.0.0.1"},
		{"0x7f000001", "127.0.0.1"},
		{"0X7F.1", "127.0.0.1"},
		{"017700000001", "127.0.0.1"},
		{"0177.0.0.01", "127.0.0.1"},
		{"0x00000000000000000000007f.1", "127.0.0.1"},
		{"0", "0.0.0.0"},
		{"1.2.65535", "1.2.255.255"},
		{"1.16777215", "1.255.255.255"},
		{"4294967295", "255.255.255.255"},
		{"10.0.0.255", "10.0.0.255"},
	};
	char buf[MT_ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(spellings); i++) {
		enum mt_host_kind kind;
		struct in_addr peer;
		struct mt_addr addr;
		const char *text = spellings[i][0];

		assert_int_equal(mt_host_parse(&kind, &addr, text, strlen(text), 9), 0);
		assert_int_equal(kind, MT_HOST_IPV4);
		assert_int_equal(mt_addr_port(&addr), 9);
		assert_string_equal(mt_addr_format_host(&addr, buf, sizeof(buf)), spellings[i][1]);
		assert_int_equal(inet_aton(text, &peer), 1);
		assert_int_equal(peer.s_addr, addr.v4.sin_addr.s_addr);
	}
}

static void test_host_parse_ipv6(void **state)
{
	static const char *const texts[] = {"::1", "[::1]", "2001:db8::1", "[2001:DB8::1]",
		"::", "::ffff:192.0.2.1", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		enum mt_host_kind kind;
		struct mt_addr addr;

		assert_int_equal(mt_host_parse(&kind, &addr, texts[i], strlen(texts[i]), 9), 0);
		assert_int_equal(kind, MT_HOST_IPV6);
		assert_int_equal(mt_addr_port(&addr), 9);
		assert_int_equal(addr.len, sizeof(struct sockaddr_in6));
	}
}

static void test_host_parse_names(void **state)
{
	static const char label63[] =
		"abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0";
	static const char *const names[] = {"a", "example.com", "example.com.", "_sip._tcp.example",
		"xn--bcher-kva.example",
		"b\xc3\xbc"
		"cher.example",
		"\xf0\x9f\x98\x80.example", "-a", "a-", "1.2.3.4.example", "0x7f.g", "0xg", "1a",
		"a1", "localhost", "127.0.0.1.nip.io", "\xc2\xa0", label63};
	char longest[255];

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		enum mt_host_kind kind = MT_HOST_IPV4;
		struct mt_addr addr = {.len = 77};

		assert_int_equal(mt_host_parse(&kind, &addr, names[i], strlen(names[i]), 9), 0);
		assert_int_equal(kind, MT_HOST_NAME);
		assert_int_equal(addr.len, 77);
	}
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 63; i < sizeof(longest); i += 64) {
		longest[i] = '.';
	}
	for (size_t len = 240; len <= sizeof(longest); len++) {
		enum mt_host_kind kind;
		struct mt_addr addr;
		int err = mt_host_parse(&kind, &addr, longest, len, 9);

		/* 253, or 254 with the final dot */
		assert_int_equal(err, len <= 253 ? 0 : MT_E_MALFORMED);
	}
	longest[253] = '.';
	assert_int_equal(mt_host_parse(&(enum mt_host_kind){0}, &(struct mt_addr){.len = 0},
				 longest, 254, 9),
		0);
}

static const struct {
	const char *text;
	size_t len;
} refused[] = {
#define T(s)                                                                                       \
	{                                                                                          \
		s, sizeof(s) - 1                                                                   \
	}
	T(""),
	T("."),
	T(".."),
	T(".a"),
	T("a..b"),
	T("a.."),
	T("a b"),
	T(" a"),
	T("a "),
	T("a\0b"),
	T("\0"),
	T("a\0"),
	T("127.0.0.1\0"),
	T("::1\0"),
	T("a%b"),
	T("fe80::1%eth0"),
	T("[fe80::1%2]"),
	T("[::1"),
	T("::1]"),
	T("[]"),
	T("["),
	T("]"),
	T("[a]"),
	T("[192.0.2.1]"),
	T("[[::1]]"),
	T("[::1]:80"),
	T("a:80"),
	T("192.0.2.1:80"),
	T(":::"),
	T("1::2::3"),
	T("a/b"),
	T("a@b"),
	T("a*b"),
	T("a,b"),
	T("a\tb"),
	T("a\nb"),
	T("a\x7f"),
	T("a\x01"),
	/* an IPv4 literal or nothing */
	T("256.0.0.1"),
	T("1.2.3.4.5"),
	T("1.2.3.4.0"),
	T("127.0.0.1."),
	T("1.2.3.256"),
	T("1.2.65536"),
	T("1.16777216"),
	T("4294967296"),
	T("99999999999999999999999"),
	T("08"),
	T("0x"),
	T("1."),
	T("1..2"),
	T("1.0x"),
	T("a.1"),
	T("a.0x1f"),
	T("a.0x1f."),
	T("1.2.3.08"),
	T("0x100.1.1.1"),
	T("127.0.0.1 "),
	T(" 127.0.0.1"),
	T("127.0.0.1 x"),
	/* UTF-8: overlong, cut, alone, surrogate, beyond U+10FFFF, C1 control */
	T("\xc0\xae"),
	T("\xe0\x80\xae"),
	T("\xe0\x9f\xbf"),
	T("\xf0\x8f\xbf\xbf"),
	T("\xf0\x80\x80\xae"),
	T("a\xc3"),
	T("\xe2\x82"),
	T("\x80"),
	T("\xbf"
	  "a"),
	T("\xed\xa0\x80"),
	T("\xf4\x90\x80\x80"),
	T("\xf8\x88\x80\x80\x80"),
	T("\xff"),
	T("\xc2\x85"),
	T("\xc3"
	  "a"),
	T("\xc3."),
	T("abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01"),
#undef T
};

static void test_host_parse_refuses(void **state)
{

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		/* A copy without a NUL behind: reading past the end is seen by the sanitizer. */
		char *copy = malloc(refused[i].len + (refused[i].len == 0));
		enum mt_host_kind kind = MT_HOST_NAME;
		struct mt_addr addr = {.len = 77};

		assert_non_null(copy);
		memcpy(copy, refused[i].text, refused[i].len);
		if (mt_host_parse(&kind, &addr, copy, refused[i].len, 9) != MT_E_MALFORMED) {
			fail_msg("accepted: %s", refused[i].text);
		}
		assert_int_equal(addr.len, 77);
		free(copy);
	}
}

static void test_host_split_forms(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} right[] = {
		{"example.com", "example.com", 0},
		{"example.com:443", "example.com", 443},
		{"192.0.2.1:65535", "192.0.2.1", 65535},
		{"2001:db8::1", "2001:db8::1", 0},
		{"[2001:db8::1]", "2001:db8::1", 0},
		{"[2001:db8::1]:1", "2001:db8::1", 1},
	};
	static const char *const wrong[] = {"", ":", ":443", "a:", "a:0", "a:65536", "a:b", "a:1:2",
		"[a]:1", "[::1]:", "[::1]1", "[::1", "::1]:1", "a b:1", "[::1]:0", "[::1]x:1"};

	(void)state;
	for (size_t i = 0; i < COUNT(right); i++) {
		const char *host = NULL;
		size_t len = 0;
		uint16_t port = 7;

		assert_int_equal(
			mt_host_split(&host, &len, &port, right[i].text, strlen(right[i].text)), 0);
		assert_int_equal(len, strlen(right[i].host));
		assert_memory_equal(host, right[i].host, len);
		assert_int_equal(port, right[i].port);
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		const char *host = NULL;
		size_t len = 0;
		uint16_t port = 7;

		if (mt_host_split(&host, &len, &port, wrong[i], strlen(wrong[i])) !=
			MT_E_MALFORMED) {
			fail_msg("accepted: %s", wrong[i]);
		}
		assert_null(host);
	}
}

static const struct {
	const char *text;
	enum mt_addr_scope scope;
} scopes[] = {
	{"1.1.1.1", MT_SCOPE_GLOBAL},
	{"0.0.0.0", MT_SCOPE_SPECIAL},
	{"0.255.255.255", MT_SCOPE_SPECIAL},
	{"1.0.0.0", MT_SCOPE_GLOBAL},
	{"9.255.255.255", MT_SCOPE_GLOBAL},
	{"10.0.0.0", MT_SCOPE_PRIVATE},
	{"10.255.255.255", MT_SCOPE_PRIVATE},
	{"11.0.0.0", MT_SCOPE_GLOBAL},
	{"100.63.255.255", MT_SCOPE_GLOBAL},
	{"100.64.0.0", MT_SCOPE_PRIVATE},
	{"100.127.255.255", MT_SCOPE_PRIVATE},
	{"100.128.0.0", MT_SCOPE_GLOBAL},
	{"126.255.255.255", MT_SCOPE_GLOBAL},
	{"127.0.0.1", MT_SCOPE_PRIVATE},
	{"0x7f.1", MT_SCOPE_PRIVATE},
	{"127.255.255.255", MT_SCOPE_PRIVATE},
	{"128.0.0.0", MT_SCOPE_GLOBAL},
	{"169.253.255.255", MT_SCOPE_GLOBAL},
	{"169.254.169.254", MT_SCOPE_SPECIAL},
	{"169.255.0.0", MT_SCOPE_GLOBAL},
	{"172.15.255.255", MT_SCOPE_GLOBAL},
	{"172.16.0.0", MT_SCOPE_PRIVATE},
	{"172.31.255.255", MT_SCOPE_PRIVATE},
	{"172.32.0.0", MT_SCOPE_GLOBAL},
	{"191.255.255.255", MT_SCOPE_GLOBAL},
	{"192.0.0.255", MT_SCOPE_SPECIAL},
	{"192.0.1.0", MT_SCOPE_GLOBAL},
	{"192.167.255.255", MT_SCOPE_GLOBAL},
	{"192.168.0.0", MT_SCOPE_PRIVATE},
	{"192.169.0.0", MT_SCOPE_GLOBAL},
	{"198.17.255.255", MT_SCOPE_GLOBAL},
	{"198.18.0.0", MT_SCOPE_SPECIAL},
	{"198.19.255.255", MT_SCOPE_SPECIAL},
	{"198.20.0.0", MT_SCOPE_GLOBAL},
	{"223.255.255.255", MT_SCOPE_GLOBAL},
	{"224.0.0.1", MT_SCOPE_SPECIAL},
	{"239.255.255.255", MT_SCOPE_SPECIAL},
	{"240.0.0.0", MT_SCOPE_SPECIAL},
	{"255.255.255.255", MT_SCOPE_SPECIAL},
	{"::", MT_SCOPE_SPECIAL},
	{"::1", MT_SCOPE_PRIVATE},
	{"::2", MT_SCOPE_SPECIAL},
	{"::8.8.8.8", MT_SCOPE_SPECIAL},
	{"::ffff:8.8.8.8", MT_SCOPE_SPECIAL},
	{"::ffff:127.0.0.1", MT_SCOPE_SPECIAL},
	{"::ffff:0:127.0.0.1", MT_SCOPE_SPECIAL},
	{"64:ff9b::8.8.8.8", MT_SCOPE_SPECIAL},
	{"64:ff9b:0:0:0:1::", MT_SCOPE_GLOBAL},
	{"64:ff9b:1::", MT_SCOPE_SPECIAL},
	{"64:ff9b:1:ffff::", MT_SCOPE_SPECIAL},
	{"64:ff9b:2::", MT_SCOPE_GLOBAL},
	{"2001::1", MT_SCOPE_SPECIAL},
	{"2001:0:ffff::1", MT_SCOPE_SPECIAL},
	{"2001:1::1", MT_SCOPE_GLOBAL},
	{"2001:4860:4860::8888", MT_SCOPE_GLOBAL},
	{"2002:7f00:1::", MT_SCOPE_SPECIAL},
	{"2003::", MT_SCOPE_GLOBAL},
	{"fbff::", MT_SCOPE_GLOBAL},
	{"fc00::", MT_SCOPE_PRIVATE},
	{"fdff::1", MT_SCOPE_PRIVATE},
	{"fe00::", MT_SCOPE_GLOBAL},
	{"fe80::1", MT_SCOPE_SPECIAL},
	{"febf::1", MT_SCOPE_SPECIAL},
	{"fec0::1", MT_SCOPE_SPECIAL},
	{"feff::1", MT_SCOPE_SPECIAL},
	{"ff02::1", MT_SCOPE_SPECIAL},
};

static void test_addr_scope_ranges(void **state)
{
	struct mt_addr none = {.len = 0};

	(void)state;
	for (size_t i = 0; i < COUNT(scopes); i++) {
		struct mt_addr addr = host_of(scopes[i].text);

		if (mt_addr_scope(&addr) != scopes[i].scope) {
			fail_msg("wrong scope: %s", scopes[i].text);
		}
	}
	assert_int_equal(mt_addr_scope(&none), MT_SCOPE_SPECIAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_parse_format),
		cmocka_unit_test(test_addr_parse_refuses),
		cmocka_unit_test(test_addr_from_sockaddr_families),
		cmocka_unit_test(test_addr_port_set),
		cmocka_unit_test(test_addr_format_none),
		cmocka_unit_test(test_addr_equal_parts),
		cmocka_unit_test(test_addr_is_any_loopback),
		cmocka_unit_test(test_addr_unmap_mapped_only),
		cmocka_unit_test(test_addr_hash_spreads),
		cmocka_unit_test(test_host_parse_ipv4_spellings),
		cmocka_unit_test(test_host_parse_ipv6),
		cmocka_unit_test(test_host_parse_names),
		cmocka_unit_test(test_host_parse_refuses),
		cmocka_unit_test(test_host_split_forms),
		cmocka_unit_test(test_addr_scope_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
