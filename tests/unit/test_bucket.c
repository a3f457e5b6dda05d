/* links: proto/io/bucket.c proto/io/pacer.c */
#include "proto/io/bucket.h"
#include "proto/io/pacer.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS      1000000ull
#define S       1000000000ull
#define START   (1000 * S)
#define RATE    6250000u /* 50 Mbit/s */
#define THREADS 4

/* What two seconds of polling let through. */
static uint64_t drain(struct mt_bucket *b, uint64_t step_ns, size_t want)
{
	uint64_t sum = 0;
	size_t got;

	for (uint64_t now = START; now < START + 2 * S; now += step_ns) {
		while ((got = mt_bucket_take(b, want, now)) > 0) {
			sum += got;
		}
	}
	return sum;
}

static void test_take_rate(void **state)
{
	static const uint64_t steps[] = {100000, 2 * MS, 7 * MS, 40 * MS};
	static const size_t wants[] = {1, 1000, 16384, 262144};
	static const uint64_t rates[] = {1250, 125000, RATE, 1250000000};

	(void)state;
	for (size_t r = 0; r < 4; r++) {
		for (size_t i = 0; i < 4; i++) {
			struct mt_bucket b = {0};
			uint64_t sum;

			mt_bucket_set_rate(&b, rates[r]);
			sum = drain(&b, steps[i], r == 3 ? 262144 : wants[i]);
			assert_in_range(sum, rates[r] * 2 * 96 / 100, rates[r] * 2 * 104 / 100);
		}
	}
}

static void test_take_burst(void **state)
{
	struct mt_bucket b = {0};
	uint64_t sum = 0;
	size_t got;

	(void)state;
	assert_int_equal(mt_bucket_take(&b, 123456, START), 123456); /* no limit */
	mt_bucket_set_rate(&b, RATE);
	while ((got = mt_bucket_take(&b, 10000, START)) > 0) {
		sum += got;
	}
	assert_in_range(sum, 1, RATE / 10); /* 100 ms of it */
	assert_false(mt_bucket_room(&b, START - MS));
	/* An hour later there is no more than the same. */
	sum = 0;
	while ((got = mt_bucket_take(&b, 10000, START + 3600 * S)) > 0) {
		sum += got;
	}
	assert_in_range(sum, 1, RATE / 10);
	/* A worthwhile piece or nothing. */
	assert_int_equal(mt_bucket_take(&b, 10000, START + 3600 * S + MS / 100), 0);
}

static void test_return_and_charge(void **state)
{
	struct mt_bucket b = {0};
	size_t got;

	(void)state;
	mt_bucket_packet_charge(&b, 1000, START); /* nothing without a limit */
	mt_bucket_return(&b, 1000);
	mt_bucket_set_rate(&b, RATE);
	got = mt_bucket_take(&b, 100000, START);
	assert_int_equal(got, 100000);
	mt_bucket_return(&b, 100000);
	assert_int_equal(mt_bucket_take(&b, 100000, START), 100000);
	/* A second's worth ahead: closed for that second. */
	mt_bucket_packet_charge(&b, RATE, START);
	assert_false(mt_bucket_room(&b, START + S / 2));
	assert_int_equal(mt_bucket_take(&b, 1, START + S / 2), 0);
	assert_true(mt_bucket_room(&b, START + S));
	/* A new rate holds at once, and forgets the debt. */
	mt_bucket_packet_charge(&b, 100 * RATE, START + S);
	mt_bucket_set_rate(&b, 2 * RATE);
	assert_true(mt_bucket_take(&b, 1000, START + S) == 1000);
	mt_bucket_set_rate(&b, 0);
	assert_false(mt_bucket_is_limited(&b));
}

static void test_buckets(void **state)
{
	struct mt_bucket slow = {0};
	struct mt_bucket fast = {0};
	const struct mt_buckets both = {{&fast, &slow}};
	const struct mt_buckets none = {{NULL, NULL}};
	uint64_t sum = 0;

	(void)state;
	assert_false(mt_buckets_are_limited(&none));
	assert_false(mt_buckets_are_limited(&both));
	assert_int_equal(mt_buckets_take(&none, 77, START), 77);
	mt_bucket_set_rate(&slow, 100000);
	assert_true(mt_buckets_are_limited(&both));
	mt_bucket_set_rate(&fast, 1000000);
	for (uint64_t now = START; now < START + 10 * S; now += 2 * MS) {
		sum += mt_buckets_take(&both, 65536, now);
	}
	assert_in_range(sum, 980000, 1020000);
	/* What the slow one refused was given back to the fast one. */
	assert_true(mt_bucket_take(&fast, 40000, START + 10 * S) == 40000);
	mt_buckets_packet_charge(&both, 1000000, START + 10 * S);
	assert_false(mt_buckets_packet_room(&both, START + 11 * S + MS));
	assert_true(mt_bucket_room(&fast, START + 11 * S + MS));
	assert_true(mt_buckets_quantum(&both) >= 32768);
}

/* Datagrams of 1,200 bytes, `factor` times the rate, beside streams that take all they get every
 * two milliseconds; what each had in ten seconds. */
static void share(uint64_t rate, unsigned factor, uint64_t *streams, uint64_t *packets)
{
	struct mt_bucket b = {0};
	uint64_t gap = S * 1200 / (rate * factor);
	uint64_t tick = START;
	size_t got;

	*streams = 0;
	*packets = 0;
	mt_bucket_set_rate(&b, rate);
	for (uint64_t now = START; now < START + 10 * S; now += gap) {
		while (tick <= now) {
			while ((got = mt_bucket_take(&b, 16384, tick)) > 0) {
				*streams += got;
			}
			tick += 2 * MS;
		}
		if (mt_bucket_packet_room(&b, now) > 0) {
			mt_bucket_packet_charge(&b, 1200, now);
			*packets += 1200;
		}
	}
}

