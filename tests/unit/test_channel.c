/* links: proto/wire/channel.c proto/wire/bytes.c proto/wire/encode.c */
#include "proto/wire/channel.h"

#include "proto/wire/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The messages of PROTOCOL.md's example. */
static const struct {
	const char *hex;
	struct mt_channel_message msg;
} examples[] = {
	{"00110101000000000000000006"
	 "64656d6f2f31",
		{.type = MT_CHANNEL_HELLO, .version = 1, .text = "demo/1", .text_len = 6}},
	{"001a010100000000000000640f"
	 "6d7974756e6e656c642f302e312e30",
		{.type = MT_CHANNEL_HELLO,
			.version = 1,
			.max_streams = 100,
			.text = "mytunneld/0.1.0",
			.text_len = 15}},
	{"0024010100000003000000640f"
	 "6d7974756e6e656c642f302e312e3001008f2c51d00b7e93a4",
		{.type = MT_CHANNEL_HELLO,
			.version = 1,
			.capabilities = MT_CAP_EXTENDED_UDP | MT_CAP_UDP_STREAM,
			.max_streams = 100,
			.text = "mytunneld/0.1.0",
			.text_len = 15,
			.max_sessions = 256,
			.trace = 0x8f2c51d00b7e93a4}},
	{"00050600000007", {.type = MT_CHANNEL_SESSION_END, .session = 7}},
	{"000902000000003b9aca00", {.type = MT_CHANNEL_PING, .sent_ns = 1000000000}},
	{"001103000000003b9aca000000000000002710",
		{.type = MT_CHANNEL_PONG, .sent_ns = 1000000000, .held_ns = 10000}},
	{"000404000100", {.type = MT_CHANNEL_NOTICE, .code = MT_NOTICE_DRAINING, .text = ""}},
	{"000d05000000010772657374617274", {.type = MT_CHANNEL_CLOSING,
						   .code = MT_APP_SHUTDOWN,
						   .text = "restart",
						   .text_len = 7}},
};

static void assert_same(const struct mt_channel_message *a, const struct mt_channel_message *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->capabilities, b->capabilities);
	assert_int_equal(a->max_streams, b->max_streams);
	assert_int_equal(a->max_sessions, b->max_sessions);
	assert_int_equal(a->session, b->session);
	assert_true(a->trace == b->trace);
	assert_true(a->sent_ns == b->sent_ns);
	assert_true(a->held_ns == b->held_ns);
	assert_int_equal(a->code, b->code);
	assert_int_equal(a->text_len, b->text_len);
	if (a->text_len > 0) {
		assert_memory_equal(a->text, b->text, a->text_len);
	}
}

static int decode(struct mt_channel_message *out, size_t *used, const void *data, size_t len)
{
	static uint8_t *copy;

	/* The copy outlives the call, since texts borrow from it. */
	free(copy);
	copy = malloc(len + (len == 0));
	assert_non_null(copy);
	memcpy(copy, data, len);
	return mt_channel_decode(out, used, copy, len);
}

static void test_channel_examples_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(examples); i++) {
		uint8_t wire[64], buf[64];
		size_t len = strlen(examples[i].hex) / 2, used = 0;
		struct mt_channel_message msg;

		assert_int_equal(mt_hex_decode(wire, len, examples[i].hex, 2 * len), 0);
		assert_int_equal(mt_channel_encode(buf, sizeof(buf), &examples[i].msg), len);
		assert_memory_equal(buf, wire, len);
		for (size_t part = 0; part < len; part++) {
			assert_int_equal(decode(&msg, &used, wire, part), MT_E_AGAIN);
		}
		assert_int_equal(decode(&msg, &used, wire, len), 0);
		assert_int_equal(used, len);
		assert_same(&msg, &examples[i].msg);
		for (size_t cap = 0; cap < len; cap++) {
			assert_int_equal(mt_channel_encode(buf, cap, &examples[i].msg), 0);
		}
	}
}

static void test_channel_decode_short_bodies(void **state)
{
	(void)state;
	/* Every message with its body cut and a length that fits the cut. */
	for (size_t i = 0; i < COUNT(examples); i++) {
		uint8_t buf[64];
		size_t len = mt_channel_encode(buf, sizeof(buf), &examples[i].msg);

		/* The last fields of a Hello may be missing. */
		len -= examples[i].msg.max_sessions > 0 ? 2 : 0;
		len -= examples[i].msg.trace != 0 ? 8 : 0;
		for (size_t cut = 3; cut < len; cut++) {
			struct mt_channel_message msg = {.type = 77};
			size_t used = 0;

			buf[1] = (uint8_t)(cut - 2);
			assert_int_equal(decode(&msg, &used, buf, cut), MT_E_MALFORMED);
			assert_int_equal(msg.type, 77);
			assert_int_equal(used, 0);
		}
	}
}

