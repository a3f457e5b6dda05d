/* links: proto/quic/mem.c */
#include "proto/quic/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void test_sizes(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	uint8_t *p[5000];

	(void)state;
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < 5000; i++) {
			p[i] = mt_mem_alloc(mem, i);
			assert_non_null(p[i]);
			assert_int_equal((uintptr_t)p[i] % 16, 0);
			memset(p[i], (int)(i & 0xff), i);
		}
		for (size_t i = 0; i < 5000; i++) {
			for (size_t j = 0; j < i; j += 97) {
				assert_int_equal(p[i][j], i & 0xff);
			}
			mt_mem_release(mem, p[i]);
		}
		assert_int_equal(mt_mem_used(mem), 0);
	}
	mt_mem_release(mem, NULL);
	mt_mem_free(mem);
}

/* What was released is used again: the pool does not grow in a steady state. */
static void test_steady_state(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_chunk *chunks[40];
	size_t held = 0;

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 40; i++) {
			chunks[i] = mt_chunk_new(mem);
			assert_non_null(chunks[i]);
			assert_int_equal(chunks[i]->len, 0);
			memset(chunks[i]->data, 0xff, MT_CHUNK_BYTES);
		}
		if (round == 0) {
			held = mt_mem_held(mem);
		}
		assert_int_equal(mt_mem_held(mem), held);
		for (unsigned i = 0; i < 40; i++) {
			mt_chunk_free(mem, chunks[i]);
		}
	}
	mt_mem_free(mem);
}

/* What many connections needed goes back when they leave, but for a little that is kept spare. */
static void test_release_gives_back(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	static void *blocks[40000];
	struct mt_chunk *chunks[200];
	size_t peak;

	(void)state;
	for (size_t i = 0; i < 40000; i++) {
		blocks[i] = mt_mem_alloc(mem, 16 + i % 3000);
		assert_non_null(blocks[i]);
	}
	for (size_t i = 0; i < 200; i++) {
		chunks[i] = mt_chunk_new(mem);
		assert_non_null(chunks[i]);
	}
	peak = mt_mem_held(mem);
	assert_true(peak > 60u << 20);
	for (size_t i = 0; i < 200; i++) {
		mt_chunk_free(mem, chunks[i]);
	}
	for (size_t i = 0; i < 40000; i += 2) {
		mt_mem_release(mem, blocks[i]);
	}
	for (size_t i = 1; i < 40000; i += 2) {
		mt_mem_release(mem, blocks[i]);
	}
	assert_int_equal(mt_mem_used(mem), 0);
	assert_true(mt_mem_held(mem) <= 5u << 20);
	mt_mem_free(mem);
}

