/* links: proto/wire/bytes.c */
#include "proto/wire/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static const uint8_t sample[] = {
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f};

static void test_reader_numbers(void **state)
{
	struct mt_reader r;

	(void)state;
	mt_reader_init(&r, sample, sizeof(sample));
	assert_int_equal(mt_reader_u8(&r), 0x01);
	assert_int_equal(mt_reader_u16(&r), 0x0203);
	assert_int_equal(mt_reader_u32(&r), 0x04050607);
	assert_true(mt_reader_u64(&r) == 0x08090a0b0c0d0e0f);
	assert_int_equal(mt_reader_left(&r), 0);
	assert_false(r.failed);
}

static void test_reader_overrun_sticks(void **state)
{
	struct mt_reader r;

	(void)state;
	mt_reader_init(&r, sample, 3);
	assert_int_equal(mt_reader_u32(&r), 0);
	assert_true(r.failed);
	/* Though one byte would have been there. */
	assert_int_equal(mt_reader_u8(&r), 0);
	assert_null(mt_reader_bytes(&r, 0));
	assert_int_equal(mt_reader_left(&r), 0);
}

static void test_reader_bytes_borrows(void **state)
{
	struct mt_reader r;

	(void)state;
	mt_reader_init(&r, sample, 4);
	assert_ptr_equal(mt_reader_bytes(&r, 0), sample);
	assert_ptr_equal(mt_reader_bytes(&r, 4), sample);
	assert_ptr_equal(mt_reader_bytes(&r, 0), sample + 4);
	assert_null(mt_reader_bytes(&r, 1));
	assert_true(r.failed);
}

static void test_reader_huge_length(void **state)
{
	struct mt_reader r;

	(void)state;
	mt_reader_init(&r, sample, 4);
	assert_null(mt_reader_bytes(&r, SIZE_MAX));
	assert_true(r.failed);
}

static void test_reader_null_is_empty(void **state)
{
	struct mt_reader r;

	(void)state;
	mt_reader_init(&r, NULL, 0);
	assert_int_equal(mt_reader_left(&r), 0);
	assert_non_null(mt_reader_bytes(&r, 0));
	assert_int_equal(mt_reader_u8(&r), 0);
	assert_true(r.failed);
}

static void test_writer_numbers(void **state)
{
	uint8_t buf[sizeof(sample)];
	struct mt_writer w;

	(void)state;
	mt_writer_init(&w, buf, sizeof(buf));
	mt_writer_u8(&w, 0x01);
	mt_writer_u16(&w, 0x0203);
	mt_writer_u32(&w, 0x04050607);
	mt_writer_u64(&w, 0x08090a0b0c0d0e0f);
	assert_false(w.failed);
	assert_int_equal(mt_writer_len(&w), sizeof(sample));
	assert_memory_equal(buf, sample, sizeof(sample));
}

static void test_writer_overrun_sticks(void **state)
{
	uint8_t buf[4] = {0xaa, 0xaa, 0xaa, 0xaa};
	struct mt_writer w;

	(void)state;
	mt_writer_init(&w, buf, 3);
	mt_writer_u16(&w, 1);
	mt_writer_u16(&w, 1);
	assert_true(w.failed);
	mt_writer_u8(&w, 1); /* one byte would fit */
	assert_int_equal(mt_writer_len(&w), 2);
	assert_int_equal(buf[2], 0xaa);
	assert_int_equal(buf[3], 0xaa);
}

static void test_writer_bytes(void **state)
{
	uint8_t buf[4];
	struct mt_writer w;

	(void)state;
	mt_writer_init(&w, buf, sizeof(buf));
	mt_writer_bytes(&w, NULL, 0);
	mt_writer_bytes(&w, "abcd", 4);
	assert_false(w.failed);
	assert_memory_equal(buf, "abcd", 4);
	mt_writer_bytes(&w, "x", SIZE_MAX);
	assert_true(w.failed);
	mt_writer_init(&w, NULL, 0);
	mt_writer_u8(&w, 1);
	assert_true(w.failed);
	assert_int_equal(mt_writer_len(&w), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader_numbers),
		cmocka_unit_test(test_reader_overrun_sticks),
		cmocka_unit_test(test_reader_bytes_borrows),
		cmocka_unit_test(test_reader_huge_length),
		cmocka_unit_test(test_reader_null_is_empty),
		cmocka_unit_test(test_writer_numbers),
		cmocka_unit_test(test_writer_overrun_sticks),
		cmocka_unit_test(test_writer_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
