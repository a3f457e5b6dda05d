/* links: client/chooser.c */
#include "client/chooser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define START 5000000ull

static struct mt_chooser chooser(enum mt_choice choice)
{
	struct mt_chooser c;

	mt_chooser_init(&c, choice, START);
	return c;
}

#define assert_uses(c, now, transport)                                                             \
	assert_string_equal(mt_transport_text(mt_chooser_transport(c, now)), transport)

/* TLS in use since `now_ms`, as QUIC did not answer. */
static struct mt_chooser on_tls(uint64_t now_ms)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	mt_chooser_set_tls(&c, true, now_ms);
	assert_uses(&c, now_ms, "tls");
	return c;
}

static void test_transport_nothing_up(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	assert_uses(&c, START, "none");
	assert_true(mt_chooser_wants_quic(&c, START));
	assert_false(mt_chooser_wants_tls(&c, START));
}

static void test_wants_tls_after_head_start(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);
	uint64_t then = START + MT_CHOOSER_HEAD_START_MS;

	(void)state;
	assert_int_equal(mt_chooser_next_ms(&c, START), then);
	assert_false(mt_chooser_may_try_tls(&c, then - 1));
	assert_true(mt_chooser_may_try_tls(&c, then));
	assert_true(mt_chooser_wants_quic(&c, then));
	assert_int_equal(mt_chooser_next_ms(&c, then), UINT64_MAX);
}

static void test_wants_tls_once_quic_failed(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_quic_failed(&c, START + 1);
	assert_true(mt_chooser_may_try_tls(&c, START + 1));
	assert_true(mt_chooser_wants_quic(&c, START + 1)); /* how often is the caller's */
}

static void test_wants_tls_not_while_quic_is_good(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 20);
	assert_uses(&c, START + 20, "quic");
	assert_false(mt_chooser_wants_tls(&c, START + 60000));
	assert_int_equal(mt_chooser_next_ms(&c, START + 60000), UINT64_MAX);
	/* A new head start counts from the loss. */
	mt_chooser_set_quic(&c, MT_HEALTH_DOWN, START + 60000);
	assert_uses(&c, START + 60000, "none");
	assert_false(mt_chooser_wants_tls(&c, START + 60000 + MT_CHOOSER_HEAD_START_MS - 1));
	assert_true(mt_chooser_wants_tls(&c, START + 60000 + MT_CHOOSER_HEAD_START_MS));
}

/* QUIC answers while TLS is on its way: it is used, and a TLS that arrives later changes nothing.
 */
static void test_transport_quic_wins(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	assert_true(mt_chooser_may_try_tls(&c, START + 300));
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 310);
	assert_uses(&c, START + 310, "quic");
	mt_chooser_set_tls(&c, true, START + 330);
	assert_uses(&c, START + 330, "quic");
	/* It is let go of after a while. */
	assert_true(mt_chooser_wants_tls(&c, START + 330));
	assert_int_equal(mt_chooser_next_ms(&c, START + 330), START + 310 + MT_CHOOSER_LINGER_MS);
	assert_false(mt_chooser_wants_tls(&c, START + 310 + MT_CHOOSER_LINGER_MS));
}

static void test_transport_tls_wins(void **state)
{
	struct mt_chooser c = on_tls(START + 320);

	(void)state;
	assert_true(mt_chooser_wants_tls(&c, START + 320));
	/* A late QUIC is taken at once. */
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 700);
	assert_uses(&c, START + 700, "quic");
}

static void test_transport_tls_lost(void **state)
{
	struct mt_chooser c = on_tls(START + 320);

	(void)state;
	mt_chooser_tls_failed(&c, START + 5000);
	assert_uses(&c, START + 5000, "none");
	assert_true(mt_chooser_wants_tls(&c, START + 5000));
	assert_false(mt_chooser_may_try_tls(&c, START + 5000));
	assert_int_equal(mt_chooser_next_ms(&c, START + 5000), START + 5000 + MT_CHOOSER_RETRY_MS);
	assert_true(mt_chooser_may_try_tls(&c, START + 5000 + MT_CHOOSER_RETRY_MS));
	assert_true(mt_chooser_wants_quic(&c, START + 5000));
}

static void test_tls_failed_grows(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);
	uint64_t now = START + MT_CHOOSER_HEAD_START_MS;
	uint64_t wait = MT_CHOOSER_RETRY_MS;

	(void)state;
	for (int i = 0; i < 12; i++) {
		assert_true(mt_chooser_may_try_tls(&c, now));
		mt_chooser_tls_failed(&c, now);
		assert_false(mt_chooser_may_try_tls(&c, now + wait - 1));
		now += wait;
		wait = wait * 2 < MT_CHOOSER_RETRY_MAX_MS ? wait * 2 : MT_CHOOSER_RETRY_MAX_MS;
	}
	/* Success forgets. */
	mt_chooser_set_tls(&c, true, now);
	mt_chooser_tls_failed(&c, now);
	assert_true(mt_chooser_may_try_tls(&c, now + MT_CHOOSER_RETRY_MS));
}

