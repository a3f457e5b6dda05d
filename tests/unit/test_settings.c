/* links: proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c */
#include "proto/wire/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct mt_setting *row(enum mt_setting_id id)
{
	return &mt_settings_table()[id];
}

static void assert_normal(enum mt_setting_id id, const char *text, const char *canonical)
{
	char out[MT_SETTING_VALUE_MAX], again[MT_SETTING_VALUE_MAX], why[256] = "";

	if (mt_setting_normalize(row(id), text, out, why, sizeof(why)) != 0) {
		fail_msg("%s", why);
	}
	assert_string_equal(out, canonical);
	assert_string_equal(why, "");
	assert_int_equal(mt_setting_normalize(row(id), out, again, why, sizeof(why)), 0);
	assert_string_equal(again, out);
}

static void assert_refused(enum mt_setting_id id, const char *text, int err)
{
	char out[MT_SETTING_VALUE_MAX] = "untouched", why[256] = "";

	if (mt_setting_normalize(row(id), text, out, why, sizeof(why)) != err) {
		fail_msg("not refused as meant: '%s'", text);
	}
	assert_string_equal(out, "untouched");
	assert_non_null(strstr(why, row(id)->key));
	for (const char *c = why; *c != '\0'; c++) {
		assert_in_range(*c, 0x20, 0x7e);
	}
}

static void test_table_rows(void **state)
{
	(void)state;
	for (int i = 0; i < MT_SETTING_COUNT; i++) {
		const struct mt_setting *s = row((enum mt_setting_id)i);

		assert_int_equal(s->id, i);
		assert_non_null(strchr(s->key, '.'));
		assert_ptr_equal(mt_setting_find(s->key), s);
		assert_non_null(s->unit);
		assert_true(strlen(s->help) > 10 && strlen(s->help) < 80);
		assert_int_equal(strcspn(s->help, "\n\t"), strlen(s->help));
		assert_int_equal(s->type == MT_SETTING_ENUM, s->choices != NULL);
		assert_normal(s->id, s->initial, s->initial);
		assert_string_not_equal(mt_setting_applies_text(s->applies), "unknown");
		for (int j = 0; j < i; j++) {
			assert_string_not_equal(s->key, row((enum mt_setting_id)j)->key);
		}
	}
}

static void test_table_defaults(void **state)
{
	static const char *const defaults[][2] = {
		{"server.bind_addr", "0.0.0.0:443,[::]:443"},
		{"server.workers", "0"},
		{"server.public_addr", ""},
		{"quic.max_connections", "100000"},
		{"quic.max_streams_per_conn", "100"},
		{"quic.idle_timeout_secs", "30"},
		{"quic.max_udp_payload", "16368"},
		{"quic.congestion_control", "bbr"},
		{"quic.max_stream_window", "8Mi"},
		{"quic.max_conn_window", "64Mi"},
		{"quic.enable_0rtt", "off"},
		{"tcp.enabled", "on"},
		{"tcp.bind_addr", ""},
		{"tls.auto_generate", "on"},
		{"metrics.enabled", "on"},
		{"metrics.bind_addr", "127.0.0.1:9090"},
		{"metrics.per_client", "0"},
		{"logging.level", "info"},
		{"logging.format", "json"},
		{"logging.access", "off"},
		{"limits.max_new_conn_per_sec", "10000"},
		{"limits.max_bandwidth_per_conn", "0"},
		{"limits.max_memory_mb", "0"},
		{"access.require_identity", "on"},
		{"access.allow_private", "off"},
	};
	struct mt_settings settings;
	char why[256];

	(void)state;
	assert_int_equal(COUNT(defaults), MT_SETTING_COUNT);
	mt_settings_init(&settings);
	assert_int_equal(mt_settings_check(&settings, why, sizeof(why)), 0);
	for (size_t i = 0; i < COUNT(defaults); i++) {
		const struct mt_setting *s = mt_setting_find(defaults[i][0]);

		assert_non_null(s);
		assert_string_equal(s->initial, defaults[i][1]);
		assert_string_equal(mt_settings_text(&settings, s->id), defaults[i][1]);
	}
}

