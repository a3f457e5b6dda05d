/* links: daemon/renewal.c */
#include "daemon/renewal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the store and the appliance would do. */
struct world {
	struct mt_renewal renewal;
	int looks;
	int due_at;   /* the look that finds something to renew */
	int fails;    /* how many publications are still to fail */
	int renewals; /* that can still fail */
	int published;
	int told;
	int complaints;
	int stop_at;
};

static int renew(void *user, bool *changed, char *why, size_t why_cap)
{
	struct world *w = user;

	if (++w->looks == w->stop_at) {
		mt_renewal_stop(&w->renewal);
	}
	if (w->renewals > 0) {
		w->renewals--;
		(void)snprintf(why, why_cap, "no room");
		return MT_E_STORE;
	}
	*changed = w->looks == w->due_at;
	return 0;
}

static int publish(void *user, char *why, size_t why_cap)
{
	struct world *w = user;

	if (w->fails > 0) {
		w->fails--;
		(void)snprintf(why, why_cap, "no memory");
		return MT_E_LIMIT;
	}
	w->published++;
	return 0;
}

static void told(void *user, const char *why)
{
	struct world *w = user;

	if (why == NULL) {
		assert_int_equal(w->published, w->told + 1);
		w->told++;
	} else {
		assert_true(why[0] != '\0');
		w->complaints++;
	}
}

static void run(struct world *w, uint64_t every_ms, uint64_t again_ms)
{
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	w->renewal = (struct mt_renewal){.renew = renew,
		.publish = publish,
		.told = told,
		.user = w,
		.every_ms = every_ms,
		.again_ms = again_ms};
	mt_renewal_start(&w->renewal, &loop);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* It looks again and again, and acts when there is something to do. */
static void test_looks_and_renews(void **state)
{
	struct world w = {.due_at = 3, .stop_at = 5};

	(void)state;
	run(&w, 1, 1000000);
	assert_int_equal(w.looks, 5);
	assert_int_equal(w.published, 1);
	assert_int_equal(w.told, 1);
	assert_int_equal(w.complaints, 0);
}

/* What is stored but could not be published is published soon, and called done only then. */
static void test_publishes_again(void **state)
{
	struct world w = {.due_at = 1, .fails = 2, .stop_at = 4};

	(void)state;
	run(&w, 30, 1);
	assert_int_equal(w.looks, 4);
	assert_int_equal(w.complaints, 2);
	assert_int_equal(w.published, 1);
	assert_int_equal(w.told, 1);
}

static void test_renews_again(void **state)
{
	struct world w = {.due_at = 3, .renewals = 2, .stop_at = 4};

	(void)state;
	run(&w, 30, 1);
	assert_int_equal(w.complaints, 2);
	assert_int_equal(w.told, 1);
}

static void on_look(uv_timer_t *timer)
{
	mt_renewal_soon(timer->data);
	uv_close((uv_handle_t *)timer, NULL);
}

static void test_soon(void **state)
{
	struct world w = {.due_at = 1, .stop_at = 1};
	struct mt_renewal never = {.user = NULL};
	uv_loop_t loop;
	uv_timer_t timer;

	(void)state;
	mt_renewal_soon(&never);
	mt_renewal_stop(&never);
	assert_int_equal(uv_loop_init(&loop), 0);
	w.renewal = (struct mt_renewal){.renew = renew,
		.publish = publish,
		.told = told,
		.user = &w,
		.every_ms = 3600000,
		.again_ms = 3600000};
	mt_renewal_start(&w.renewal, &loop);
	assert_int_equal(uv_timer_init(&loop, &timer), 0);
	timer.data = &w.renewal;
	assert_int_equal(uv_timer_start(&timer, on_look, 1, 0), 0);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(w.told, 1);
	mt_renewal_soon(&w.renewal); /* it has ended */
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_looks_and_renews),
		cmocka_unit_test(test_publishes_again),
		cmocka_unit_test(test_renews_again),
		cmocka_unit_test(test_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
