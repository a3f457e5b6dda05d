/* links: web/assets.c */
#include "web/assets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* In the place of what the build makes. */
const struct mt_web_asset mt_web_assets[] = {
	{"/", "text/html", "W/\"1-2\"", {NULL, 0}, {NULL, 0}},
	{"/ui/style.css", "text/css", "W/\"3-4\"", {NULL, 0}, {NULL, 0}},
};
const size_t mt_web_asset_count = 2;

static void test_find_by_whole_path(void **state)
{
	(void)state;
	assert_ptr_equal(mt_web_asset_find("/"), &mt_web_assets[0]);
	assert_ptr_equal(mt_web_asset_find("/ui/style.css"), &mt_web_assets[1]);
	assert_null(mt_web_asset_find("/ui/"));
	assert_null(mt_web_asset_find("/ui/style.css/"));
	assert_null(mt_web_asset_find("/ui/../ui/style.css"));
	assert_null(mt_web_asset_find(""));
}

static void test_accepts_gzip_yes(void **state)
{
	static const char *const good[] = {"gzip", "GZip", "gzip, deflate, br", "deflate,gzip",
		"br;q=1.0, gzip;q=0.8", "gzip ; q=0.001", "*", "identity, *;q=0.5", " ,, gzip",
		"gzip;q=1", "*;q=0, gzip", "gzip;q=0.5;level=9"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(mt_web_accepts_gzip(good[i]));
	}
}

static void test_accepts_gzip_no(void **state)
{
	static const char *const bad[] = {"", "identity", "gzip;q=0", "gzip;q=0.000", "*;q=0",
		"gzip;Q=0, *", "xgzip", "gzipx", "deflate, br", "gzip;q=0., *;q=1", ",", "q=gzip",
		"gzip;q=0;level=9"};

	(void)state;
	assert_false(mt_web_accepts_gzip(NULL));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(mt_web_accepts_gzip(bad[i]));
	}
}

static void test_etag_matches(void **state)
{
	(void)state;
	assert_true(mt_web_etag_matches("\"1-2\"", "\"1-2\""));
	assert_true(mt_web_etag_matches("\"x\", W/\"1-2\"", "\"1-2\""));
	assert_true(mt_web_etag_matches("\"1-2\"", "W/\"1-2\""));
	assert_true(mt_web_etag_matches("W/\"1-2\"", "W/\"1-2\""));
	assert_true(mt_web_etag_matches("*", "\"1-2\""));
	assert_false(mt_web_etag_matches(NULL, "\"1-2\""));
	assert_false(mt_web_etag_matches("", "\"1-2\""));
	assert_false(mt_web_etag_matches("\"1-2", "\"1-2\""));
	assert_false(mt_web_etag_matches("W/", "\"1-2\""));
	assert_false(mt_web_etag_matches("\"1-23\"", "\"1-2\""));
}

static void test_policy_allows_nothing_inline(void **state)
{
	(void)state;
	assert_null(strstr(MT_WEB_ASSET_POLICY, "unsafe"));
	assert_null(strstr(MT_WEB_ASSET_POLICY, "http"));
	assert_null(strchr(MT_WEB_ASSET_POLICY, '*'));
	assert_non_null(strstr(MT_WEB_ASSET_POLICY, "default-src 'none';"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_by_whole_path),
		cmocka_unit_test(test_accepts_gzip_yes),
		cmocka_unit_test(test_accepts_gzip_no),
		cmocka_unit_test(test_etag_matches),
		cmocka_unit_test(test_policy_allows_nothing_inline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
