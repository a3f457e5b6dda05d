/* links: proto/wire/profile.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c */
#include "proto/wire/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define KEY  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"
#define PIN  "__________________________________________8"
#define PIN2 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI"

static void test_profile_parse_example(void **state)
{
	struct mt_profile p;
	char buf[MT_PROFILE_MAX + 1];
	const char *uri = "mytunnel://" KEY "@vpn.example:443?pin=" PIN "#laptop";

	(void)state;
	assert_int_equal(mt_profile_parse(&p, uri, NULL, NULL), 0);
	assert_true(p.has_key);
	assert_int_equal(p.key[31], 1);
	assert_int_equal(p.key[0], 0);
	assert_string_equal(p.host, "vpn.example");
	assert_int_equal(p.port, 443);
	assert_int_equal(p.pin_count, 1);
	assert_int_equal(p.pins[0][0], 0xff);
	assert_int_equal(p.pins[0][31], 0xff);
	assert_string_equal(p.name, "laptop");
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), 0);
	assert_string_equal(buf, uri);
	/* All or nothing. */
	assert_int_equal(mt_profile_format(&p, buf, strlen(uri)), MT_E_TOO_LONG);
	assert_int_equal(mt_profile_format(&p, buf, strlen(uri) + 1), 0);
}

static void test_profile_parse_canonical_forms(void **state)
{
	static const char *const forms[][2] = {
		{"mytunnel://a:1", "mytunnel://a:1"},
		{"  \t\r\nmytunnel://a:1#x\r\n ", "mytunnel://a:1#x"},
		{"MyTunnel://a:00001?#", "mytunnel://a:1"},
		{"mytunnel://[2001:db8::1]:65535", "mytunnel://[2001:db8::1]:65535"},
		{"mytunnel://%5B::1%5D:1", "mytunnel://[::1]:1"},
		{"mytunnel://192.0.2.1:1", "mytunnel://192.0.2.1:1"},
		{"mytunnel://b%c3%BCcher.example:1", "mytunnel://b%C3%BCcher.example:1"},
		{"mytunnel://a:1?pin=" PIN "," PIN2, "mytunnel://a:1?pin=" PIN "," PIN2},
		{"mytunnel://a:1?pin=" PIN "%2C" PIN2, "mytunnel://a:1?pin=" PIN "," PIN2},
		{"mytunnel://a:1?x=1&pin=" PIN "&&pinned=2&y&%41=%42", "mytunnel://a:1?pin=" PIN},
		{"mytunnel://a:1?PIN=" PIN, "mytunnel://a:1"},
		{"mytunnel://a:1#me@home_1.2-3", "mytunnel://a:1#me@home_1.2-3"},
		{"mytunnel://a:1#%61b", "mytunnel://a:1#ab"},
		{"mytunnel://" KEY "@a:1", "mytunnel://" KEY "@a:1"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(forms); i++) {
		struct mt_profile p, again;
		char buf[MT_PROFILE_MAX + 1];

		if (mt_profile_parse(&p, forms[i][0], NULL, NULL) != 0) {
			fail_msg("refused: %s", forms[i][0]);
		}
		assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), 0);
		assert_string_equal(buf, forms[i][1]);
		assert_int_equal(mt_profile_parse(&again, buf, NULL, NULL), 0);
		assert_memory_equal(&p, &again, sizeof(p));
	}
}

