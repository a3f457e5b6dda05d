/* links: client/socks.c proto/wire/bytes.c proto/wire/addr.c proto/wire/err.c */
#include "client/socks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static const uint8_t name_request[] = {
	5, 1, 0, 3, 11, 'e', 'x', 'a', 'm', 'p', 'l', 'e', '.', 'c', 'o', 'm', 0x01, 0xbb};

/* From a copy of exactly that length: reading past it is seen by the sanitizer. */
static uint8_t *copy_of(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + (len == 0));

	assert_non_null(copy);
	memcpy(copy, data, len);
	return copy;
}

static void test_greeting_decode_every_split(void **state)
{
	static const uint8_t data[] = {5, 3, 2, 0, 1, 'x'};
	bool no_auth = false;
	size_t used = 0;

	(void)state;
	for (size_t len = 0; len < 5; len++) {
		uint8_t *copy = copy_of(data, len);

		assert_int_equal(mt_socks_greeting_decode(&no_auth, &used, copy, len), MT_E_AGAIN);
		free(copy);
	}
	assert_int_equal(mt_socks_greeting_decode(&no_auth, &used, data, sizeof(data)), 0);
	assert_true(no_auth);
	assert_int_equal(used, 5);
}

static void test_greeting_decode_refused(void **state)
{
	static const uint8_t old[] = {4};
	static const uint8_t none[] = {5, 0};
	static const uint8_t password[] = {5, 1, 2};
	bool no_auth = true;
	size_t used = 0;

	(void)state;
	assert_int_equal(
		mt_socks_greeting_decode(&no_auth, &used, old, sizeof(old)), MT_E_MALFORMED);
	assert_int_equal(
		mt_socks_greeting_decode(&no_auth, &used, none, sizeof(none)), MT_E_MALFORMED);
	assert_int_equal(mt_socks_greeting_decode(&no_auth, &used, password, sizeof(password)), 0);
	assert_false(no_auth);
}

static void test_request_decode_every_split(void **state)
{
	struct mt_socks_target target;
	uint8_t command = 0;
	size_t used = 0;

	(void)state;
	for (size_t len = 0; len < sizeof(name_request); len++) {
		uint8_t *copy = copy_of(name_request, len);

		assert_int_equal(
			mt_socks_request_decode(&command, &target, &used, copy, len), MT_E_AGAIN);
		free(copy);
	}
	assert_int_equal(mt_socks_request_decode(
				 &command, &target, &used, name_request, sizeof(name_request)),
		0);
	assert_int_equal(command, MT_SOCKS_CONNECT);
	assert_string_equal(target.host, "example.com");
	assert_int_equal(target.host_len, 11);
	assert_int_equal(target.port, 443);
	assert_int_equal(used, sizeof(name_request));
}

static void test_request_decode_addresses(void **state)
{
	static const uint8_t v4[] = {5, 3, 0, 1, 192, 0, 2, 1, 0, 53};
	uint8_t v6[4 + 16 + 2] = {5, 1, 0, 4, 0x20, 0x01, 0x0d, 0xb8};
	struct mt_socks_target target;
	uint8_t command = 0;
	size_t used = 0;

	(void)state;
	assert_int_equal(mt_socks_request_decode(&command, &target, &used, v4, sizeof(v4)), 0);
	assert_int_equal(command, MT_SOCKS_UDP_ASSOCIATE);
	assert_string_equal(target.host, "192.0.2.1");
	assert_int_equal(target.port, 53);
	v6[19] = 1;
	v6[21] = 80;
	assert_int_equal(mt_socks_request_decode(&command, &target, &used, v6, sizeof(v6)), 0);
	assert_string_equal(target.host, "2001:db8::1");
	assert_int_equal(target.port, 80);
}

