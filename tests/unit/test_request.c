/* links: proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The first example of PROTOCOL.md. */
static const uint8_t example[] = {
	0x01, 0x01, 0xbb, 0x0b, 'e', 'x', 'a', 'm', 'p', 'l', 'e', '.', 'c', 'o', 'm'};

/* Decodes from a copy of exactly that length: reading past it is seen by the sanitizer. */
static int decode(struct mt_request *out, size_t *used, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + (len == 0));
	int err = 0;

	assert_non_null(copy);
	memcpy(copy, data, len);
	err = mt_request_decode(out, used, copy, len);
	free(copy);
	return err;
}

static void test_request_decode_every_split(void **state)
{
	uint8_t longest[MT_REQUEST_MAX + 3];
	struct mt_request request;
	size_t used = 0;

	(void)state;
	for (size_t len = 0; len < sizeof(example); len++) {
		assert_int_equal(decode(&request, &used, example, len), MT_E_AGAIN);
		assert_int_equal(used, 0);
	}
	assert_int_equal(decode(&request, &used, example, sizeof(example)), 0);
	assert_int_equal(used, sizeof(example));
	assert_int_equal(request.type, MT_REQUEST_TCP);
	assert_int_equal(request.port, 443);
	assert_int_equal(request.host_len, 11);
	assert_string_equal(request.host, "example.com");

	/* The longest host, with payload right behind it. */
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "\x01\xff\xff\xff", 4);
	for (size_t len = 0; len < MT_REQUEST_MAX; len++) {
		assert_int_equal(decode(&request, &used, longest, len), MT_E_AGAIN);
	}
	for (size_t len = MT_REQUEST_MAX; len <= sizeof(longest); len++) {
		assert_int_equal(decode(&request, &used, longest, len), 0);
		assert_int_equal(used, MT_REQUEST_MAX);
		assert_int_equal(request.host_len, 255);
		assert_int_equal(request.port, 65535);
		assert_int_equal(strlen(request.host), 255);
	}
}

static void test_request_decode_control(void **state)
{
	struct mt_request request;
	size_t used = 0;

	(void)state;
	assert_int_equal(decode(&request, &used, (const uint8_t *)"\x02\x00\x11", 3), 0);
	assert_int_equal(used, 1);
	assert_int_equal(request.type, MT_REQUEST_CONTROL);
}

static void test_request_decode_unknown_type_at_first_byte(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		uint8_t byte = (uint8_t)type;
		struct mt_request request;
		size_t used = 0;

		if (type >= MT_REQUEST_TCP && type <= MT_REQUEST_UDP_STREAM) {
			continue;
		}
		assert_int_equal(decode(&request, &used, &byte, 1), MT_E_UNSUPPORTED);
		assert_int_equal(request.type, type);
		assert_int_equal(used, 0);
	}
}

static void test_request_decode_malformed_as_soon_as_seen(void **state)
{
	struct mt_request request;
	size_t used = 0;

	(void)state;
	assert_int_equal(
		decode(&request, &used, (const uint8_t *)"\x01\x00\x00", 3), MT_E_MALFORMED);
	assert_int_equal(request.type, MT_REQUEST_TCP);
	assert_int_equal(
		decode(&request, &used, (const uint8_t *)"\x01\x00\x01\x00", 4), MT_E_MALFORMED);
	assert_int_equal(decode(&request, &used,
				 (const uint8_t *)"\x01\x00\x00\x01"
						  "a",
				 5),
		MT_E_MALFORMED);
	assert_int_equal(used, 0);
}

static void test_request_decode_keeps_nul_in_host(void **state)
{
	struct mt_request request;
	size_t used = 0;

	(void)state;
	assert_int_equal(decode(&request, &used,
				 (const uint8_t *)"\x01\x00\x50\x03"
						  "a\0b",
				 7),
		0);
	assert_int_equal(request.host_len, 3);
	assert_memory_equal(request.host, "a\0b", 4);
}

static void test_request_encode_examples(void **state)
{
	uint8_t buf[MT_REQUEST_MAX + 1];
	char host[300];

	(void)state;
	assert_int_equal(
		mt_request_encode(buf, sizeof(buf), 443, "example.com", 11), sizeof(example));
	assert_memory_equal(buf, example, sizeof(example));
	assert_int_equal(mt_request_encode(buf, sizeof(buf), 22, "2001:db8::1", 11), 15);
	assert_memory_equal(buf,
		"\x01\x00\x16\x0b"
		"2001:db8::1",
		15);

	memset(host, 'a', sizeof(host));
	assert_int_equal(mt_request_encode(buf, MT_REQUEST_MAX, 1, host, 255), MT_REQUEST_MAX);
	assert_int_equal(mt_request_encode(buf, MT_REQUEST_MAX - 1, 1, host, 255), 0);
	assert_int_equal(mt_request_encode(buf, sizeof(buf), 1, host, 256), 0);
	assert_int_equal(mt_request_encode(buf, sizeof(buf), 1, host, 0), 0);
	assert_int_equal(mt_request_encode(buf, sizeof(buf), 0, host, 1), 0);
	assert_int_equal(mt_request_encode(NULL, 0, 1, host, 1), 0);
}

static void test_datagram_decode_lengths(void **state)
{
	/* The datagram of PROTOCOL.md's example. */
	static const uint8_t whole[] = "\x00\x35\x0a"
				       "192.0.2.53"
				       "hi";
	const size_t header = 13;

	(void)state;
	for (size_t len = 0; len < sizeof(whole); len++) {
		uint8_t *copy = malloc(len + (len == 0));
		struct mt_datagram d;
		int err = 0;

		assert_non_null(copy);
		memcpy(copy, whole, len);
		err = mt_datagram_decode(&d, copy, len);
		if (len < header) {
			assert_int_equal(err, MT_E_MALFORMED);
		} else {
			assert_int_equal(err, 0);
			assert_int_equal(d.port, 53);
			assert_int_equal(d.host_len, 10);
			assert_memory_equal(d.host, "192.0.2.53", 10);
			assert_ptr_equal(d.payload, copy + header);
			assert_int_equal(d.payload_len, len - header);
		}
		free(copy);
	}
}

