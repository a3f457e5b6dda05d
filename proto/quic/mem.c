#include "proto/quic/mem.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>

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

#define GRAIN 16u
#define CLASS_MAX                                                                                  \
	12288u /* ngtcp2's connection is the largest; others go to the heap, being few             \
		*/
#define CLASSES     (CLASS_MAX / GRAIN + 1)
#define CHUNK_CLASS (CLASSES - 1)
#define SLAB_BYTES  (256u * 1024)
/* Beyond the first few bytes slabs are parts of regions as large as a page of the larger kind: what
 * many connections need lies scattered, and half of the time to reach it is for finding the page.
 */
#define REGION_BYTES (2u * 1024 * 1024)
#define REGION_SLABS (REGION_BYTES / SLAB_BYTES)
#define REGION_FROM  (8u * 1024 * 1024)
/* Empty slabs are kept up to an eighth of what is in use, and so many bytes always: traffic that
 * swells and ebbs away asks the system for nothing. */
#define SPARE_MIN   (4u * 1024 * 1024)
#define SPARE_SHARE 8u

struct free_block {
	struct free_block *next;
};

/* In front of every block, so that it can be released and grown without being told its size. */
struct header {
	size_t len;        /* as asked for, rounded up to GRAIN */
	struct slab *home; /* NULL: from the heap */
};

TAILQ_HEAD(slab_list, slab);
TAILQ_HEAD(region_list, region);

/* One mapping for several slabs, which go back to the system one by one. */
struct region {
	TAILQ_ENTRY(region) with_room;
	uint8_t *at;
	unsigned taken; /* a bit for each of its slabs */
};

/* Blocks of one class. Those before `carve` were handed out once; the free ones of them are in a
 * list. What was never carved costs no memory but in a region: the system gives pages when they are
 * touched.
 */
struct slab {
	TAILQ_ENTRY(slab) of_class; /* while it has room, or among the spare ones */
	struct free_block *free;
	uint8_t *carve;
	uint8_t *end;
	struct region *region; /* NULL: a mapping of its own */
	unsigned class;
	unsigned used;
	alignas(GRAIN) uint8_t data[];
};

struct mt_mem {
	struct slab_list with_room[CLASSES];
	struct slab_list spare; /* empty, of no class */
	struct slab_list full;
	struct region_list regions; /* with room */
	size_t spare_bytes;
	size_t held;
	size_t used;
};

static void *on_malloc(size_t len, void *user)
{
	struct mt_mem_share *share = user;
	struct header *h = mt_mem_alloc(share->mem, len);

	if (h) {
		share->bytes += h[-1].len;
	}
	return h;
}

static void on_free(void *ptr, void *user)
{
	struct mt_mem_share *share = user;

	if (ptr) {
		share->bytes -= ((struct header *)ptr)[-1].len;
		mt_mem_release(share->mem, ptr);
	}
}

static void *on_calloc(size_t count, size_t len, void *user)
{
	size_t total;
	void *ptr;

	if (__builtin_mul_overflow(count, len, &total)) {
		return NULL;
	}
	ptr = on_malloc(total, user);
	if (ptr) {
		memset(ptr, 0, total);
	}
	return ptr;
}

static void *on_realloc(void *ptr, size_t len, void *user)
{
	struct header *h;
	void *grown;

	if (!ptr) {
		return on_malloc(len, user);
	}
	h = (struct header *)ptr - 1;
	if (len <= h->len) {
		return ptr;
	}
	grown = on_malloc(len, user);
	if (grown) {
		memcpy(grown, ptr, h->len);
		on_free(ptr, user);
	}
	return grown;
}

struct mt_mem *mt_mem_new(void)
{
	struct mt_mem *mem = calloc(1, sizeof(*mem));

	if (mem) {
		for (unsigned i = 0; i < CLASSES; i++) {
			TAILQ_INIT(&mem->with_room[i]);
		}
		TAILQ_INIT(&mem->spare);
		TAILQ_INIT(&mem->full);
		TAILQ_INIT(&mem->regions);
	}
	return mem;
}

/* Gives a part of a region back. The page stands for the whole of it no more, but what is left goes
 * on as it is.
 */
static void leave_region(struct mt_mem *mem, struct region *r, uint8_t *at)
{
	if (r->taken == (1u << REGION_SLABS) - 1) {
		TAILQ_INSERT_TAIL(&mem->regions, r, with_room);
	}
	r->taken &= ~(1u << (unsigned)((size_t)(at - r->at) / SLAB_BYTES));
	/* Our own mapping: neither can fail. */
	if (r->taken == 0) {
		TAILQ_REMOVE(&mem->regions, r, with_room);
		(void)munmap(r->at, REGION_BYTES);
		free(r);
	} else {
		(void)madvise(at, SLAB_BYTES, MADV_DONTNEED);
	}
}

