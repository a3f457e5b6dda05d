/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* The simulated link itself, and what every congestion control must be able to do on it. */
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define RATE_BPS 10000000u
#define BYTES    5000000u

static void use_link(struct echo *e, uint64_t queue_bytes)
{
	e->sim.client.link = (struct sim_link){.rate_bps = RATE_BPS, .queue_bytes = queue_bytes};
	e->sim.server.link = e->sim.client.link;
	e->sim.tick_ns = 50000;
}

/* Echoes BYTES each way with `cc` on both sides; returns how long it took. */
static uint64_t transfer(struct echo *e, enum mt_cc cc, uint64_t queue_bytes)
{
	struct mt_endpoint_limits limits = sim_limits();
	uint64_t begin_ns;

	echo_init(e, 1);
	limits.congestion_control = cc;
	mt_endpoint_set_limits(e->sim.client.ep, &limits);
	mt_endpoint_set_limits(e->sim.server.ep, &limits);
	use_link(e, queue_bytes);
	echo_connect(e);
	begin_ns = e->sim.now_ns;
	echo_start(e, BYTES);
	assert_true(sim_run(&e->sim, echo_all_done, e, 60 * SIM_S));
	assert_false(e->streams[0].wrong);
	assert_true(e->streams[0].fin);
	return e->sim.now_ns - begin_ns;
}

/* Nothing is faster than the link, and with room to queue nothing is much slower. */
static void test_link_is_filled_and_not_exceeded(void **state)
{
	static const enum mt_cc all[] = {MT_CC_CUBIC, MT_CC_BBR, MT_CC_RENO};
	const uint64_t least_ns = BYTES * 8ull * SIM_S / RATE_BPS;
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint64_t took_ns = transfer(&e, all[i], 50000);

		assert_in_range(took_ns, least_ns, least_ns * 3 / 2);
		assert_in_range(e.sim.client.link.bytes, BYTES, BYTES * 5 / 4);
		echo_deinit(&e);
	}
}

/* What finds the queue full is lost, counted and sent again. */
static void test_link_overflows_when_the_queue_is_full(void **state)
{
	struct echo e;

	(void)state;
	(void)transfer(&e, MT_CC_CUBIC, 20000);
	assert_true(e.sim.client.link.overflowed > 0);
	assert_int_equal(e.sim.client.link.lost, 0);
	/* nobody waits longer than the whole queue takes: 16 ms */
	assert_in_range(sim_link_wait_ns(&e.sim.client.link, 999), SIM_MS, 16 * SIM_MS);
	assert_true(sim_link_wait_ns(&e.sim.client.link, 100) <=
		    sim_link_wait_ns(&e.sim.client.link, 900));
	echo_deinit(&e);
}

/* A connection that has been quiet for long, but for a few words now and then, still sends at the
 * pace of the link: what BBR queues there stays short.
 */
static void test_link_is_paced_after_small_talk(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 1);
	use_link(&e, 60000); /* 48 ms */
	echo_connect(&e);
	for (unsigned i = 0; i < 100; i++) {
		echo_start(&e, 100);
		assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	}
	memset(e.sim.client.link.wait_bins, 0, sizeof(e.sim.client.link.wait_bins));
	memset(e.sim.server.link.wait_bins, 0, sizeof(e.sim.server.link.wait_bins));
	echo_start(&e, 2000000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[e.stream_count - 1].fin);
	assert_in_range(sim_link_wait_ns(&e.sim.client.link, 500), 0, 15 * SIM_MS);
	assert_in_range(sim_link_wait_ns(&e.sim.server.link, 500), 0, 15 * SIM_MS);
	echo_deinit(&e);
}

/* The default of all other simulations. */
static void test_link_without_rate_has_no_queue(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 2);
	echo_connect(&e);
	echo_start(&e, BYTES);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_int_equal(e.sim.client.link.overflowed, 0);
	assert_int_equal(sim_link_wait_ns(&e.sim.client.link, 999), 0);
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link_is_filled_and_not_exceeded),
		cmocka_unit_test(test_link_overflows_when_the_queue_is_full),
		cmocka_unit_test(test_link_is_paced_after_small_talk),
		cmocka_unit_test(test_link_without_rate_has_no_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