/* A failed TLS takes nothing from a QUIC that works. */
static void test_tls_failed_under_quic(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START);
	mt_chooser_set_tls(&c, true, START + 1);
	mt_chooser_tls_failed(&c, START + 2);
	assert_uses(&c, START + 2, "quic");
	assert_false(mt_chooser_wants_tls(&c, START + 2));
}

static void test_doubtful_races(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, START + 4000);
	/* Nothing better is there yet, but it is looked for at once. */
	assert_uses(&c, START + 4000, "quic");
	assert_true(mt_chooser_may_try_tls(&c, START + 4000));
	mt_chooser_set_tls(&c, true, START + 4050);
	assert_uses(&c, START + 4050, "tls");
	assert_true(mt_chooser_wants_quic(&c, START + 4050));
	/* It answers after all. */
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 4100);
	assert_uses(&c, START + 4100, "quic");
}

static void test_doubtful_recovers_before_tls(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, START + 4000);
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 4010);
	assert_uses(&c, START + 4010, "quic");
	assert_false(mt_chooser_wants_tls(&c, START + 4010));
}

static void test_doubtful_without_tls(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_AUTO);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, START + 4000);
	mt_chooser_tls_failed(&c, START + 4001);
	assert_uses(&c, START + 4001, "quic");
	mt_chooser_set_quic(&c, MT_HEALTH_DOWN, START + 5500);
	assert_uses(&c, START + 5500, "none");
}

static void test_probes_grow_and_are_bounded(void **state)
{
	struct mt_chooser c = on_tls(START);
	uint64_t now = START;
	uint64_t wait = MT_CHOOSER_PROBE_MS;

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_true(mt_chooser_wants_quic(&c, now));
		now += 3000;
		mt_chooser_quic_failed(&c, now);
		assert_false(mt_chooser_wants_quic(&c, now + wait - 1));
		assert_int_equal(mt_chooser_next_ms(&c, now), now + wait);
		now += wait;
		wait = wait * 2 < MT_CHOOSER_PROBE_MAX_MS ? wait * 2 : MT_CHOOSER_PROBE_MAX_MS;
	}
	assert_true(wait + 3000 + 3000 < 30000);
	/* Success forgets. */
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now);
	assert_uses(&c, now, "quic");
	mt_chooser_set_quic(&c, MT_HEALTH_DOWN, now + 60000);
	assert_uses(&c, now + 60000, "tls");
	assert_true(mt_chooser_wants_quic(&c, now + 60000));
	mt_chooser_quic_failed(&c, now + 61000);
	assert_true(mt_chooser_wants_quic(&c, now + 61000 + MT_CHOOSER_PROBE_MS));
}

/* A network that lets handshakes through and drops what follows. */
static void test_relapses_wait_longer(void **state)
{
	struct mt_chooser c = on_tls(START);
	uint64_t now = START + 1000;
	uint64_t penalty = MT_CHOOSER_PENALTY_MS;

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now);
	for (int i = 0; i < 8; i++) {
		assert_uses(&c, now, "quic");
		now += 2000;
		mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, now);
		mt_chooser_set_tls(&c, true, now);
		assert_uses(&c, now, "tls");
		/* Good again, but for how long? */
		mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now + 10);
		assert_uses(&c, now + 10, "tls");
		assert_uses(&c, now + penalty - 1, "tls");
		assert_false(mt_chooser_wants_quic(&c, now + penalty - 1));
		assert_int_equal(mt_chooser_next_ms(&c, now + 10), now + penalty);
		now += penalty;
		penalty = penalty * 2 < MT_CHOOSER_PENALTY_MAX_MS ? penalty * 2
								  : MT_CHOOSER_PENALTY_MAX_MS;
	}
	assert_true(penalty < 30000);
}

static void test_relapses_are_forgotten(void **state)
{
	struct mt_chooser c = on_tls(START);
	uint64_t now = START + 1000;

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, now + 2000);
	now += 2000 + MT_CHOOSER_PENALTY_MS;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now);
	assert_uses(&c, now, "quic");
	assert_uses(&c, now + MT_CHOOSER_RELAPSE_MS, "quic"); /* lasted */
	now += MT_CHOOSER_RELAPSE_MS + 5000;
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, now);
	assert_uses(&c, now, "tls");
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, now + 100);
	assert_uses(&c, now + 100, "quic");
}

/* The penalty is for going to and fro only: with TLS gone there is nothing to stay on. */
static void test_relapse_without_tls(void **state)
{
	struct mt_chooser c = on_tls(START);

	(void)state;
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 1000);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, START + 2000);
	assert_uses(&c, START + 2000, "tls");
	mt_chooser_set_quic(&c, MT_HEALTH_GOOD, START + 2100);
	assert_uses(&c, START + 2100, "tls");
	mt_chooser_tls_failed(&c, START + 2200);
	assert_uses(&c, START + 2200, "quic");
}