static void unmap_slab(struct mt_mem *mem, struct slab *slab)
{
	mem->held -= SLAB_BYTES;
	if (slab->region) {
		leave_region(mem, slab->region, (uint8_t *)slab);
	} else {
		(void)munmap(slab, SLAB_BYTES); /* our own mapping: cannot fail */
	}
}

static void free_slabs(struct mt_mem *mem, struct slab_list *list)
{
	struct slab *slab;

	while ((slab = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, slab, of_class);
		unmap_slab(mem, slab);
	}
}

void mt_mem_free(struct mt_mem *mem)
{
	if (!mem) {
		return;
	}
	for (unsigned i = 0; i < CLASSES; i++) {
		free_slabs(mem, &mem->with_room[i]);
	}
	free_slabs(mem, &mem->spare);
	free_slabs(mem, &mem->full);
	free(mem);
}

void mt_mem_share_init(struct mt_mem_share *share, struct mt_mem *mem)
{
	*share = (struct mt_mem_share){
		.ngtcp2 =
			{
				.user_data = share,
				.malloc = on_malloc,
				.free = on_free,
				.calloc = on_calloc,
				.realloc = on_realloc,
			},
		.mem = mem,
	};
}

static void *alloc_from(void *user, size_t len)
{
	return mt_mem_alloc(user, len);
}

static void release_to(void *user, void *ptr)
{
	mt_mem_release(user, ptr);
}

struct mt_allocator mt_mem_allocator(struct mt_mem *mem)
{
	return (struct mt_allocator){.alloc = alloc_from, .release = release_to, .user = mem};
}

size_t mt_mem_held(const struct mt_mem *mem)
{
	return mem->held;
}

size_t mt_mem_used(const struct mt_mem *mem)
{
	return mem->used;
}

static size_t block_bytes(unsigned class)
{
	return class == CHUNK_CLASS ? sizeof(struct mt_chunk)
				    : sizeof(struct header) + (class + 1) * GRAIN;
}