/* Neither starves the other, and together they have the rate. */
static void test_streams_and_packets(void **state)
{
	static const uint64_t rates[] = {625000, RATE, 125000000};
	uint64_t streams;
	uint64_t packets;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (unsigned factor = 1; factor <= 4; factor *= 2) {
			uint64_t all = rates[i] * 10;

			share(rates[i], factor, &streams, &packets);
			assert_in_range(streams + packets, all * 96 / 100, all * 104 / 100);
			assert_in_range(streams, all * 40 / 100, all);
			assert_in_range(packets, all * 40 / 100, all);
		}
	}
}

/* Alone, datagrams have all of the rate; from when on a stream waits they owe no more than one. */
static void test_packets_alone(void **state)
{
	struct mt_bucket b = {0};
	uint64_t sum = 0;
	uint64_t now = START;

	(void)state;
	mt_bucket_set_rate(&b, RATE);
	for (; now < START + 10 * S; now += MS / 10) {
		if (mt_bucket_packet_room(&b, now) > 0) {
			mt_bucket_packet_charge(&b, 1200, now);
			sum += 1200;
		}
	}
	assert_in_range(sum, RATE * 97 / 10, RATE * 103 / 10);
	assert_int_equal(mt_bucket_take(&b, 16384, now), 0);
	assert_true(mt_bucket_packet_room(&b, now + MS) > 0);
	/* Hunger is forgotten when nobody asks any more. */
	mt_bucket_packet_charge(&b, RATE / 10, now + MS);
	assert_int_equal(mt_bucket_packet_room(&b, now + 2 * MS), 0);
	assert_true(mt_bucket_packet_room(&b, now + 150 * MS) > 0);
}

static struct mt_bucket shared;
static _Atomic uint64_t clock_ns;

static void *take_on(void *arg)
{
	uint64_t *sum = arg;
	uint64_t now;

	while ((now = atomic_load(&clock_ns)) < START + 10 * S) {
		size_t got = mt_bucket_take(&shared, 5000, now);

		if (got > 1000) {
			mt_bucket_return(&shared, 1000);
			got -= 1000;
		}
		*sum += got;
	}
	return NULL;
}

/* Several threads together get the rate once. */
static void test_take_threads(void **state)
{
	pthread_t threads[THREADS];
	uint64_t sums[THREADS] = {0};
	uint64_t sum = 0;

	(void)state;
	mt_bucket_set_rate(&shared, RATE);
	atomic_store(&clock_ns, START);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, take_on, &sums[i]), 0);
	}
	/* The clock goes on once all that the moment allows has been taken. */
	for (uint64_t now = START; now < START + 10 * S; now += 5 * MS) {
		atomic_store(&clock_ns, now);
		while (atomic_load(&shared.spent_ns) + MS < now) {
			sched_yield();
		}
	}
	atomic_store(&clock_ns, START + 10 * S);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		sum += sums[i];
	}
	assert_in_range(sum, (uint64_t)RATE * 10 * 97 / 100, (uint64_t)RATE * 10 * 103 / 100);
}

/* ---- the pacer ---- */

struct waiter {
	struct mt_pacer_item item;
	struct mt_pacer *pacer;
	struct waiter *victim; /* cancelled in our turn */
	int turns;
	int again; /* how often to wait again */
	bool fed;
	int at; /* the place in the order of the last turn */
};

static int order;

static void on_turn(struct mt_pacer_item *item)
{
	struct waiter *w = (struct waiter *)item;

	w->turns++;
	w->at = order++;
	if (w->victim != NULL) {
		mt_pacer_cancel(&w->victim->item);
	}
	if (w->again > 0) {
		w->again--;
		mt_pacer_wait(w->pacer, item, w->fed);
	}
}

static void test_pacer_turns(void **state)
{
	struct waiter w[3] = {{.again = 5, .fed = true}, {.again = 5}, {.again = 0}};
	struct mt_pacer *pacer = NULL;
	uv_loop_t loop;

	(void)state;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(mt_pacer_new(&pacer, &loop), 0);
	for (int i = 0; i < 3; i++) {
		w[i].pacer = pacer;
		w[i].item.on_turn = on_turn;
		mt_pacer_wait(pacer, &w[i].item, false);
		mt_pacer_wait(pacer, &w[i].item, true); /* once is enough */
	}
	w[0].victim = &w[2];
	order = 0;
	/* Ends by itself: nobody waits any more. */
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(w[0].turns, 6);
	assert_int_equal(w[1].turns, 6);
	assert_int_equal(w[2].turns, 0);
	assert_true(w[1].at < w[0].at); /* the hungry one went first */
	mt_pacer_wait(pacer, &w[2].item, false);
	mt_pacer_cancel(&w[2].item);
	mt_pacer_cancel(&w[2].item);
	mt_pacer_wait(pacer, &w[2].item, false);
	mt_pacer_free(pacer);
	mt_pacer_free(NULL);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(w[2].turns, 0);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take_rate),
		cmocka_unit_test(test_take_burst),
		cmocka_unit_test(test_return_and_charge),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_streams_and_packets),
		cmocka_unit_test(test_packets_alone),
		cmocka_unit_test(test_take_threads),
		cmocka_unit_test(test_pacer_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
