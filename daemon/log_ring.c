#include "daemon/log_ring.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEADER    sizeof(uint64_t)
#define SKIP      (UINT64_C(1) << 63) /* nothing from here to the end of the buffer */
#define SIZE_MASK (SKIP - 1)

/* Writers reserve a place by moving `head`, fill it, and publish it by its header, which is 0 until
 * then. The reader zeroes what it has read before it moves `tail`, so that every header that is
 * still to come is 0. Places are multiples of a header: no header wraps around.
 */
struct mt_log_ring {
	_Atomic uint64_t head;
	_Atomic uint64_t tail;
	size_t cap;
	uint64_t data[];
};

struct mt_log_ring *mt_log_ring_new(size_t bytes)
{
	struct mt_log_ring *ring = calloc(1, sizeof(*ring) + bytes);

	if (ring != NULL) {
		ring->cap = bytes;
	}
	return ring;
}

void mt_log_ring_free(struct mt_log_ring *ring)
{
	free(ring);
}

static _Atomic uint64_t *header_at(struct mt_log_ring *ring, uint64_t position)
{
	return (_Atomic uint64_t *)&ring->data[(position & (ring->cap - 1)) / HEADER];
}

static uint64_t place_of(size_t len)
{
	return HEADER + ((uint64_t)len + HEADER - 1) / HEADER * HEADER;
}

bool mt_log_ring_put(struct mt_log_ring *ring, const void *text, size_t len)
{
	const uint64_t need = place_of(len);
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint64_t to_end, skip, tail;

	do {
		to_end = ring->cap - (head & (ring->cap - 1));
		skip = need <= to_end ? 0 : to_end;
		tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
		/* `head` may be an old one, from before this tail: then the exchange fails. */
		if (head >= tail && head + skip + need - tail > ring->cap) {
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(&ring->head, &head, head + skip + need,
		memory_order_relaxed, memory_order_relaxed));
	if (skip > 0) {
		atomic_store_explicit(header_at(ring, head), SKIP | skip, memory_order_release);
		head += skip;
	}
	memcpy((uint64_t *)header_at(ring, head) + 1, text, len);
	atomic_store_explicit(header_at(ring, head), len, memory_order_release);
	return true;
}

/* The size of the next text, 0 when there is none; passes over what was skipped. */
static size_t next_text(struct mt_log_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint64_t header = atomic_load_explicit(header_at(ring, tail), memory_order_acquire);

	if ((header & SKIP) != 0) {
		atomic_store_explicit(header_at(ring, tail), 0, memory_order_relaxed);
		tail += header & SIZE_MASK;
		atomic_store_explicit(&ring->tail, tail, memory_order_release);
		header = atomic_load_explicit(header_at(ring, tail), memory_order_acquire);
	}
	return (size_t)header;
}

size_t mt_log_ring_take(struct mt_log_ring *ring, void *out, size_t cap)
{
	const size_t len = next_text(ring);
	const uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	if (len == 0) {
		return 0;
	}
	if (len > cap) {
		return SIZE_MAX;
	}
	memcpy(out, (uint64_t *)header_at(ring, tail) + 1, len);
	memset((uint64_t *)header_at(ring, tail), 0, place_of(len));
	atomic_store_explicit(&ring->tail, tail + place_of(len), memory_order_release);
	return len;
}

bool mt_log_ring_has_text(struct mt_log_ring *ring)
{
	return next_text(ring) != 0;
}
