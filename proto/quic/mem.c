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
/* Of a class with so much in use the further slabs are as large as a page of the larger kind: what
 * many connections need lies scattered, and half of the time to reach it is for finding the page.
 */
#define LARGE_BYTES (2u * 1024 * 1024)
#define LARGE_FROM  (16u * 1024 * 1024)
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

/* Blocks of one class. Those before `carve` were handed out once; the free ones of them are in a
 * list. What was never carved costs no memory: the system gives pages when they are touched.
 */
struct slab {
	TAILQ_ENTRY(slab) of_class; /* while it has room, or among the spare ones */
	struct free_block *free;
	uint8_t *carve;
	uint8_t *end;
	size_t bytes; /* SLAB_BYTES or LARGE_BYTES */
	unsigned class;
	unsigned used;
	alignas(GRAIN) uint8_t data[];
};

struct mt_mem {
	struct slab_list with_room[CLASSES];
	size_t class_bytes[CLASSES]; /* of its slabs */
	struct slab_list spare;      /* empty, of no class */
	struct slab_list full;
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
	}
	return mem;
}

static void free_slabs(struct slab_list *list)
{
	struct slab *slab;

	while ((slab = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, slab, of_class);
		(void)munmap(slab, slab->bytes); /* our own mapping: cannot fail */
	}
}

void mt_mem_free(struct mt_mem *mem)
{
	if (!mem) {
		return;
	}
	for (unsigned i = 0; i < CLASSES; i++) {
		free_slabs(&mem->with_room[i]);
	}
	free_slabs(&mem->spare);
	free_slabs(&mem->full);
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

static struct slab *map_large(void)
{
	uint8_t *at = map(2 * (size_t)LARGE_BYTES), *begin;
	size_t before;

	if (!at) {
		return NULL;
	}
	before = -(uintptr_t)at & (LARGE_BYTES - 1);
	begin = at + before;
	/* Our own mapping: cannot fail. A system without large pages gives small ones. */
	if (before > 0) {
		(void)munmap(at, before);
	}
	(void)munmap(begin + LARGE_BYTES, LARGE_BYTES - before);
	(void)madvise(begin, LARGE_BYTES, MADV_HUGEPAGE);
	return (struct slab *)begin;
}

static struct slab *take_spare(struct mt_mem *mem, size_t bytes)
{
	struct slab *slab;

	TAILQ_FOREACH(slab, &mem->spare, of_class)
	{
		if (slab->bytes == bytes) {
			TAILQ_REMOVE(&mem->spare, slab, of_class);
			mem->spare_bytes -= bytes;
			return slab;
		}
	}
	return NULL;
}

static struct slab *map_slab(struct mt_mem *mem, size_t bytes)
{
	struct slab *slab = bytes == LARGE_BYTES ? map_large() : map(bytes);

	if (slab) {
		slab->bytes = bytes;
		mem->held += bytes;
	}
	return slab;
}

/* Where there is no room for a slab of the one size there may be for one of the other, or one lies
 * spare. */
static struct slab *get_slab(struct mt_mem *mem, size_t bytes)
{
	size_t other = bytes == LARGE_BYTES ? SLAB_BYTES : LARGE_BYTES;
	struct slab *slab = take_spare(mem, bytes);

	if (!slab) {
		slab = map_slab(mem, bytes);
	}
	if (!slab) {
		slab = take_spare(mem, other);
	}
	if (!slab && other == SLAB_BYTES) {
		slab = map_slab(mem, other);
	}
	return slab;
}

static struct slab *new_slab(struct mt_mem *mem, unsigned class)
{
	struct slab *slab =
		get_slab(mem, mem->class_bytes[class] >= LARGE_FROM ? LARGE_BYTES : SLAB_BYTES);

	if (!slab) {
		return NULL;
	}
	mem->class_bytes[class] += slab->bytes;
	slab->class = class;
	slab->used = 0;
	slab->free = NULL;
	slab->carve = slab->data;
	slab->end = (uint8_t *)slab + slab->bytes;
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
	mem->class_bytes[slab->class] -= slab->bytes;
	TAILQ_INSERT_HEAD(&mem->spare, slab, of_class);
	mem->spare_bytes += slab->bytes;
	while ((slab = TAILQ_LAST(&mem->spare, slab_list)) &&
		is_enough(mem, mem->spare_bytes - slab->bytes)) {
		TAILQ_REMOVE(&mem->spare, slab, of_class);
		mem->spare_bytes -= slab->bytes;
		mem->held -= slab->bytes;
		(void)munmap(slab, slab->bytes); /* our own mapping: cannot fail */
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
