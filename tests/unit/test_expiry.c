/* links: proto/quic/expiry.c */
#include "proto/quic/expiry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define COUNT 1000

static uint64_t next(uint64_t *rng)
{
	*rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
	return *rng >> 33;
}

static void test_order(void **state)
{
	struct mt_expiry_queue q = {0};
	struct mt_expiry *e = calloc(COUNT, sizeof(*e)), *first;
	uint64_t rng = 42, last = 0;
	size_t left = COUNT;

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		mt_expiry_init(&e[i], false);
		assert_int_equal(mt_expiry_set(&q, &e[i], next(&rng)), 0);
	}
	for (size_t i = 0; i < COUNT; i += 3) {
		assert_int_equal(mt_expiry_set(&q, &e[i], next(&rng)), 0);
	}
	for (size_t i = 0; i < COUNT; i += 7) {
		mt_expiry_remove(&q, &e[i]);
		mt_expiry_remove(&q, &e[i]);
		left--;
	}
	while ((first = mt_expiry_first(&q))) {
		assert_true(first->ts_ns >= last);
		last = first->ts_ns;
		assert_int_equal(mt_expiry_set(&q, first, UINT64_MAX), 0);
		left--;
	}
	assert_int_equal(left, 0);
	mt_expiry_queue_deinit(&q);
	free(e);
}

/* Whatever moves to and fro, what is due comes in order, and none is lost. */
static void test_set_to_and_fro(void **state)
{
	struct mt_expiry_queue q = {0};
	struct mt_expiry *e = calloc(COUNT, sizeof(*e)), *first;
	uint64_t rng = 7, now = 0, earliest;

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		mt_expiry_init(&e[i], false);
	}
	for (size_t step = 0; step < 20 * COUNT; step++) {
		struct mt_expiry *one = &e[next(&rng) % COUNT];

		if (next(&rng) % 5 == 0) {
			mt_expiry_remove(&q, one);
		} else {
			assert_int_equal(mt_expiry_set(&q, one, now + next(&rng) % 5000), 0);
		}
		if (step % 50 != 0) {
			continue;
		}
		now += 20;
		while ((first = mt_expiry_first(&q)) && first->ts_ns <= now) {
			mt_expiry_remove(&q, first);
		}
		earliest = UINT64_MAX;
		for (size_t i = 0; i < COUNT; i++) {
			assert_true(e[i].ts_ns > now);
			earliest = e[i].ts_ns < earliest ? e[i].ts_ns : earliest;
		}
		assert_true((first ? first->ts_ns : UINT64_MAX) == earliest);
	}
	mt_expiry_queue_deinit(&q);
	free(e);
}

static void test_never_is_not_queued(void **state)
{
	struct mt_expiry_queue q = {0};
	struct mt_expiry e;

	(void)state;
	mt_expiry_init(&e, true);
	assert_int_equal(mt_expiry_set(&q, &e, UINT64_MAX), 0);
	assert_null(mt_expiry_first(&q));
	assert_int_equal(mt_expiry_set(&q, &e, 5), 0);
	assert_ptr_equal(mt_expiry_first(&q), &e);
	assert_true(e.is_closing);
	mt_expiry_remove(&q, &e);
	assert_true(e.is_closing);
	mt_expiry_queue_deinit(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_set_to_and_fro),
		cmocka_unit_test(test_never_is_not_queued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
