/* links: daemon/log_ring.c */
#include "daemon/log_ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_put_take_in_order(void **state)
{
	struct mt_log_ring *ring = mt_log_ring_new(64);
	char out[64];

	(void)state;
	assert_non_null(ring);
	assert_int_equal(mt_log_ring_take(ring, out, sizeof(out)), 0);
	/* Many times around, with texts that end at every place. */
	for (size_t i = 0; i < 1000; i++) {
		char a[24], b[24];
		size_t la = 1 + i % 17, lb = 1 + i % 5;

		memset(a, 'a' + (int)(i % 26), la);
		memset(b, 'A' + (int)(i % 26), lb);
		assert_true(mt_log_ring_put(ring, a, la));
		assert_true(mt_log_ring_has_text(ring));
		if (mt_log_ring_put(ring, b, lb)) {
			assert_int_equal(mt_log_ring_take(ring, out, sizeof(out)), la);
			assert_memory_equal(out, a, la);
			assert_int_equal(mt_log_ring_take(ring, out, sizeof(out)), lb);
			assert_memory_equal(out, b, lb);
		} else {
			assert_int_equal(mt_log_ring_take(ring, out, sizeof(out)), la);
			assert_memory_equal(out, a, la);
		}
		assert_false(mt_log_ring_has_text(ring));
	}
	mt_log_ring_free(ring);
}

static void test_put_full(void **state)
{
	struct mt_log_ring *ring = mt_log_ring_new(64);
	char out[64];

	(void)state;
	assert_true(mt_log_ring_put(ring, "12345678", 8));
	assert_true(mt_log_ring_put(ring, "12345678", 8));
	assert_true(mt_log_ring_put(ring, "12345678", 8));
	assert_true(mt_log_ring_put(ring, "12345678", 8));
	assert_false(mt_log_ring_put(ring, "x", 1));
	assert_int_equal(mt_log_ring_take(ring, out, 4), SIZE_MAX);
	assert_int_equal(mt_log_ring_take(ring, out, 8), 8);
	assert_true(mt_log_ring_put(ring, "x", 1));
	mt_log_ring_free(ring);
}

#define WRITERS 4
#define TEXTS   20000

struct writer {
	struct mt_log_ring *ring;
	unsigned number;
	unsigned refused;
};

static _Atomic unsigned writers_left;

static void *write_many(void *user)
{
	struct writer *w = user;
	char text[64];

	for (unsigned i = 0; i < TEXTS; i++) {
		int len = snprintf(text, sizeof(text), "%u %u %.*s", w->number, i, (int)(i % 32),
			"................................");

		w->refused += !mt_log_ring_put(w->ring, text, (size_t)len);
	}
	atomic_fetch_sub(&writers_left, 1);
	return NULL;
}

/* Each writer's texts arrive whole and in its order, or are refused. */
static void test_put_from_many_threads(void **state)
{
	struct mt_log_ring *ring = mt_log_ring_new(4096);
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	int next[WRITERS] = {0};
	unsigned got[WRITERS] = {0};
	unsigned left, sum = 0;

	(void)state;
	atomic_store(&writers_left, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ring, i, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
	}
	do {
		char text[65];
		size_t len;

		left = atomic_load(&writers_left);
		while ((len = mt_log_ring_take(ring, text, 64)) != 0) {
			unsigned long number, i;
			char *end;

			text[len] = '\0';
			number = strtoul(text, &end, 10);
			i = strtoul(end, &end, 10);
			assert_int_equal(*end, ' ');
			assert_true(number < WRITERS && (int)i >= next[number]);
			assert_int_equal(text + len - (end + 1), i % 32);
			next[number] = (int)i + 1;
			got[number]++;
		}
	} while (left > 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(got[i] + writers[i].refused, TEXTS);
		sum += got[i];
	}
	assert_true(sum > 0);
	mt_log_ring_free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_take_in_order),
		cmocka_unit_test(test_put_full),
		cmocka_unit_test(test_put_from_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
