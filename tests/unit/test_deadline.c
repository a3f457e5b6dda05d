/* links: daemon/deadline.c */
#include "daemon/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT 500

struct item {
	struct mt_deadline deadline;
	struct fixture *owner;
	uint64_t want_ms;
	unsigned fired;
	bool cancelled;
};

struct fixture {
	uv_loop_t loop;
	struct mt_deadlines deadlines;
	struct item items[COUNT];
	uint64_t last_ms;
	unsigned fired;
	unsigned disorder;
	uint32_t random; /* a sequence that is the same each time */
};

static uint32_t random_of(struct fixture *f)
{
	f->random = f->random * 1664525u + 1013904223u;
	return f->random >> 16;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || uv_loop_init(&f->loop) < 0 ||
		mt_deadlines_init(&f->deadlines, &f->loop) < 0) {
		return -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rv;

	mt_deadlines_close(&f->deadlines);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT); /* closes the timer */
	rv = uv_loop_close(&f->loop);
	free(f);
	return rv;
}

static void on_due(struct mt_deadline *deadline)
{
	struct item *item = (struct item *)deadline;
	struct fixture *f = item->owner;

	if (item->want_ms < f->last_ms || uv_now(&f->loop) < item->want_ms) {
		f->disorder++;
	}
	f->last_ms = item->want_ms;
	item->fired++;
	f->fired++;
}

static void set(struct fixture *f, unsigned i, uint64_t delay_ms)
{
	struct item *item = &f->items[i];

	item->owner = f;
	item->deadline.on_due = on_due;
	item->want_ms = mt_deadlines_now_ms(&f->deadlines) + (delay_ms > 0 ? delay_ms : 1);
	mt_deadline_set(&f->deadlines, &item->deadline, delay_ms);
}

/* Set, moved and cancelled at random: each fires once, in order, or never. */
static void test_set_random_order(void **state)
{
	struct fixture *f = *state;
	unsigned expected = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		set(f, i, (uint64_t)(random_of(f) % 60));
	}
	for (unsigned i = 0; i < COUNT; i += 3) {
		set(f, i, (uint64_t)(random_of(f) % 60));
	}
	for (unsigned i = 0; i < COUNT; i += 4) {
		mt_deadline_cancel(&f->items[i].deadline);
		mt_deadline_cancel(&f->items[i].deadline);
		f->items[i].cancelled = true;
	}
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(f->items[i].fired, f->items[i].cancelled ? 0 : 1);
		expected += f->items[i].cancelled ? 0 : 1;
	}
	assert_int_equal(f->fired, expected);
	assert_int_equal(f->disorder, 0);
}

static void on_due_again(struct mt_deadline *deadline)
{
	struct item *item = (struct item *)deadline;

	if (++item->fired < 5) {
		mt_deadline_set(&item->owner->deadlines, deadline, 0);
	}
}

/* A handler that sets itself again at once does not hold the loop. */
static void test_set_from_its_handler(void **state)
{
	struct fixture *f = *state;

	set(f, 0, 0);
	f->items[0].deadline.on_due = on_due_again;
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->items[0].fired, 5);
}

static void on_due_cancel_others(struct mt_deadline *deadline)
{
	struct item *item = (struct item *)deadline;

	item->fired++;
	for (unsigned i = 0; i < 10; i++) {
		mt_deadline_cancel(&item->owner->items[i].deadline);
	}
}

/* Of several that are due in the same turn, one may cancel the rest. */
static void test_cancel_from_a_handler(void **state)
{
	struct fixture *f = *state;
	unsigned fired = 0;

	for (unsigned i = 0; i < 10; i++) {
		set(f, i, 5);
		f->items[i].deadline.on_due = on_due_cancel_others;
	}
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	for (unsigned i = 0; i < 10; i++) {
		fired += f->items[i].fired;
	}
	assert_int_equal(fired, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_set_random_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_from_its_handler, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_from_a_handler, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