static void test_profile_parse_refuses_with_position(void **state)
{
	static const struct {
		const char *uri;
		size_t where;
		int err;
	} wrong[] = {
		{"", 0, MT_E_MALFORMED},
		{"  ", 2, MT_E_MALFORMED},
		{"http://a:1", 0, MT_E_MALFORMED},
		{" mytunnel:/a:1", 1, MT_E_MALFORMED},
		{"mytunnel://", 11, MT_E_MALFORMED},
		{"mytunnel://a", 12, MT_E_MALFORMED},
		{"mytunnel://a:", 13, MT_E_MALFORMED},
		{"mytunnel://a:0", 13, MT_E_MALFORMED},
		{"mytunnel://a:65536", 13, MT_E_MALFORMED},
		{"mytunnel://a:000443", 19, MT_E_MALFORMED},
		{"mytunnel://a:4x3", 14, MT_E_MALFORMED},
		{"mytunnel://a:-1", 13, MT_E_MALFORMED},
		{"mytunnel://:1", 11, MT_E_MALFORMED},
		{"mytunnel://a b:1", 12, MT_E_MALFORMED},
		{"mytunnel://a..b:1", 11, MT_E_MALFORMED},
		{"mytunnel://::1:1", 11, MT_E_MALFORMED},
		{"mytunnel://%3A%3A1:1", 11, MT_E_MALFORMED},
		{"mytunnel://[::1:1", 11, MT_E_MALFORMED},
		{"mytunnel://[a]:1", 11, MT_E_MALFORMED},
		{"mytunnel://a:1/", 14, MT_E_MALFORMED},
		{"mytunnel://a/x:1", 11, MT_E_MALFORMED},
		{"mytunnel://a%:1", 12, MT_E_MALFORMED},
		{"mytunnel://a%4:1", 12, MT_E_MALFORMED},
		{"mytunnel://a%zz:1", 12, MT_E_MALFORMED},
		{"mytunnel://a%00b:1", 12, MT_E_MALFORMED},
		{"mytunnel://a\xc3\xbc:1", 12, MT_E_MALFORMED},
		{"mytunnel://@a:1", 11, MT_E_MALFORMED},
		{"mytunnel://x@a:1", 11, MT_E_MALFORMED},
		{"mytunnel://" KEY "A@a:1", 11, MT_E_MALFORMED},
		{"mytunnel://" KEY "=@a:1", 11, MT_E_MALFORMED},
		{"mytunnel://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF@a:1", 11, MT_E_MALFORMED},
		{"mytunnel://" KEY "@" KEY "@a:1", 55, MT_E_MALFORMED},
		{"mytunnel://a:1?pin", 18, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=", 19, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=x", 19, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=" PIN ",", 19, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=," PIN, 19, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=" PIN "&pin=" PIN2, 67, MT_E_MALFORMED},
		{"mytunnel://a:1?pin=" PIN "&pin", 66, MT_E_MALFORMED},
		{"mytunnel://a:1?x=%", 17, MT_E_MALFORMED},
		{"mytunnel://a:1?x=a b", 18, MT_E_MALFORMED},
		{"mytunnel://a:1#a b", 16, MT_E_MALFORMED},
		{"mytunnel://a:1#a#b", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#a?b", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#a/b", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#.a", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#-a", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#%2e", 15, MT_E_MALFORMED},
		{"mytunnel://a:1#a\nb", 16, MT_E_MALFORMED},
		{"mytunnel://a:1#01234567890123456789012345678901234567890123456789012345678901234",
			15, MT_E_TOO_LONG},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct mt_profile p = {.port = 77};
		const char *what = NULL;
		size_t where = 999;
		int err = mt_profile_parse(&p, wrong[i].uri, &where, &what);

		if (err != wrong[i].err || where != wrong[i].where) {
			fail_msg("%s: %d at %zu", wrong[i].uri, err, where);
		}
		assert_non_null(what);
		assert_int_equal(p.port, 77);
		assert_int_equal(mt_profile_parse(&p, wrong[i].uri, NULL, NULL), err);
	}
}

static void test_profile_parse_too_long(void **state)
{
	char uri[MT_PROFILE_MAX + 10];
	struct mt_profile p;
	const char *what = NULL;
	size_t where = 0;

	(void)state;
	memset(uri, 'x', sizeof(uri));
	memcpy(uri, "mytunnel://a:1?", 15);
	uri[MT_PROFILE_MAX] = '\0';
	assert_int_equal(mt_profile_parse(&p, uri, &where, &what), 0);
	uri[MT_PROFILE_MAX] = ' '; /* blanks around do not count */
	uri[MT_PROFILE_MAX + 1] = '\0';
	assert_int_equal(mt_profile_parse(&p, uri, &where, &what), 0);
	uri[MT_PROFILE_MAX] = 'x';
	assert_int_equal(mt_profile_parse(&p, uri, &where, &what), MT_E_TOO_LONG);
	assert_int_equal(where, MT_PROFILE_MAX);

	memset(uri, 'x', sizeof(uri));
	memcpy(uri, "mytunnel://", 11);
	memcpy(uri + 300, ":1", 3);
	assert_int_equal(mt_profile_parse(&p, uri, &where, &what), MT_E_TOO_LONG);
	assert_int_equal(where, 11);
}

static void test_profile_pins_maximum(void **state)
{
	char uri[MT_PROFILE_MAX] = "mytunnel://a:1?pin=" PIN, again[MT_PROFILE_MAX + 1];
	size_t len = strlen(uri);
	struct mt_profile p;

	(void)state;
	for (size_t i = 1; i <= MT_PINS_MAX; i++) {
		assert_int_equal(mt_profile_parse(&p, uri, NULL, NULL), 0);
		assert_int_equal(p.pin_count, i);
		assert_int_equal(mt_profile_format(&p, again, sizeof(again)), 0);
		assert_string_equal(again, uri);
		memcpy(uri + len, "," PIN2, sizeof("," PIN2));
		len += strlen("," PIN2);
	}
	assert_int_equal(mt_profile_parse(&p, uri, NULL, NULL), MT_E_TOO_LONG);
}

static void test_profile_format_longest(void **state)
{
	char buf[MT_PROFILE_MAX + 1];
	struct mt_profile p = {.has_key = true, .port = 65535, .pin_count = MT_PINS_MAX}, again;

	(void)state;
	memset(p.key, 0xfb, sizeof(p.key));
	memset(p.pins, 0xff, sizeof(p.pins));
	memset(p.name, 'n', MT_NAME_MAX);
	/* Four labels of 31 characters, each of two bytes that become six in the URI. */
	for (size_t i = 0; i < 252; i++) {
		p.host[i] = "\xc3\xbc"[i % 63 % 2];
		p.host[i] = i % 63 == 62 ? '.' : p.host[i];
	}
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), 0);
	assert_int_equal(mt_profile_parse(&again, buf, NULL, NULL), 0);
	assert_memory_equal(&again, &p, sizeof(p));
}

