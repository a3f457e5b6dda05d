#include "proto/quic/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifndef WATCHED
#define WATCHED 0
#endif

#define GRAIN       16u
#define CLASS_MAX   4096u /* larger blocks go to the heap: they are few and long-lived */
#define CLASSES     (CLASS_MAX / GRAIN)
#define SLAB_BYTES  (256u * 1024)
#define CHUNKS_SLAB 16u

/* In front of every block, so that it can be released and grown without being told its size. */
struct header {
	size_t len; /* as asked for, rounded up to GRAIN */
	size_t from_heap;
};

struct free_block {
	struct free_block *next;
};

struct slab {
	struct slab *next;
	size_t unused; /* keeps `data` aligned to GRAIN */
	uint8_t data[];
};

struct mt_mem {
	struct free_block *free[CLASSES];
	struct slab *slabs;
	uint8_t *carve;
	size_t carve_left;
	struct mt_chunk *chunks; /* free ones */
	size_t held;
	size_t used;
	ngtcp2_mem ngtcp2;
};

static void *on_malloc(size_t len, void *user)
{
	return mt_mem_alloc(user, len);
}

static void on_free(void *ptr, void *user)
{
	mt_mem_release(user, ptr);
}

static void *on_calloc(size_t count, size_t len, void *user)
{
	size_t total;

	if (__builtin_mul_overflow(count, len, &total)) {
		return NULL;
	}
	return mt_mem_calloc(user, total);
}

static void *on_realloc(void *ptr, size_t len, void *user)
{
	struct header *h;
	void *grown;

	if (!ptr) {
		return mt_mem_alloc(user, len);
	}
	h = (struct header *)ptr - 1;
	if (len <= h->len) {
		return ptr;
	}
	grown = mt_mem_alloc(user, len);
	if (grown) {
		memcpy(grown, ptr, h->len);
		mt_mem_release(user, ptr);
	}
	return grown;
}

struct mt_mem *mt_mem_new(void)
{
	struct mt_mem *mem = calloc(1, sizeof(*mem));

	if (mem) {
		mem->ngtcp2 = (ngtcp2_mem){
			.user_data = mem,
			.malloc = on_malloc,
			.free = on_free,
			.calloc = on_calloc,
			.realloc = on_realloc,
		};
	}
	return mem;
}

void mt_mem_free(struct mt_mem *mem)
{
	struct slab *slab, *next;

	if (!mem) {
		return;
	}
	for (slab = mem->slabs; slab; slab = next) {
		next = slab->next;
		free(slab);
	}
	free(mem);
}

const ngtcp2_mem *mt_mem_ngtcp2(struct mt_mem *mem)
{
	return &mem->ngtcp2;
}

size_t mt_mem_held(const struct mt_mem *mem)
{
	return mem->held;
}

size_t mt_mem_used(const struct mt_mem *mem)
{
	return mem->used;
}

static struct slab *new_slab(struct mt_mem *mem, size_t bytes)
{
	struct slab *slab = malloc(sizeof(*slab) + bytes);

	if (slab) {
		slab->next = mem->slabs;
		mem->slabs = slab;
		mem->held += sizeof(*slab) + bytes;
	}
	return slab;
}

static struct header *take_block(struct mt_mem *mem, size_t len)
{
	struct free_block **head = &mem->free[len / GRAIN - 1];
	size_t whole = sizeof(struct header) + len;
	struct slab *slab;
	void *block;

	if (*head) {
		block = *head;
		*head = (*head)->next;
		return (struct header *)block - 1;
	}
	if (mem->carve_left < whole) {
		slab = new_slab(mem, SLAB_BYTES);
		if (!slab) {
			return NULL;
		}
		mem->carve = slab->data;
		mem->carve_left = SLAB_BYTES;
	}
	block = mem->carve;
	mem->carve += whole;
	mem->carve_left -= whole;
	return block;
}

void *mt_mem_alloc(struct mt_mem *mem, size_t len)
{
	bool from_heap;
	struct header *h;

	if (len > SIZE_MAX / 2) {
		return NULL;
	}
	len = len ? (len + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
	from_heap = WATCHED || len > CLASS_MAX;
	h = from_heap ? malloc(sizeof(*h) + len) : take_block(mem, len);
	if (!h) {
		return NULL;
	}
	h->len = len;
	h->from_heap = from_heap;
	if (from_heap) {
		mem->held += len;
	}
	mem->used += len;
	return h + 1;
}

void *mt_mem_calloc(struct mt_mem *mem, size_t len)
{
	void *ptr = mt_mem_alloc(mem, len);

	if (ptr) {
		memset(ptr, 0, len);
	}
	return ptr;
}

void mt_mem_release(struct mt_mem *mem, void *ptr)
{
	struct free_block *block = ptr;
	struct header *h;

	if (!ptr) {
		return;
	}
	h = (struct header *)ptr - 1;
	mem->used -= h->len;
	if (h->from_heap) {
		mem->held -= h->len;
		free(h);
		return;
	}
	block->next = mem->free[h->len / GRAIN - 1];
	mem->free[h->len / GRAIN - 1] = block;
}

#if WATCHED
struct mt_chunk *mt_chunk_new(struct mt_mem *mem)
{
	struct mt_chunk *chunk = mt_mem_alloc(mem, sizeof(*chunk));

	if (chunk) {
		chunk->next = NULL;
		chunk->off = chunk->len = 0;
	}
	return chunk;
}

void mt_chunk_free(struct mt_mem *mem, struct mt_chunk *chunk)
{
	mt_mem_release(mem, chunk);
}
#else
struct mt_chunk *mt_chunk_new(struct mt_mem *mem)
{
	struct mt_chunk *chunk, *spare;
	struct slab *slab;

	if (!mem->chunks) {
		slab = new_slab(mem, CHUNKS_SLAB * sizeof(*chunk));
		if (!slab) {
			return NULL;
		}
		spare = (struct mt_chunk *)(void *)slab->data;
		for (unsigned i = 0; i < CHUNKS_SLAB; i++) {
			spare[i].next = mem->chunks;
			mem->chunks = &spare[i];
		}
	}
	chunk = mem->chunks;
	mem->chunks = chunk->next;
	chunk->next = NULL;
	chunk->off = chunk->len = 0;
	mem->used += sizeof(*chunk);
	return chunk;
}

void mt_chunk_free(struct mt_mem *mem, struct mt_chunk *chunk)
{
	chunk->next = mem->chunks;
	mem->chunks = chunk;
	mem->used -= sizeof(*chunk);
}
#endif