static void test_datagram_decode_refuses(void **state)
{
	struct mt_datagram d = {.port = 7};

	(void)state;
	assert_int_equal(mt_datagram_decode(&d, NULL, 0), MT_E_MALFORMED);
	assert_int_equal(mt_datagram_decode(&d, (const uint8_t *)"\0\0\0", 3), MT_E_MALFORMED);
	assert_int_equal(mt_datagram_decode(&d, (const uint8_t *)"\0\1\0a", 4), MT_E_MALFORMED);
	assert_int_equal(mt_datagram_decode(&d, (const uint8_t *)"\0\1\2a", 4), MT_E_MALFORMED);
	assert_int_equal(mt_datagram_decode(&d,
				 (const uint8_t *)"\0\1\xff"
						  "ab",
				 5),
		MT_E_MALFORMED);
	assert_int_equal(mt_datagram_decode(&d, (const uint8_t *)"\0\0\1a", 4), MT_E_UNSUPPORTED);
	assert_int_equal(
		mt_datagram_decode(&d, (const uint8_t *)"\0\0\0\1\0\2\0\1", 8), MT_E_UNSUPPORTED);
	assert_int_equal(d.port, 7);
	assert_int_equal(mt_datagram_decode(&d, (const uint8_t *)"\0\x09\1a", 4), 0);
	assert_int_equal(d.payload_len, 0);
}

static void test_datagram_header_encode_examples(void **state)
{
	uint8_t buf[MT_DATAGRAM_HEADER_MAX + 1];
	char host[256];

	(void)state;
	assert_int_equal(mt_datagram_header_encode(buf, sizeof(buf), 53, "192.0.2.53", 10), 13);
	assert_memory_equal(buf,
		"\x00\x35\x0a"
		"192.0.2.53",
		13);
	memset(host, 'a', sizeof(host));
	assert_int_equal(mt_datagram_header_encode(buf, MT_DATAGRAM_HEADER_MAX, 1, host, 255),
		MT_DATAGRAM_HEADER_MAX);
	assert_int_equal(
		mt_datagram_header_encode(buf, MT_DATAGRAM_HEADER_MAX - 1, 1, host, 255), 0);
	assert_int_equal(mt_datagram_header_encode(buf, sizeof(buf), 1, host, 256), 0);
	assert_int_equal(mt_datagram_header_encode(buf, sizeof(buf), 1, host, 0), 0);
	assert_int_equal(mt_datagram_header_encode(buf, sizeof(buf), 0, host, 1), 0);
}

static void test_status_from_error_table(void **state)
{
	static const struct {
		int err;
		enum mt_status status;
	} cases[] = {
		{0, MT_STATUS_OK},
		{-ENOMEM, MT_STATUS_GENERAL_FAILURE},
		{-EMFILE, MT_STATUS_GENERAL_FAILURE},
		{MT_E_LIMIT, MT_STATUS_GENERAL_FAILURE},
		{MT_E_DENIED, MT_STATUS_NOT_ALLOWED},
		{-EACCES, MT_STATUS_NOT_ALLOWED},
		{-ENETUNREACH, MT_STATUS_NETWORK_UNREACHABLE},
		{-EADDRNOTAVAIL, MT_STATUS_NETWORK_UNREACHABLE},
		{-EHOSTUNREACH, MT_STATUS_HOST_UNREACHABLE},
		{MT_E_DNS, MT_STATUS_HOST_UNREACHABLE},
		{-ECONNREFUSED, MT_STATUS_REFUSED},
		{-ECONNRESET, MT_STATUS_REFUSED},
		{-ETIMEDOUT, MT_STATUS_TIMED_OUT},
		{MT_E_TIMEOUT, MT_STATUS_TIMED_OUT},
		{MT_E_UNSUPPORTED, MT_STATUS_TYPE_NOT_SUPPORTED},
		{MT_E_MALFORMED, MT_STATUS_ADDRESS_NOT_SUPPORTED},
		{-EAFNOSUPPORT, MT_STATUS_ADDRESS_NOT_SUPPORTED},
		{1, MT_STATUS_GENERAL_FAILURE},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(mt_status_from_error(cases[i].err), cases[i].status);
	}
}

static void test_status_text_bounds(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(strcmp(mt_status_text((uint8_t)i), "unknown") == 0, i > 8);
	}
	for (uint64_t i = 0; i < 256; i++) {
		assert_int_equal(strcmp(mt_app_code_text(i), "unknown") == 0, i > 10);
	}
	assert_string_equal(mt_app_code_text(UINT64_MAX), "unknown");
	assert_string_equal(mt_app_code_text(UINT64_C(1) << 32), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_decode_every_split),
		cmocka_unit_test(test_request_decode_control),
		cmocka_unit_test(test_request_decode_unknown_type_at_first_byte),
		cmocka_unit_test(test_request_decode_malformed_as_soon_as_seen),
		cmocka_unit_test(test_request_decode_keeps_nul_in_host),
		cmocka_unit_test(test_request_encode_examples),
		cmocka_unit_test(test_datagram_decode_lengths),
		cmocka_unit_test(test_datagram_decode_refuses),
		cmocka_unit_test(test_datagram_header_encode_examples),
		cmocka_unit_test(test_status_from_error_table),
		cmocka_unit_test(test_status_text_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