static void test_setting_find_unknown(void **state)
{
	(void)state;
	assert_null(mt_setting_find(""));
	assert_null(mt_setting_find("server"));
	assert_null(mt_setting_find("server.bind_addr "));
	assert_null(mt_setting_find("Server.bind_addr"));
}

static void test_setting_suggest_nearest(void **state)
{
	char huge[500];

	(void)state;
	assert_string_equal(mt_setting_suggest("quic.max_conections"), "quic.max_connections");
	assert_string_equal(mt_setting_suggest("max_connections"), "quic.max_connections");
	assert_string_equal(mt_setting_suggest("Quic.Max_Connections"), "quic.max_connections");
	assert_string_equal(mt_setting_suggest("logging.levle"), "logging.level");
	assert_string_equal(mt_setting_suggest("worker"), "server.workers");
	assert_string_equal(mt_setting_suggest("quic.max-udp-payload"), "quic.max_udp_payload");
	assert_null(mt_setting_suggest(""));
	assert_null(mt_setting_suggest("x"));
	assert_null(mt_setting_suggest("colour.of.the.sky"));
	memset(huge, 'q', sizeof(huge));
	huge[sizeof(huge) - 1] = '\0';
	assert_null(mt_setting_suggest(huge));
}

static void test_setting_normalize_bool(void **state)
{
	static const char *const on[] = {"on", "true", "yes", "1", "ON", "True", " yes "};
	static const char *const off[] = {"off", "false", "no", "0", "Off", "\tNO"};
	static const char *const wrong[] = {
		"", "2", "o", "onn", "y", "enable", "on off", "01", "on\n"};

	(void)state;
	for (size_t i = 0; i < COUNT(on); i++) {
		assert_normal(MT_SET_ACCESS_ALLOW_PRIVATE, on[i], "on");
	}
	for (size_t i = 0; i < COUNT(off); i++) {
		assert_normal(MT_SET_ACCESS_ALLOW_PRIVATE, off[i], "off");
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_refused(MT_SET_ACCESS_ALLOW_PRIVATE, wrong[i], MT_E_MALFORMED);
	}
}

static void test_setting_normalize_int(void **state)
{
	(void)state;
	assert_normal(MT_SET_SERVER_WORKERS, "0", "0");
	assert_normal(MT_SET_SERVER_WORKERS, "64", "64");
	assert_normal(MT_SET_SERVER_WORKERS, "0000000000000000000000000007", "7");
	assert_normal(MT_SET_QUIC_MAX_UDP_PAYLOAD, "2048", "2048");
	assert_refused(MT_SET_SERVER_WORKERS, "65", MT_E_RANGE);
	assert_refused(MT_SET_QUIC_MAX_STREAMS_PER_CONN, "0", MT_E_RANGE);
	assert_refused(MT_SET_QUIC_MAX_STREAMS_PER_CONN, "65536", MT_E_RANGE);
	assert_refused(MT_SET_QUIC_MAX_UDP_PAYLOAD, "1199", MT_E_RANGE);
	assert_refused(MT_SET_QUIC_MAX_UDP_PAYLOAD, "65528", MT_E_RANGE);
	assert_refused(MT_SET_SERVER_WORKERS, "9223372036854775808", MT_E_RANGE);
	assert_refused(MT_SET_SERVER_WORKERS, "18446744073709551617", MT_E_RANGE);
	assert_refused(MT_SET_SERVER_WORKERS, "99999999999999999999999999999", MT_E_RANGE);
	assert_refused(MT_SET_SERVER_WORKERS, "", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "-1", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "+1", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "1 2", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "1K", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "0x10", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "1.5", MT_E_MALFORMED);
	assert_refused(MT_SET_SERVER_WORKERS, "1e3", MT_E_MALFORMED);
}