/* What is kept spare follows what is in use, also when it goes down slowly. */
static void test_release_spare_follows(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	static void *blocks[120000];
	size_t used;

	(void)state;
	for (size_t i = 0; i < 120000; i++) {
		blocks[i] = mt_mem_alloc(mem, 2000);
		assert_non_null(blocks[i]);
	}
	for (size_t i = 0; i < 120000; i++) {
		mt_mem_release(mem, blocks[i]);
		used = mt_mem_used(mem);
		if (i % 1000 == 0) {
			assert_true(mt_mem_held(mem) <= used + used / 4 + (6u << 20));
		}
	}
	assert_true(mt_mem_held(mem) <= 5u << 20);
	mt_mem_free(mem);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* From now on the system gives only so much more; returns what it would have given. Sanitizers take
 * more room than any limit that this could set. */
static struct rlimit limit_room(size_t bytes)
{
	struct rlimit before, limit;
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu", &pages), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	limit = before;
	limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	return before;
}

static size_t alloc_until_held(struct mt_mem *mem, void **blocks, size_t len, size_t held)
{
	size_t count = 0;

	while (mt_mem_held(mem) < held) {
		blocks[count] = mt_mem_alloc(mem, len);
		assert_non_null(blocks[count++]);
	}
	return count;
}
#endif

/* Where there is no room for a large slab, there may be some for a small one. */
static void test_alloc_without_large_slabs(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)state;
	skip();
#else
	struct mt_mem *mem = mt_mem_new();
	static void *blocks[40000];
	struct rlimit before;
	size_t count, held;

	(void)state;
	count = alloc_until_held(mem, blocks, 2000, 17u << 20);
	held = mt_mem_held(mem);
	before = limit_room(3u << 20);
	while (count < 40000 && (blocks[count] = mt_mem_alloc(mem, 2000))) {
		count++;
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_true(count < 40000);
	assert_true(mt_mem_held(mem) >= held + (2u << 20));
	while (count > 0) {
		mt_mem_release(mem, blocks[--count]);
	}
	assert_int_equal(mt_mem_used(mem), 0);
	assert_true(mt_mem_held(mem) <= 5u << 20);
	mt_mem_free(mem);
#endif
}

/* Where there is no room at all, what lies spare serves, of whichever size it is. */
static void test_alloc_from_spare_of_the_other_size(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)state;
	skip();
#else
	struct mt_mem *mem = mt_mem_new();
	static void *blocks[40000], *others[40000];
	size_t count, other_count, before_count;
	struct rlimit before;
	void *small;

	(void)state;
	/* A class that wants large slabs, when small ones lie spare. */
	count = alloc_until_held(mem, blocks, 2000, 17u << 20);
	other_count = alloc_until_held(mem, others, 3000, mt_mem_held(mem) + (4u << 20));
	while (other_count > 0) {
		mt_mem_release(mem, others[--other_count]);
	}
	before = limit_room(0);
	before_count = count;
	while (count < 40000 && (blocks[count] = mt_mem_alloc(mem, 2000))) {
		count++;
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_true(count < 40000);
	assert_true((count - before_count) * 2000 > 3u << 20);
	/* A class that wants a small one, when large ones do. */
	count += alloc_until_held(mem, blocks + count, 2000, 28u << 20);
	for (size_t i = 0; i < count; i++) {
		mt_mem_release(mem, blocks[i]);
	}
	assert_int_equal(mt_mem_used(mem), 0);
	before = limit_room(0);
	small = mt_mem_alloc(mem, 100);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_non_null(small);
	mt_mem_release(mem, small);
	mt_mem_free(mem);
#endif
}

static void test_ngtcp2_interface(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_mem_share share, other;
	const ngtcp2_mem *m = &share.ngtcp2;
	uint8_t *p;

	(void)state;
	mt_mem_share_init(&share, mem);
	mt_mem_share_init(&other, mem);
	p = m->calloc(10, 100, m->user_data);
	assert_non_null(p);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(p[i], 0);
	}
	memset(p, 7, 1000);
	p = m->realloc(p, 100000, m->user_data);
	assert_non_null(p);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(p[i], 7);
	}
	assert_in_range(share.bytes, 100000, 100016);
	p = m->realloc(p, 10, m->user_data);
	assert_non_null(p);
	assert_int_equal(share.bytes, mt_mem_used(mem));
	assert_int_equal(other.bytes, 0);
	m->free(p, m->user_data);
	m->free(NULL, m->user_data);
	assert_null(m->calloc(SIZE_MAX / 2, 4, m->user_data));
	assert_null(m->malloc(SIZE_MAX - 8, m->user_data));
	assert_int_equal(share.bytes, 0);
	assert_int_equal(mt_mem_used(mem), 0);
	mt_mem_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_steady_state),
		cmocka_unit_test(test_release_gives_back),
		cmocka_unit_test(test_release_spare_follows),
		cmocka_unit_test(test_alloc_without_large_slabs),
		cmocka_unit_test(test_alloc_from_spare_of_the_other_size),
		cmocka_unit_test(test_ngtcp2_interface),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