static void *map(size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Aligned to its size, so that one page of the larger kind can back it. */
static uint8_t *map_region(void)
{
	uint8_t *at = map(2 * (size_t)REGION_BYTES), *begin;
	size_t before;

	if (!at) {
		return NULL;
	}
	before = -(uintptr_t)at & (REGION_BYTES - 1);
	begin = at + before;
	/* Our own mapping: cannot fail. A system without large pages gives small ones. */
	if (before > 0) {
		(void)munmap(at, before);
	}
	(void)munmap(begin + REGION_BYTES, REGION_BYTES - before);
	(void)madvise(begin, REGION_BYTES, MADV_HUGEPAGE);
	return begin;
}

static struct region *new_region(struct mt_mem *mem)
{
	struct region *r = calloc(1, sizeof(*r));

	if (!r) {
		return NULL;
	}
	r->at = map_region();
	if (!r->at) {
		free(r);
		return NULL;
	}
	TAILQ_INSERT_HEAD(&mem->regions, r, with_room);
	return r;
}

/* A part of a region; NULL when there is none to be had. */
static struct slab *map_part(struct mt_mem *mem)
{
	struct region *r = TAILQ_FIRST(&mem->regions);
	struct slab *slab;
	unsigned i = 0;

	if (!r) {
		r = new_region(mem);
		if (!r) {
			return NULL;
		}
	}
	while (r->taken & (1u << i)) {
		i++;
	}
	r->taken |= 1u << i;
	if (r->taken == (1u << REGION_SLABS) - 1) {
		TAILQ_REMOVE(&mem->regions, r, with_room);
	}
	slab = (struct slab *)(r->at + i * (size_t)SLAB_BYTES);
	slab->region = r;
	return slab;
}

static struct slab *map_slab(struct mt_mem *mem)
{
	struct slab *slab = mem->held >= REGION_FROM ? map_part(mem) : NULL;

	if (!slab) {
		slab = map(SLAB_BYTES);
		if (!slab) {
			return NULL;
		}
		slab->region = NULL;
	}
	mem->held += SLAB_BYTES;
	return slab;
}

static struct slab *new_slab(struct mt_mem *mem, unsigned class)
{
	struct slab *slab = TAILQ_FIRST(&mem->spare);

	if (slab) {
		TAILQ_REMOVE(&mem->spare, slab, of_class);
		mem->spare_bytes -= SLAB_BYTES;
	} else {
		slab = map_slab(mem);
		if (!slab) {
			return NULL;
		}
	}
	slab->class = class;
	slab->used = 0;
	slab->free = NULL;
	slab->carve = slab->data;
	slab->end = (uint8_t *)slab + SLAB_BYTES;
	TAILQ_INSERT_HEAD(&mem->with_room[class], slab, of_class);
	return slab;
}

static bool has_room(const struct slab *slab)
{
	return slab->free || (size_t)(slab->end - slab->carve) >= block_bytes(slab->class);
}

static void *take_block(struct mt_mem *mem, unsigned class, struct slab **home)
{
	struct slab *slab = TAILQ_FIRST(&mem->with_room[class]);
	void *block;

	if (!slab) {
		slab = new_slab(mem, class);
		if (!slab) {
			return NULL;
		}
	}
	if (slab->free) {
		block = slab->free;
		slab->free = slab->free->next;
	} else {
		block = slab->carve;
		slab->carve += block_bytes(class);
	}
	slab->used++;
	if (!has_room(slab)) {
		TAILQ_REMOVE(&mem->with_room[class], slab, of_class);
		TAILQ_INSERT_HEAD(&mem->full, slab, of_class);
	}
	*home = slab;
	return block;
}

static bool is_enough(const struct mt_mem *mem, size_t spare_bytes)
{
	return spare_bytes >= SPARE_MIN && spare_bytes >= mem->used / SPARE_SHARE;
}

/* An empty slab serves another class, or goes back to the system. So do those that were kept spare
 * when more was in use, the oldest first.
 */
static void retire(struct mt_mem *mem, struct slab *slab)
{
	TAILQ_REMOVE(&mem->with_room[slab->class], slab, of_class);
	TAILQ_INSERT_HEAD(&mem->spare, slab, of_class);
	mem->spare_bytes += SLAB_BYTES;
	while ((slab = TAILQ_LAST(&mem->spare, slab_list)) &&
		is_enough(mem, mem->spare_bytes - SLAB_BYTES)) {
		TAILQ_REMOVE(&mem->spare, slab, of_class);
		mem->spare_bytes -= SLAB_BYTES;
		unmap_slab(mem, slab);
	}
}

static void give_block(struct mt_mem *mem, struct slab *slab, void *block)
{
	struct free_block *b = block;

	if (!has_room(slab)) {
		TAILQ_REMOVE(&mem->full, slab, of_class);
		TAILQ_INSERT_HEAD(&mem->with_room[slab->class], slab, of_class);
	}
	b->next = slab->free;
	slab->free = b;
	if (--slab->used == 0) {
		retire(mem, slab);
	}
}

void *mt_mem_alloc(struct mt_mem *mem, size_t len)
{
	struct slab *home = NULL;
	struct header *h;

	if (len > SIZE_MAX / 2) {
		return NULL;
	}
	len = len ? (len + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
	if (WATCHED || len > CLASS_MAX) {
		h = malloc(sizeof(*h) + len);
		if (h) {
			mem->held += len;
		}
	} else {
		h = take_block(mem, (unsigned)(len / GRAIN - 1), &home);
	}
	if (!h) {
		return NULL;
	}
	h->len = len;
	h->home = home;
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
	struct header *h;

	if (!ptr) {
		return;
	}
	h = (struct header *)ptr - 1;
	mem->used -= h->len;
	if (h->home) {
		give_block(mem, h->home, h);
	} else {
		mem->held -= h->len;
		free(h);
	}
}

struct mt_chunk *mt_chunk_new(struct mt_mem *mem)
{
	struct slab *home = NULL;
	struct mt_chunk *chunk =
		WATCHED ? malloc(sizeof(*chunk)) : take_block(mem, CHUNK_CLASS, &home);

	if (!chunk) {
		return NULL;
	}
	chunk->home = home;
	chunk->next = NULL;
	chunk->off = chunk->len = 0;
	mem->used += sizeof(*chunk);
	mem->held += WATCHED ? sizeof(*chunk) : 0;
	return chunk;
}

void mt_chunk_free(struct mt_mem *mem, struct mt_chunk *chunk)
{
	mem->used -= sizeof(*chunk);
	if (chunk->home) {
		give_block(mem, chunk->home, chunk);
	} else {
		mem->held -= sizeof(*chunk);
		free(chunk);
	}
}