static void test_setting_normalize_size(void **state)
{
	const enum mt_setting_id id = MT_SET_QUIC_MAX_CONN_WINDOW;

	(void)state;
	assert_normal(id, "8388608", "8Mi");
	assert_normal(id, "8192Ki", "8Mi");
	assert_normal(id, "1Gi", "1Gi");
	assert_normal(id, "1024Mi", "1Gi");
	assert_normal(id, "50M", "50M");
	assert_normal(id, "50000000", "50M");
	assert_normal(id, "50000K", "50M");
	assert_normal(id, "1G", "1G");
	assert_normal(id, "1000001", "1000001");
	assert_normal(id, "512000000", "512M");
	assert_refused(id, "2Gi", MT_E_RANGE);
	assert_refused(id, "1T", MT_E_RANGE);
	assert_refused(id, "1Ti", MT_E_RANGE);
	assert_refused(id, "255Ki", MT_E_RANGE);
	assert_refused(id, "9223372036854775807Ti", MT_E_RANGE);
	assert_refused(id, "16777216Ti", MT_E_RANGE); /* 2^64 */
	assert_refused(id, "8mi", MT_E_MALFORMED);
	assert_refused(id, "8MiB", MT_E_MALFORMED);
	assert_refused(id, "8 Mi", MT_E_MALFORMED);
	assert_refused(id, "Mi", MT_E_MALFORMED);
	assert_refused(id, "8i", MT_E_MALFORMED);
}

static void test_setting_normalize_duration(void **state)
{
	const enum mt_setting_id id = MT_SET_QUIC_IDLE_TIMEOUT_SECS;

	(void)state;
	assert_normal(id, "30", "30");
	assert_normal(id, "30s", "30");
	assert_normal(id, "2m", "120");
	assert_normal(id, "10m", "600");
	assert_refused(id, "11m", MT_E_RANGE);
	assert_refused(id, "1h", MT_E_RANGE);
	assert_refused(id, "1d", MT_E_RANGE);
	assert_refused(id, "4", MT_E_RANGE);
	assert_refused(id, "9223372036854775807d", MT_E_RANGE);
	assert_refused(id, "30S", MT_E_MALFORMED);
	assert_refused(id, "1m30s", MT_E_MALFORMED);
	assert_refused(id, "30ms", MT_E_MALFORMED);
}

static void test_setting_normalize_enum(void **state)
{
	(void)state;
	assert_normal(MT_SET_QUIC_CONGESTION_CONTROL, "bbr", "bbr");
	assert_normal(MT_SET_QUIC_CONGESTION_CONTROL, "CUBIC", "cubic");
	assert_normal(MT_SET_QUIC_CONGESTION_CONTROL, " reno ", "reno");
	assert_normal(MT_SET_LOGGING_LEVEL, "debug", "debug");
	assert_normal(MT_SET_LOGGING_FORMAT, "pretty", "pretty");
	assert_refused(MT_SET_QUIC_CONGESTION_CONTROL, "", MT_E_MALFORMED);
	assert_refused(MT_SET_QUIC_CONGESTION_CONTROL, "|", MT_E_MALFORMED);
	assert_refused(MT_SET_QUIC_CONGESTION_CONTROL, "bbr|cubic", MT_E_MALFORMED);
	assert_refused(MT_SET_QUIC_CONGESTION_CONTROL, "bb", MT_E_MALFORMED);
	assert_refused(MT_SET_QUIC_CONGESTION_CONTROL, "bbr2", MT_E_MALFORMED);
}

