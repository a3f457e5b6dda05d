/* links: proto/wire/reassembly.c proto/wire/extended.c proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/reassembly.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t held;

static void *alloc(void *user, size_t len)
{
	size_t *block = malloc(sizeof(*block) * 2 + len);

	(void)user;
	if (block == NULL) {
		return NULL;
	}
	*block = len;
	held += len;
	return block + 2;
}

static void release(void *user, void *ptr)
{
	(void)user;
	if (ptr != NULL) {
		size_t *block = (size_t *)ptr - 2;

		held -= *block;
		free(block);
	}
}

static const struct mt_allocator mem = {alloc, release, NULL};

/* A sequence of: milliseconds that pass (1), length (1), a datagram of the extended form. What is
 * held is what is accounted for, and stays under the caps.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[MT_UDP_PAYLOAD_MAX];
	struct mt_reassembly_pool pool;
	struct mt_reassembly r;
	uint64_t now_ms = 0;

	mt_reassembly_pool_init(&pool, &mem);
	mt_reassembly_init(&r, &pool);
	while (size >= 2) {
		size_t len = data[1] < size - 2 ? data[1] : size - 2;
		struct mt_extended f;
		size_t out_len = 0;
		unsigned before = r.count;

		now_ms += data[0] * 10u;
		if (mt_extended_decode(&f, data + 2, len) == 0 && f.count > 1) {
			int err = mt_reassembly_add(&r, &f, now_ms, out, &out_len);

			assert(err == 0 || err == MT_E_AGAIN || err == MT_E_MALFORMED ||
				err == MT_E_TOO_LONG || err == MT_E_LIMIT);
			assert(err != 0 || (out_len >= f.count && r.count <= before));
		}
		assert(held == pool.bytes && held == r.bytes);
		assert(r.count <= MT_REASSEMBLY_PACKETS && r.bytes <= MT_REASSEMBLY_BYTES);
		assert(mt_reassembly_due_ms(&r) > now_ms || r.count == before);
		data += 2 + len;
		size -= 2 + len;
	}
	mt_reassembly_clear(&r);
	assert(held == 0 && pool.bytes == 0);
	return 0;
}
