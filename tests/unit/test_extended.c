/* links: proto/wire/extended.c proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/extended.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* The examples of PROTOCOL.md: "hi" whole, and the second of two fragments. */
static const uint8_t whole[] = {0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 53, 1, 'a', 'h', 'i'};
static const uint8_t second[] = {0, 0, 0, 0, 0, 7, 0, 5, 1, 2, 0, 53, 1, 'a', 'i'};

/* Decodes from a copy of exactly that length: reading past it is seen by the sanitizer. */
static int decode(struct mt_extended *out, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + (len == 0));
	int err;

	assert_non_null(copy);
	memcpy(copy, data, len);
	err = mt_extended_decode(out, copy, len);
	free(copy);
	return err;
}

static void test_extended_decode_examples(void **state)
{
	struct mt_extended h;

	(void)state;
	assert_true(mt_extended_is(whole, sizeof(whole)));
	assert_int_equal(mt_extended_decode(&h, whole, sizeof(whole)), 0);
	assert_int_equal(h.session, 7);
	assert_int_equal(h.count, 1);
	assert_int_equal(h.datagram.port, 53);
	assert_int_equal(h.datagram.host_len, 1);
	assert_int_equal(h.datagram.payload_len, 2);
	assert_memory_equal(h.datagram.payload, "hi", 2);
	assert_int_equal(mt_extended_decode(&h, second, sizeof(second)), 0);
	assert_int_equal(h.packet, 5);
	assert_int_equal(h.fragment, 1);
	assert_int_equal(h.count, 2);
}

static void test_extended_decode_every_truncation(void **state)
{
	struct mt_extended h;

	(void)state;
	for (size_t len = 0; len < 14; len++) {
		assert_int_equal(decode(&h, whole, len), MT_E_MALFORMED);
	}
	assert_int_equal(decode(&h, whole, 14), 0); /* empty payload */
	assert_int_equal(h.datagram.payload_len, 0);
	/* A fragment of several is never empty. */
	assert_int_equal(decode(&h, second, 14), MT_E_MALFORMED);
	assert_false(mt_extended_is(whole, 1));
}

static void test_extended_decode_malformed(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {
		{1, 1},   /* not of this form */
		{9, 0},   /* Count 0 */
		{8, 1},   /* Fragment 1 of 1 */
		{11, 0},  /* port 0 */
		{12, 0},  /* HostLen 0 */
		{12, 99}, /* HostLen past the end */
	};
	struct mt_extended h;
	uint8_t data[sizeof(whole)];

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		memcpy(data, whole, sizeof(data));
		data[changes[i].at] = changes[i].value;
		assert_int_equal(decode(&h, data, sizeof(data)), MT_E_MALFORMED);
	}
}

static void test_extended_header_encode_round_trip(void **state)
{
	uint8_t buf[MT_EXTENDED_HEADER_MAX];
	struct mt_extended h;

	(void)state;
	assert_int_equal(mt_extended_decode(&h, second, sizeof(second)), 0);
	assert_int_equal(mt_extended_header_encode(buf, sizeof(buf), &h), sizeof(second) - 1);
	assert_memory_equal(buf, second, sizeof(second) - 1);
	for (size_t cap = 0; cap < sizeof(second) - 1; cap++) {
		assert_int_equal(mt_extended_header_encode(buf, cap, &h), 0);
	}
	h.fragment = 2;
	assert_int_equal(mt_extended_header_encode(buf, sizeof(buf), &h), 0);
	h.fragment = 0;
	h.datagram.port = 0;
	assert_int_equal(mt_extended_header_encode(buf, sizeof(buf), &h), 0);
}

static void test_cut_plan_covers_every_length(void **state)
{
	static const size_t lens[] = {0, 1, 1000, 1200, 1472, 4000, 60000, MT_UDP_PAYLOAD_MAX};
	struct mt_cut cut;

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (size_t max = 1150; max < 1500; max += 7) {
			assert_true(mt_cut_plan(&cut, lens[i], max, 24));
			assert_true(cut.count >= 1 && cut.piece + 24 <= max);
			assert_true(cut.piece * cut.count >= lens[i]);
			/* The last one has something. */
			assert_true(lens[i] == 0 || cut.piece * (size_t)(cut.count - 1) < lens[i]);
		}
	}
	assert_false(mt_cut_plan(&cut, 10, 24, 24));
	assert_true(mt_cut_plan(&cut, 255, 25, 24));
	assert_int_equal(cut.count, 255);
	assert_false(mt_cut_plan(&cut, 256, 25, 24));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extended_decode_examples),
		cmocka_unit_test(test_extended_decode_every_truncation),
		cmocka_unit_test(test_extended_decode_malformed),
		cmocka_unit_test(test_extended_header_encode_round_trip),
		cmocka_unit_test(test_cut_plan_covers_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
