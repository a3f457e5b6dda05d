/* links: proto/wire/frame.c */
#include "proto/wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned allocated;
static bool out_of_memory;

static void *alloc(void *user, size_t len)
{
	(void)user;
	allocated += out_of_memory ? 0 : 1;
	return out_of_memory ? NULL : malloc(len);
}

static void release(void *user, void *ptr)
{
	(void)user;
	allocated -= ptr != NULL ? 1 : 0;
	free(ptr);
}

static const struct mt_allocator mem = {alloc, release, NULL};

/* Three datagrams: "abc", an empty one, "d". */
static const uint8_t stream[] = {0, 3, 'a', 'b', 'c', 0, 0, 0, 1, 'd'};

/* Feeds the stream in pieces of `step` bytes, each in memory of its own, and checks what comes out.
 */
static void feed(size_t step)
{
	static const char *const expected[] = {"abc", "", "d"};
	struct mt_frame_reader r;
	unsigned count = 0;

	mt_frame_reader_init(&r, &mem);
	for (size_t off = 0; off < sizeof(stream); off += step) {
		size_t len = sizeof(stream) - off < step ? sizeof(stream) - off : step;
		uint8_t *copy = malloc(len);
		const uint8_t *pos = copy, *datagram = NULL;
		size_t left = len, datagram_len = 0;

		assert_non_null(copy);
		memcpy(copy, stream + off, len);
		while (mt_frame_next(&r, &pos, &left, &datagram, &datagram_len) == 0) {
			assert_in_range(count, 0, 2);
			assert_int_equal(datagram_len, strlen(expected[count]));
			assert_memory_equal(datagram, expected[count], datagram_len);
			count++;
		}
		assert_int_equal(left, 0);
		free(copy);
	}
	assert_int_equal(count, 3);
	assert_true(mt_frame_reader_is_between(&r));
	mt_frame_reader_deinit(&r);
	assert_int_equal(allocated, 0);
}

static void test_frame_next_every_piece_length(void **state)
{
	(void)state;
	for (size_t step = 1; step <= sizeof(stream); step++) {
		feed(step);
	}
}

static void test_frame_next_end_within_datagram(void **state)
{
	struct mt_frame_reader r;
	const uint8_t *pos = stream, *datagram = NULL;
	size_t left = 4, datagram_len = 0;

	(void)state;
	mt_frame_reader_init(&r, &mem);
	assert_int_equal(mt_frame_next(&r, &pos, &left, &datagram, &datagram_len), MT_E_AGAIN);
	assert_false(mt_frame_reader_is_between(&r));
	assert_int_equal(allocated, 1);
	mt_frame_reader_deinit(&r);
	assert_int_equal(allocated, 0);
}

static void test_frame_next_without_memory_skips(void **state)
{
	struct mt_frame_reader r;
	const uint8_t *pos = stream, *datagram = NULL;
	size_t left = 4, datagram_len = 0;

	(void)state;
	mt_frame_reader_init(&r, &mem);
	out_of_memory = true;
	assert_int_equal(mt_frame_next(&r, &pos, &left, &datagram, &datagram_len), MT_E_AGAIN);
	out_of_memory = false;
	left = sizeof(stream) - 4;
	assert_int_equal(mt_frame_next(&r, &pos, &left, &datagram, &datagram_len), -ENOMEM);
	assert_int_equal(mt_frame_next(&r, &pos, &left, &datagram, &datagram_len), 0);
	assert_int_equal(datagram_len, 0);
	assert_int_equal(mt_frame_next(&r, &pos, &left, &datagram, &datagram_len), 0);
	assert_int_equal(datagram_len, 1);
	mt_frame_reader_deinit(&r);
}

static void test_frame_head_bounds(void **state)
{
	uint8_t head[MT_FRAME_HEAD];

	(void)state;
	assert_int_equal(mt_frame_head(head, 0x0203), 0);
	assert_memory_equal(head, "\2\3", 2);
	assert_int_equal(mt_frame_head(head, MT_FRAME_MAX), 0);
	assert_int_equal(mt_frame_head(head, MT_FRAME_MAX + 1), MT_E_TOO_LONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame_next_every_piece_length),
		cmocka_unit_test(test_frame_next_end_within_datagram),
		cmocka_unit_test(test_frame_next_without_memory_skips),
		cmocka_unit_test(test_frame_head_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