static void test_profile_format_refuses(void **state)
{
	static const char *const hosts[] = {"", "[::1]", "a b", "::1%2", "a:1", "1.2.3.4.5", "a@b"};
	static const char *const names[] = {"a b", ".x", "-x", "a#b", "\xc3\xbc"};
	struct mt_profile p = {.port = 1, .host = "a"};
	char buf[MT_PROFILE_MAX + 1] = "untouched";

	(void)state;
	assert_int_equal(mt_profile_format(&p, buf, 4), MT_E_TOO_LONG);
	for (size_t i = 0; i < COUNT(hosts); i++) {
		struct mt_profile q = p;

		memcpy(q.host, hosts[i], strlen(hosts[i]) + 1);
		assert_int_equal(mt_profile_format(&q, buf, sizeof(buf)), MT_E_MALFORMED);
	}
	for (size_t i = 0; i < COUNT(names); i++) {
		struct mt_profile q = p;

		memcpy(q.name, names[i], strlen(names[i]) + 1);
		assert_int_equal(mt_profile_format(&q, buf, sizeof(buf)), MT_E_MALFORMED);
	}
	p.pin_count = MT_PINS_MAX + 1;
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), MT_E_MALFORMED);
	p.pin_count = 0;
	p.port = 0;
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), MT_E_MALFORMED);
	p.port = 1;
	memset(p.name, 'a', sizeof(p.name)); /* no NUL */
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), MT_E_MALFORMED);
	p.name[0] = '\0';
	memset(p.host, 'a', sizeof(p.host));
	assert_int_equal(mt_profile_format(&p, buf, sizeof(buf)), MT_E_MALFORMED);
	assert_string_equal(buf, "untouched");
}

static void test_profile_deinit_wipes_key(void **state)
{
	static const uint8_t zeros[MT_KEY_LEN];
	struct mt_profile p = {.has_key = true};

	(void)state;
	memset(p.key, 0xaa, sizeof(p.key));
	mt_profile_deinit(&p);
	assert_memory_equal(p.key, zeros, sizeof(zeros));
	assert_false(p.has_key);
}

static void test_name_check_rules(void **state)
{
	char name[MT_NAME_MAX + 2];

	(void)state;
	assert_int_equal(mt_name_check("a"), 0);
	assert_int_equal(mt_name_check("Laptop_2.home-x@example.org"), 0);
	assert_int_equal(mt_name_check("@"), 0);
	assert_int_equal(mt_name_check("_"), 0);
	assert_int_equal(mt_name_check(""), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("."), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("../x"), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("-x"), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("a/b"), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("a b"), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("a\n"), MT_E_MALFORMED);
	assert_int_equal(mt_name_check("\xc3\xbc"), MT_E_MALFORMED);
	memset(name, 'a', sizeof(name));
	name[MT_NAME_MAX + 1] = '\0';
	assert_int_equal(mt_name_check(name), MT_E_TOO_LONG);
	name[MT_NAME_MAX] = '\0';
	assert_int_equal(mt_name_check(name), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profile_parse_example),
		cmocka_unit_test(test_profile_parse_canonical_forms),
		cmocka_unit_test(test_profile_parse_refuses_with_position),
		cmocka_unit_test(test_profile_parse_too_long),
		cmocka_unit_test(test_profile_pins_maximum),
		cmocka_unit_test(test_profile_format_longest),
		cmocka_unit_test(test_profile_format_refuses),
		cmocka_unit_test(test_profile_deinit_wipes_key),
		cmocka_unit_test(test_name_check_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