static void test_channel_decode_extra_bytes_ignored(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(examples); i++) {
		uint8_t buf[80] = {0};
		size_t len = mt_channel_encode(buf, sizeof(buf), &examples[i].msg) + 5, used = 0;
		struct mt_channel_message msg;

		buf[1] = (uint8_t)(len - 2);
		assert_int_equal(decode(&msg, &used, buf, sizeof(buf)), 0);
		assert_int_equal(used, len);
		assert_same(&msg, &examples[i].msg);
	}
}

static void test_channel_decode_unknown_type(void **state)
{
	struct mt_channel_message msg;
	size_t used = 0;

	(void)state;
	assert_int_equal(decode(&msg, &used, "\x00\x01\x7f\x00", 4), 0);
	assert_int_equal(used, 3);
	assert_int_equal(msg.type, 0x7f);
	assert_int_equal(msg.text_len, 0);
	assert_int_equal(decode(&msg, &used, "\x00\x03\x00\xff\xff", 5), 0);
	assert_int_equal(used, 5);
	assert_int_equal(msg.type, 0);
}

static void test_channel_decode_length_bounds(void **state)
{
	uint8_t buf[MT_CHANNEL_MESSAGE_MAX] = {0x03, 0xfe, 0x99};
	struct mt_channel_message msg;
	size_t used = 0;

	(void)state;
	assert_int_equal(decode(&msg, &used, buf, sizeof(buf) - 1), MT_E_AGAIN);
	assert_int_equal(decode(&msg, &used, buf, sizeof(buf)), 0);
	assert_int_equal(used, sizeof(buf));
	/* Refused at once, not after waiting for bytes that may never come. */
	assert_int_equal(decode(&msg, &used, "\x03\xff", 2), MT_E_MALFORMED);
	assert_int_equal(decode(&msg, &used, "\xff\xff\x01", 3), MT_E_MALFORMED);
	assert_int_equal(decode(&msg, &used, "\x00\x00", 2), MT_E_MALFORMED);
	assert_int_equal(decode(&msg, &used, "\x00", 1), MT_E_AGAIN);
	assert_int_equal(mt_channel_decode(&msg, &used, NULL, 0), MT_E_AGAIN);
}

static void test_channel_encode_longest_text(void **state)
{
	char text[MT_CHANNEL_TEXT_MAX];
	struct mt_channel_message msg = {.type = MT_CHANNEL_HELLO,
					  .version = 255,
					  .capabilities = UINT32_MAX,
					  .max_streams = UINT32_MAX,
					  .text = text,
					  .text_len = sizeof(text)},
				  back;
	uint8_t buf[MT_CHANNEL_MESSAGE_MAX];
	size_t used = 0, len = 0;

	(void)state;
	memset(text, 0xff, sizeof(text));
	len = mt_channel_encode(buf, sizeof(buf), &msg);
	assert_int_equal(len, 2 + 1 + 1 + 4 + 4 + 1 + 255);
	assert_int_equal(decode(&back, &used, buf, len), 0);
	assert_same(&back, &msg);
}

static void test_channel_encode_refuses(void **state)
{
	struct mt_channel_message unknown = {.type = 0x7f}, none = {.type = 0};
	struct mt_channel_message wide = {.type = MT_CHANNEL_NOTICE, .code = 0x10000};
	struct mt_channel_message no_text = {.type = MT_CHANNEL_NOTICE, .text_len = 3};
	uint8_t buf[64];

	(void)state;
	assert_int_equal(mt_channel_encode(buf, sizeof(buf), &unknown), 0);
	assert_int_equal(mt_channel_encode(buf, sizeof(buf), &none), 0);
	assert_int_equal(mt_channel_encode(buf, sizeof(buf), &wide), 0);
	assert_int_equal(mt_channel_encode(buf, sizeof(buf), &no_text), 0);
	wide.code = 0xffff;
	assert_int_equal(mt_channel_encode(buf, sizeof(buf), &wide), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_channel_examples_both_ways),
		cmocka_unit_test(test_channel_decode_short_bodies),
		cmocka_unit_test(test_channel_decode_extra_bytes_ignored),
		cmocka_unit_test(test_channel_decode_unknown_type),
		cmocka_unit_test(test_channel_decode_length_bounds),
		cmocka_unit_test(test_channel_encode_longest_text),
		cmocka_unit_test(test_channel_encode_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