static void test_setting_normalize_addrs(void **state)
{
	const enum mt_setting_id id = MT_SET_SERVER_BIND_ADDR;

	(void)state;
	assert_normal(id, "127.0.0.1:0", "127.0.0.1:0");
	assert_normal(id, " 127.0.0.1:1 , [::1]:01 ", "127.0.0.1:1,[::1]:1");
	assert_normal(id, "127.0.0.1:0,127.0.0.1:0", "127.0.0.1:0,127.0.0.1:0");
	assert_normal(id, "[0:0::0]:443", "[::]:443");
	assert_normal(id,
		"1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,1.1.1.1:4,1.1.1.1:5,1.1.1.1:6,1.1.1.1:7,1.1.1.1:8",
		"1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,1.1.1.1:4,1.1.1.1:5,1.1.1.1:6,1.1.1.1:7,1.1.1.1:8");
	assert_refused(id,
		"1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,1.1.1.1:4,1.1.1.1:5,1.1.1.1:6,1.1.1.1:7,1.1.1.1:8,1."
		"1.1.1:9",
		MT_E_LIMIT);
	assert_refused(id, "127.0.0.1:1,127.0.0.1:1", MT_E_EXISTS);
	assert_refused(id, "[::1]:1,[0::1]:01", MT_E_EXISTS);
	assert_refused(id, "", MT_E_RANGE);
	assert_refused(id, "  ", MT_E_RANGE);
	assert_refused(id, ",", MT_E_MALFORMED);
	assert_refused(id, "127.0.0.1:1,", MT_E_MALFORMED);
	assert_refused(id, ",127.0.0.1:1", MT_E_MALFORMED);
	assert_refused(id, "127.0.0.1:1,,127.0.0.1:2", MT_E_MALFORMED);
	assert_refused(id, "127.0.0.1:1 127.0.0.1:2", MT_E_MALFORMED);
	assert_refused(id, "localhost:443", MT_E_MALFORMED);
	assert_refused(id, "127.0.0.1", MT_E_MALFORMED);
	assert_refused(id, ":443", MT_E_MALFORMED);
	assert_refused(MT_SET_METRICS_BIND_ADDR, "127.0.0.1:1,127.0.0.1:2", MT_E_LIMIT);
}

static void test_setting_normalize_addrs_longest(void **state)
{
	/* Eight of the longest addresses fit a value. */
	char text[MT_SETTING_VALUE_MAX] = "",
	     one[] = "[1111:1111:1111:1111:1111:1111:1111:1110%1111111111]:11111,";
	const size_t len = sizeof(one) - 1;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		one[39] = (char)('0' + i);
		memcpy(text + i * len, one, len);
		text[(i + 1) * len - 1] = '\0';
		assert_normal(MT_SET_SERVER_BIND_ADDR, text, text);
		text[(i + 1) * len - 1] = ',';
	}
}

static void test_setting_normalize_public_addr(void **state)
{
	static const char *const right[] = {"", "vpn.example", "vpn.example:443", "192.0.2.1",
		"192.0.2.1:1", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:65535"};
	static const char *const wrong[] = {"a b", "a:0", "a:65536", "a:", ":1", "[::1", "a,b",
		"http://a", "a/b", "a\nb", "1.2.3.4.5"};

	(void)state;
	for (size_t i = 0; i < COUNT(right); i++) {
		assert_normal(MT_SET_SERVER_PUBLIC_ADDR, right[i], right[i]);
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_refused(MT_SET_SERVER_PUBLIC_ADDR, wrong[i], MT_E_MALFORMED);
	}
}

static void test_setting_normalize_overlong(void **state)
{
	char text[3 * MT_SETTING_VALUE_MAX];

	(void)state;
	memset(text, '1', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < MT_SETTING_COUNT; i++) {
		assert_refused((enum mt_setting_id)i, text, MT_E_TOO_LONG);
	}
	/* The value in the sentence is cut and made printable. */
	memset(text, 0x1b, 400);
	text[400] = '\0';
	for (int i = 0; i < MT_SETTING_COUNT; i++) {
		char out[MT_SETTING_VALUE_MAX], why[256];

		assert_true(mt_setting_normalize(
				    row((enum mt_setting_id)i), text, out, why, sizeof(why)) < 0);
		assert_null(strchr(why, 0x1b));
	}
}

static void test_setting_normalize_explains(void **state)
{
	char out[MT_SETTING_VALUE_MAX], why[256], tiny[8] = "1234567";

	(void)state;
	assert_int_equal(mt_setting_normalize(
				 row(MT_SET_QUIC_MAX_STREAMS_PER_CONN), "0", out, why, sizeof(why)),
		MT_E_RANGE);
	assert_string_equal(
		why, "quic.max_streams_per_conn does not take '0': expected 1 to 65535 streams");
	assert_int_equal(
		mt_setting_normalize(row(MT_SET_LOGGING_LEVEL), "loud", out, why, sizeof(why)),
		MT_E_MALFORMED);
	assert_string_equal(why,
		"logging.level does not take 'loud': expected one of error, warn, info, debug");
	assert_int_equal(
		mt_setting_normalize(row(MT_SET_LOGGING_LEVEL), "loud", out, tiny, sizeof(tiny)),
		MT_E_MALFORMED);
	assert_string_equal(tiny, "logging");
}

static void test_settings_typed_values(void **state)
{
	struct mt_settings settings;
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];

	(void)state;
	mt_settings_init(&settings);
	assert_true(mt_settings_bool(&settings, MT_SET_METRICS_ENABLED));
	assert_false(mt_settings_bool(&settings, MT_SET_ACCESS_ALLOW_PRIVATE));
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_MAX_CONNECTIONS), 100000);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_MAX_STREAM_WINDOW), 8388608);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 30);
	assert_int_equal(mt_settings_addrs(&settings, MT_SET_SERVER_BIND_ADDR, addrs, 8), 2);
	assert_int_equal(mt_addr_port(&addrs[1]), 443);
	assert_true(mt_addr_is_any(&addrs[0]) && mt_addr_is_any(&addrs[1]));
	assert_int_equal(mt_settings_addrs(&settings, MT_SET_SERVER_BIND_ADDR, addrs, 1), 1);
	assert_int_equal(mt_settings_addrs(&settings, MT_SET_SERVER_BIND_ADDR, NULL, 0), 0);
	assert_int_equal(mt_settings_addrs(&settings, MT_SET_METRICS_BIND_ADDR, addrs, 8), 1);
	assert_int_equal(mt_addr_port(&addrs[0]), 9090);
}

