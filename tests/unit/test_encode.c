/* links: proto/wire/encode.c */
#include "proto/wire/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_base64url_encode_vectors(void **state)
{
	/* RFC 4648, section 10, without padding. */
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const char *plain = vectors[i][0];
		size_t len = strlen(plain);
		uint8_t back[8] = {0};
		char text[16];

		mt_base64url_encode(text, (const uint8_t *)plain, len);
		assert_string_equal(text, vectors[i][1]);
		assert_int_equal(strlen(text), MT_BASE64URL_LEN(len));
		assert_int_equal(mt_base64url_decode(back, len, text, strlen(text)), 0);
		assert_memory_equal(back, plain, len);
	}
}

static void test_base64url_decode_all_values(void **state)
{
	uint8_t data[256], back[256];
	char text[MT_BASE64URL_LEN(256) + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(255 - i);
	}
	for (size_t len = 0; len <= sizeof(data); len++) {
		mt_base64url_encode(text, data, len);
		assert_int_equal(strlen(text), MT_BASE64URL_LEN(len));
		assert_int_equal(mt_base64url_decode(back, len, text, strlen(text)), 0);
		assert_memory_equal(back, data, len);
	}
	mt_base64url_encode(text, (const uint8_t *)"\xfb\xff\xbf", 3);
	assert_string_equal(text, "-_-_");
}

static void test_base64url_decode_refuses(void **state)
{
	static const struct {
		const char *text;
		size_t out_len;
	} wrong[] = {
		{"Zg==", 1}, /* padding */
		{"Zg=", 1},
		{"Zh", 1},   /* stray bits */
		{"Zm9", 2},  /* stray bits */
		{"Zm+v", 3}, /* the other alphabet */
		{"Zm/v", 3},
		{"Zm v", 3},
		{"Zm9v", 2}, /* lengths */
		{"Zm9v", 4},
		{"Zm9vY", 3},
		{"Z", 0},
		{"", 1},
		{"Zg", 0},
		{"Zm9v\n", 3},
		{"\xc3\xa9"
		 "ab",
			3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t out[8] = {0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa};

		assert_int_equal(mt_base64url_decode(out, wrong[i].out_len, wrong[i].text,
					 strlen(wrong[i].text)),
			MT_E_MALFORMED);
		assert_int_equal(out[0], 0xaa);
	}
}

static void test_base64url_decode_huge_length(void **state)
{
	uint8_t out[1] = {0xaa};

	(void)state;
	/* 8 * SIZE_MAX / 8 would wrap to the length of an empty text. */
	assert_int_equal(mt_base64url_decode(out, SIZE_MAX / 8 + 1, "", 0), MT_E_MALFORMED);
	assert_int_equal(mt_base64url_decode(out, 1, "Z\0", 2), MT_E_MALFORMED);
	assert_int_equal(out[0], 0xaa);
}

static void test_hex_round_trip(void **state)
{
	uint8_t back[4];
	char text[9];

	(void)state;
	mt_hex_encode(text, (const uint8_t *)"\x00\x9f\xfa\x10", 4);
	assert_string_equal(text, "009ffa10");
	assert_int_equal(mt_hex_decode(back, 4, "009FfA10", 8), 0);
	assert_memory_equal(back, "\x00\x9f\xfa\x10", 4);
	mt_hex_encode(text, NULL, 0);
	assert_string_equal(text, "");
	assert_int_equal(mt_hex_decode(back, 0, "", 0), 0);
}

static void test_hex_decode_refuses(void **state)
{
	uint8_t out[4] = {0xaa, 0xaa, 0xaa, 0xaa};

	(void)state;
	assert_int_equal(mt_hex_decode(out, 1, "0", 1), MT_E_MALFORMED);
	assert_int_equal(mt_hex_decode(out, 1, "000", 3), MT_E_MALFORMED);
	assert_int_equal(mt_hex_decode(out, 1, "0000", 4), MT_E_MALFORMED);
	assert_int_equal(mt_hex_decode(out, 2, "000g", 4), MT_E_MALFORMED);
	assert_int_equal(mt_hex_decode(out, 2, "00-1", 4), MT_E_MALFORMED);
	assert_int_equal(mt_hex_decode(out, SIZE_MAX / 2 + 1, "", 0), MT_E_MALFORMED);
	assert_int_equal(out[0], 0xaa);
}

static void test_wipe_overwrites(void **state)
{
	uint8_t secret[5] = "abcd";

	(void)state;
	mt_wipe(secret, 4);
	assert_memory_equal(secret, "\0\0\0\0", 4);
	mt_wipe(NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64url_encode_vectors),
		cmocka_unit_test(test_base64url_decode_all_values),
		cmocka_unit_test(test_base64url_decode_refuses),
		cmocka_unit_test(test_base64url_decode_huge_length),
		cmocka_unit_test(test_hex_round_trip),
		cmocka_unit_test(test_hex_decode_refuses),
		cmocka_unit_test(test_wipe_overwrites),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
