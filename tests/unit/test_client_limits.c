/* links: daemon/client_limits.c proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c
 */
#include "daemon/client_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1800000000 /* 2027-01-15T08:00:00Z */

static int apply(struct mt_store_limits *limits, const char *key, const char *text, size_t *count)
{
	json_t *args = json_pack("{s:s, s:s}", key, text, "name", "ignored");
	char why[256] = "";
	int rv;

	assert_non_null(args);
	rv = mt_client_limits_apply(limits, count, args, NOW, why, sizeof(why));
	json_decref(args);
	assert_true((rv != 0) == (why[0] != '\0'));
	if (rv != 0) {
		assert_non_null(strstr(why, key));
	}
	return rv;
}

static void test_apply_good(void **state)
{
	static const struct {
		const char *key;
		const char *text;
		struct mt_store_limits want;
	} cases[] = {
		{"expires", "30d", {.expires_at = NOW + 30 * 86400}},
		{"expires", "90", {.expires_at = NOW + 90}},
		{"expires", "2s", {.expires_at = NOW + 2}},
		{"expires", "2030-01-01", {.expires_at = 1893456000}},
		{"expires", "2030-01-01T00:00:01Z", {.expires_at = 1893456001}},
		{"rate", "50M", {.rate_bits = 50000000}},
		{"rate", "10K", {.rate_bits = 10000}},
		{"rate", "100G", {.rate_bits = 100000000000}},
		{"quota", "100G/month",
			{.quota_bytes = 100000000000, .quota_period = MT_QUOTA_MONTH}},
		{"quota", "5Gi/day", {.quota_bytes = 5368709120, .quota_period = MT_QUOTA_DAY}},
		{"quota", "1000", {.quota_bytes = 1000, .quota_period = MT_QUOTA_TOTAL}},
		{"max_connections", "4", {.max_connections = 4}},
		{"note", "", {.note = ""}},
		{"note", "two words", {.note = "two words"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mt_store_limits limits;
		size_t count = 0;

		memset(&limits, 0, sizeof(limits));
		assert_int_equal(apply(&limits, cases[i].key, cases[i].text, &count), 0);
		assert_int_equal(count, 1);
		assert_int_equal(limits.expires_at, cases[i].want.expires_at);
		assert_int_equal(limits.rate_bits, cases[i].want.rate_bits);
		assert_int_equal(limits.quota_bytes, cases[i].want.quota_bytes);
		assert_int_equal(limits.quota_period, cases[i].want.quota_period);
		assert_int_equal(limits.max_connections, cases[i].want.max_connections);
		assert_string_equal(limits.note, cases[i].want.note);
	}
}

static void test_apply_bad(void **state)
{
	static const char *const cases[][2] = {
		{"expires", ""},
		{"expires", "0"},
		{"expires", "-1d"},
		{"expires", "soon"},
		{"expires", "2026-01-01"},
		{"expires", "2030-01-01T00:00:00"},
		{"expires", "2030-01-01x"},
		{"expires", "9223372036854775807"},
		{"rate", ""},
		{"rate", "9999"},
		{"rate", "101G"},
		{"rate", "50Mbit"},
		{"rate", "fast"},
		{"quota", "999"},
		{"quota", "1G/week"},
		{"quota", "1G/"},
		{"quota", "/day"},
		{"quota", "9999999T"},
		{"max_connections", "0"},
		{"max_connections", "1000001"},
		{"max_connections", "4K"},
		{"note", "a\nb"},
		{"note", "\x7f"},
	};
	const struct mt_store_limits before = {
		1, 2, 3, MT_QUOTA_DAY, 4, "keep"}; /* in the order of the struct */
	char long_note[MT_STORE_NOTE_MAX + 2];
	struct mt_store_limits limits = before;
	json_t *args;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(apply(&limits, cases[i][0], cases[i][1], NULL) < 0);
	}
	memset(long_note, 'x', sizeof(long_note));
	long_note[sizeof(long_note) - 1] = '\0';
	assert_true(apply(&limits, "note", long_note, NULL) < 0);
	args = json_pack("{s:i, s:s}", "rate", 5, "note", "new");
	assert_true(mt_client_limits_apply(&limits, NULL, args, NOW, why, sizeof(why)) < 0);
	json_decref(args);
	/* One that is bad among good ones: nothing is changed. */
	args = json_pack("{s:s, s:s, s:s}", "expires", "1d", "rate", "50M", "note", "a\tb");
	assert_true(mt_client_limits_apply(&limits, NULL, args, NOW, why, sizeof(why)) < 0);
	json_decref(args);
	assert_int_equal(limits.expires_at, before.expires_at);
	assert_int_equal(limits.rate_bits, before.rate_bits);
	assert_int_equal(limits.quota_bytes, before.quota_bytes);
	assert_int_equal(limits.max_connections, before.max_connections);
	assert_string_equal(limits.note, before.note);
}

static void test_apply_none(void **state)
{
	struct mt_store_limits limits = {1, 2, 3, MT_QUOTA_DAY, 4, "gone"};
	json_t *args = json_pack("{s:s, s:s, s:s, s:s, s:s}", "expires", "none", "rate", "none",
		"quota", "none", "max_connections", "none", "note", "none");
	size_t count = 0;
	char why[256];

	(void)state;
	assert_int_equal(mt_client_limits_apply(&limits, &count, args, NOW, why, sizeof(why)), 0);
	json_decref(args);
	assert_int_equal(count, 5);
	assert_int_equal(limits.expires_at, 0);
	assert_int_equal(limits.rate_bits, 0);
	assert_int_equal(limits.quota_bytes, 0);
	assert_int_equal(limits.quota_period, MT_QUOTA_TOTAL);
	assert_int_equal(limits.max_connections, 0);
	assert_string_equal(limits.note, "");
	args = json_object();
	assert_int_equal(mt_client_limits_apply(&limits, &count, args, NOW, why, sizeof(why)), 0);
	assert_int_equal(count, 0);
	json_decref(args);
	assert_string_equal(mt_quota_period_text(MT_QUOTA_TOTAL), "none");
	assert_string_equal(mt_quota_period_text(MT_QUOTA_DAY), "day");
	assert_string_equal(mt_quota_period_text(MT_QUOTA_MONTH), "month");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apply_good),
		cmocka_unit_test(test_apply_bad),
		cmocka_unit_test(test_apply_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