static void test_settings_check_windows(void **state)
{
	struct mt_settings settings;
	char why[256] = "";

	(void)state;
	mt_settings_init(&settings);
	memcpy(settings.text[MT_SET_QUIC_MAX_CONN_WINDOW], "8Mi", 4);
	assert_int_equal(mt_settings_check(&settings, why, sizeof(why)), 0);
	memcpy(settings.text[MT_SET_QUIC_MAX_CONN_WINDOW], "4Mi", 4);
	assert_int_equal(mt_settings_check(&settings, why, sizeof(why)), MT_E_RANGE);
	assert_string_equal(
		why, "quic.max_conn_window (4Mi) must not be below quic.max_stream_window (8Mi)");
}

static void test_settings_check_bandwidth(void **state)
{
	struct mt_settings settings;
	char why[256] = "";

	(void)state;
	mt_settings_init(&settings);
	memcpy(settings.text[MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN], "10K", 4);
	assert_int_equal(mt_settings_check(&settings, why, sizeof(why)), 0);
	memcpy(settings.text[MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN], "100", 4);
	assert_int_equal(mt_settings_check(&settings, why, sizeof(why)), MT_E_RANGE);
	assert_non_null(strstr(why, "bits per second"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_rows),
		cmocka_unit_test(test_table_defaults),
		cmocka_unit_test(test_setting_find_unknown),
		cmocka_unit_test(test_setting_suggest_nearest),
		cmocka_unit_test(test_setting_normalize_bool),
		cmocka_unit_test(test_setting_normalize_int),
		cmocka_unit_test(test_setting_normalize_size),
		cmocka_unit_test(test_setting_normalize_duration),
		cmocka_unit_test(test_setting_normalize_enum),
		cmocka_unit_test(test_setting_normalize_addrs),
		cmocka_unit_test(test_setting_normalize_addrs_longest),
		cmocka_unit_test(test_setting_normalize_public_addr),
		cmocka_unit_test(test_setting_normalize_overlong),
		cmocka_unit_test(test_setting_normalize_explains),
		cmocka_unit_test(test_settings_check_bandwidth),
		cmocka_unit_test(test_settings_typed_values),
		cmocka_unit_test(test_settings_check_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
