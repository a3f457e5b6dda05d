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
		cmocka_unit_test(test_never_is_not_queued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