static void test_request_decode_refused(void **state)
{
	static const uint8_t version[] = {4, 1};
	static const uint8_t empty[] = {5, 1, 0, 3, 0};
	static const uint8_t type[] = {5, 1, 0, 9};
	struct mt_socks_target target;
	uint8_t command = 0;
	size_t used = 0;

	(void)state;
	assert_int_equal(
		mt_socks_request_decode(&command, &target, &used, version, sizeof(version)),
		MT_E_MALFORMED);
	assert_int_equal(mt_socks_request_decode(&command, &target, &used, empty, sizeof(empty)),
		MT_E_MALFORMED);
	assert_int_equal(mt_socks_request_decode(&command, &target, &used, type, sizeof(type)),
		MT_E_UNSUPPORTED);
}

static void test_reply_encode_forms(void **state)
{
	static const uint8_t none[] = {5, 5, 0, 1, 0, 0, 0, 0, 0, 0};
	static const uint8_t v4[] = {5, 0, 0, 1, 127, 0, 0, 1, 0x12, 0x34};
	uint8_t buf[MT_SOCKS_REPLY_MAX];
	struct mt_addr addr;

	(void)state;
	assert_int_equal(mt_socks_reply_encode(buf, 5, NULL), sizeof(none));
	assert_memory_equal(buf, none, sizeof(none));
	assert_int_equal(mt_addr_parse(&addr, "127.0.0.1:4660"), 0);
	assert_int_equal(mt_socks_reply_encode(buf, 0, &addr), sizeof(v4));
	assert_memory_equal(buf, v4, sizeof(v4));
	assert_int_equal(mt_addr_parse(&addr, "[::1]:1"), 0);
	assert_int_equal(mt_socks_reply_encode(buf, 0, &addr), MT_SOCKS_REPLY_MAX);
	assert_int_equal(buf[3], 4);
}

static void test_udp_decode_forms(void **state)
{
	static const uint8_t good[] = {0, 0, 0, 1, 192, 0, 2, 7, 0, 53, 'q'};
	static const uint8_t fragment[] = {0, 0, 1, 1, 192, 0, 2, 7, 0, 53, 'q'};
	struct mt_socks_target target;
	size_t payload = 0;

	(void)state;
	for (size_t len = 0; len < 10; len++) {
		uint8_t *copy = copy_of(good, len);

		assert_int_equal(mt_socks_udp_decode(&target, &payload, copy, len), MT_E_MALFORMED);
		free(copy);
	}
	assert_int_equal(mt_socks_udp_decode(&target, &payload, good, 10), 0);
	assert_int_equal(payload, 10); /* an empty payload is valid */
	assert_int_equal(mt_socks_udp_decode(&target, &payload, good, sizeof(good)), 0);
	assert_string_equal(target.host, "192.0.2.7");
	assert_int_equal(target.port, 53);
	assert_int_equal(payload, 10);
	assert_int_equal(mt_socks_udp_decode(&target, &payload, fragment, sizeof(fragment)),
		MT_E_UNSUPPORTED);
}

static void test_udp_header_encode_round_trip(void **state)
{
	static const char *const hosts[] = {"192.0.2.7", "2001:db8::7", "resolver.example"};
	uint8_t buf[MT_SOCKS_UDP_HEADER_MAX];
	struct mt_socks_target target;
	size_t payload = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		size_t len = mt_socks_udp_header_encode(
			buf, sizeof(buf), hosts[i], strlen(hosts[i]), 5353);

		assert_true(len > 0);
		assert_int_equal(mt_socks_udp_decode(&target, &payload, buf, len), 0);
		assert_string_equal(target.host, hosts[i]);
		assert_int_equal(target.port, 5353);
		assert_int_equal(payload, len);
		assert_int_equal(
			mt_socks_udp_header_encode(buf, len - 1, hosts[i], strlen(hosts[i]), 5353),
			0);
	}
	assert_int_equal(mt_socks_udp_header_encode(buf, sizeof(buf), "", 0, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting_decode_every_split),
		cmocka_unit_test(test_greeting_decode_refused),
		cmocka_unit_test(test_request_decode_every_split),
		cmocka_unit_test(test_request_decode_addresses),
		cmocka_unit_test(test_request_decode_refused),
		cmocka_unit_test(test_reply_encode_forms),
		cmocka_unit_test(test_udp_decode_forms),
		cmocka_unit_test(test_udp_header_encode_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
