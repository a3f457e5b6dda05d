/* links: proto/wire/frame.c */
#include "proto/wire/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *alloc(void *user, size_t len)
{
	(void)user;
	return malloc(len);
}

static void release(void *user, void *ptr)
{
	(void)user;
	free(ptr);
}

static const struct mt_allocator mem = {alloc, release, NULL};

/* The first byte says in what pieces the rest arrives; what comes out is what went in. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mt_frame_reader r;
	const uint8_t *expected;
	size_t step;

	if (size == 0) {
		return 0;
	}
	step = 1 + data[0];
	data++;
	size--;
	expected = data;
	mt_frame_reader_init(&r, &mem);
	for (size_t off = 0; off < size; off += step) {
		const uint8_t *pos = data + off, *datagram = NULL;
		size_t left = size - off < step ? size - off : step, len = 0;
		uint8_t head[MT_FRAME_HEAD];

		while (mt_frame_next(&r, &pos, &left, &datagram, &len) == 0) {
			assert(mt_frame_head(head, len) == 0);
			assert(expected + MT_FRAME_HEAD + len <= data + size);
			assert(memcmp(expected, head, sizeof(head)) == 0);
			assert(len == 0 || memcmp(expected + MT_FRAME_HEAD, datagram, len) == 0);
			expected += MT_FRAME_HEAD + len;
		}
		assert(left == 0);
	}
	assert(mt_frame_reader_is_between(&r) == (expected == data + size));
	mt_frame_reader_deinit(&r);
	return 0;
}