static void test_hurry(void **state)
{
	struct mt_chooser c = on_tls(START);

	(void)state;
	for (int i = 0; i < 8; i++) {
		mt_chooser_quic_failed(&c, START + 1000);
	}
	assert_false(mt_chooser_wants_quic(&c, START + 1000 + MT_CHOOSER_PROBE_MS));
	mt_chooser_hurry(&c, START + 1000);
	assert_true(mt_chooser_wants_quic(&c, START + 1000 + MT_CHOOSER_PROBE_MS));
}

static void test_only_quic(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_QUIC);

	(void)state;
	mt_chooser_quic_failed(&c, START + 100);
	assert_false(mt_chooser_wants_tls(&c, START + 60000));
	assert_true(mt_chooser_wants_quic(&c, START + 60000));
	assert_int_equal(mt_chooser_next_ms(&c, START + 60000), UINT64_MAX);
	mt_chooser_set_quic(&c, MT_HEALTH_DOUBTFUL, START + 60000);
	assert_uses(&c, START + 60000, "quic");
	assert_false(mt_chooser_wants_tls(&c, START + 60000));
}

static void test_only_tls(void **state)
{
	struct mt_chooser c = chooser(MT_CHOICE_TLS);

	(void)state;
	assert_true(mt_chooser_may_try_tls(&c, START));
	assert_false(mt_chooser_wants_quic(&c, START));
	mt_chooser_tls_failed(&c, START + 10);
	assert_int_equal(mt_chooser_next_ms(&c, START + 10), START + 10 + MT_CHOOSER_RETRY_MS);
	mt_chooser_set_tls(&c, true, START + 300);
	assert_uses(&c, START + 300, "tls");
	assert_false(mt_chooser_wants_quic(&c, START + 300));
	assert_true(mt_chooser_wants_tls(&c, START + 86400000));
	assert_int_equal(mt_chooser_next_ms(&c, START + 300), UINT64_MAX);
}

/* Whatever happens in whatever order: what is used is up, and with something to do there is a next
 * moment or somebody is asked to try.
 */
static void test_any_order(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 4096; order++) {
		struct mt_chooser c = chooser(MT_CHOICE_AUTO);
		enum mt_health quic = MT_HEALTH_DOWN;
		uint64_t now = START;
		bool tls = false;

		for (unsigned step = 0; step < 4; step++) {
			enum mt_transport used;

			switch (order >> (step * 3) & 7) {
			case 0: quic = MT_HEALTH_GOOD; break;
			case 1: quic = MT_HEALTH_DOUBTFUL; break;
			case 2: quic = MT_HEALTH_DOWN; break;
			case 3: mt_chooser_quic_failed(&c, now); break;
			case 4: tls = true; break;
			case 5:
				tls = false;
				mt_chooser_tls_failed(&c, now);
				break;
			case 6: now += MT_CHOOSER_HEAD_START_MS; break;
			default: now += MT_CHOOSER_RELAPSE_MS; break;
			}
			mt_chooser_set_quic(&c, quic, now);
			mt_chooser_set_tls(&c, tls, now);
			used = mt_chooser_transport(&c, now);
			if (used == MT_TRANSPORT_NONE) {
				assert_true(quic == MT_HEALTH_DOWN && !tls);
				assert_true(mt_chooser_wants_quic(&c, now));
				assert_true(mt_chooser_may_try_tls(&c, now) ||
					    mt_chooser_next_ms(&c, now) != UINT64_MAX);
			} else if (used == MT_TRANSPORT_QUIC) {
				assert_true(quic == MT_HEALTH_GOOD ||
					    (quic == MT_HEALTH_DOUBTFUL && !tls));
			} else {
				assert_true(tls);
				assert_true(mt_chooser_wants_quic(&c, now) ||
					    mt_chooser_next_ms(&c, now) <
						    now + MT_CHOOSER_PENALTY_MAX_MS + 1);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transport_nothing_up),
		cmocka_unit_test(test_wants_tls_after_head_start),
		cmocka_unit_test(test_wants_tls_once_quic_failed),
		cmocka_unit_test(test_wants_tls_not_while_quic_is_good),
		cmocka_unit_test(test_transport_quic_wins),
		cmocka_unit_test(test_transport_tls_wins),
		cmocka_unit_test(test_transport_tls_lost),
		cmocka_unit_test(test_tls_failed_grows),
		cmocka_unit_test(test_tls_failed_under_quic),
		cmocka_unit_test(test_doubtful_races),
		cmocka_unit_test(test_doubtful_recovers_before_tls),
		cmocka_unit_test(test_doubtful_without_tls),
		cmocka_unit_test(test_probes_grow_and_are_bounded),
		cmocka_unit_test(test_relapses_wait_longer),
		cmocka_unit_test(test_relapses_are_forgotten),
		cmocka_unit_test(test_relapse_without_tls),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_only_quic),
		cmocka_unit_test(test_only_tls),
		cmocka_unit_test(test_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
