/* Per-thread memory of the data path: exact size classes carved from slabs, so that a steady state
 * allocates nothing from the heap, and fixed-size chunks for stream data. A slab whose last block
 * was released goes back to the system once more than enough are spare. Not thread-safe: one pool a
 * thread. Built with AddressSanitizer every allocation goes to the heap, so that it is watched.
 */
#pragma once

#include "proto/wire/alloc.h"
#include "proto/wire/err.h"

#include <ngtcp2/ngtcp2.h>
#include <stddef.h>
#include <stdint.h>

struct mt_mem;

struct mt_mem *mt_mem_new(void); /* NULL without memory */
/* Everything allocated from the pool ends with it. NULL is allowed. */
void mt_mem_free(struct mt_mem *mem);
/* 16-byte aligned; NULL without memory. */
void *mt_mem_alloc(struct mt_mem *mem, size_t len);
void *mt_mem_calloc(struct mt_mem *mem, size_t len);
void mt_mem_release(struct mt_mem *mem, void *ptr); /* NULL is allowed */
/* What one connection has of a pool. `ngtcp2` is what its library object allocates by. */
struct mt_mem_share {
	ngtcp2_mem ngtcp2;
	struct mt_mem *mem;
	size_t bytes; /* in use; who allocates otherwise adds that */
};
/* The share must stay where it is. */
void mt_mem_share_init(struct mt_mem_share *share, struct mt_mem *mem);
/* For codecs that keep something; lives as long as the pool. */
struct mt_allocator mt_mem_allocator(struct mt_mem *mem);
/* Bytes held from the system, and of those in use. */
size_t mt_mem_held(const struct mt_mem *mem);
size_t mt_mem_used(const struct mt_mem *mem);

/* A piece of stream data; `off` to `len` are filled. */
#define MT_CHUNK_BYTES 16384
struct slab;
struct mt_chunk {
	struct slab *home; /* of mem.c */
	struct mt_chunk *next;
	uint32_t off;
	uint32_t len;
	uint8_t data[MT_CHUNK_BYTES];
};
struct mt_chunk *mt_chunk_new(struct mt_mem *mem);
void mt_chunk_free(struct mt_mem *mem, struct mt_chunk *chunk);
