/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* How large packets become on a path, and what happens when it stops to carry them. */
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define MUCH   ((uint64_t)3 * 1024 * 1024) /* each way */
#define LITTLE ((uint64_t)100 * 1000)

static void connect_with(struct echo *e, uint16_t ceiling, size_t mtu)
{
	struct mt_endpoint_limits limits = sim_limits();

	echo_init(e, 1);
	e->sim.mtu = mtu;
	limits.max_udp_payload = ceiling;
	mt_endpoint_set_limits(e->sim.client.ep, &limits);
	mt_endpoint_set_limits(e->sim.server.ep, &limits);
	echo_connect(e);
}

static void transfer(struct echo *e, uint64_t size)
{
	struct echo_stream *s = echo_start(e, size);

	assert_true(sim_run(&e->sim, echo_all_done, e, 60 * SIM_S));
	assert_false(s->wrong);
	assert_true(s->fin);
}

static void test_path_payload_is_what_the_path_carries(void **state)
{
	static const struct {
		size_t mtu;
		uint16_t ceiling, payload;
	} cases[] = {{0, 1200, 1200}, {0, 1300, 1300}, {0, 1452, 1452}, {0, 9000, 9000},
		{0, MT_UDP_PAYLOAD_CEILING, MT_UDP_PAYLOAD_CEILING}, {0, 65473, 65473},
		{1452, MT_UDP_PAYLOAD_CEILING, 1452}, {1410, MT_UDP_PAYLOAD_CEILING, 1406},
		{1231, MT_UDP_PAYLOAD_CEILING, 1200}, {8972, MT_UDP_PAYLOAD_CEILING, 8952},
		{1452, 9000, 1452}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct echo e;

		connect_with(&e, cases[i].ceiling, cases[i].mtu);
		for (unsigned n = 0; n < 12; n++) { /* a probe fails with its third loss */
			transfer(&e, MUCH);
		}
		assert_int_equal(mt_conn_path_payload(e.conn), cases[i].payload);
		assert_int_equal(mt_conn_path_payload(e.server_conn), cases[i].payload);
		echo_deinit(&e);
	}
}

/* Who sends little is not worth a large probe, nor the buffer for it at the other end. */
static void test_path_payload_of_little_traffic_is_ordinary(void **state)
{
	uint64_t before;
	struct echo e;

	(void)state;
	connect_with(&e, MT_UDP_PAYLOAD_CEILING, 0);
	before = e.sim.client.bytes_out;
	transfer(&e, LITTLE);
	assert_int_equal(mt_conn_path_payload(e.conn), 1452);
	assert_int_equal(mt_conn_path_payload(e.server_conn), 1452);
	assert_true(e.sim.client.bytes_out - before < LITTLE * 6 / 5);
	echo_deinit(&e);
}

static bool has_large_packets(void *user)
{
	struct echo *e = user;

	return mt_conn_path_payload(e->conn) == MT_UDP_PAYLOAD_CEILING &&
	       mt_conn_path_payload(e->server_conn) == MT_UDP_PAYLOAD_CEILING;
}

/* A route changes to a narrower link and nobody tells: the transfer goes on, and packets grow again
 * when it has become wide. */
static void test_path_that_becomes_narrow(void **state)
{
	struct echo_stream *s;
	uint64_t narrow_ns;
	struct echo e;

	(void)state;
	connect_with(&e, MT_UDP_PAYLOAD_CEILING, 0);
	s = echo_start(&e, 10 * MUCH);
	assert_true(sim_run(&e.sim, has_large_packets, &e, 10 * SIM_S));
	assert_false(s->ended);
	e.sim.mtu = 1300;
	narrow_ns = e.sim.now_ns;
	assert_true(sim_run(&e.sim, echo_all_done, &e, 25 * SIM_S));
	assert_true(s->fin && !s->wrong);
	assert_true(e.sim.now_ns - narrow_ns < 20 * SIM_S);

	e.sim.mtu = 0;
	for (unsigned n = 0; n < 20 && !has_large_packets(&e); n++) {
		transfer(&e, 5 * MUCH);
	}
	assert_true(has_large_packets(&e));
	echo_deinit(&e);
}

/* The same beside datagrams that are small enough for it, and are answered all the time. */
static void test_path_that_becomes_narrow_beside_small_packets(void **state)
{
	static const struct {
		uint16_t ceiling;
		size_t mtu;
		unsigned gap_ms;
	} cases[] = {{MT_UDP_PAYLOAD_CEILING, 1300, 10}, {MT_UDP_PAYLOAD_CEILING, 1300, 20},
		{MT_UDP_PAYLOAD_CEILING, 1300, 40}, {MT_UDP_PAYLOAD_CEILING, 1300, 80},
		{1452, 1300, 20}, {1452, 1300, 200}, {1452, 1300, 60000}};
	struct echo_stream *s;
	uint64_t narrow_ns;
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		connect_with(&e, cases[i].ceiling, 0);
		transfer(&e, MUCH);
		s = echo_start(&e, 10 * MUCH);
		assert_false(sim_run(&e.sim, echo_all_done, &e, 100 * SIM_MS));
		e.sim.mtu = cases[i].mtu;
		narrow_ns = e.sim.now_ns;
		while (!echo_all_done(&e) && e.sim.now_ns - narrow_ns < 20 * SIM_S) {
			assert_int_equal(mt_conn_send_datagram(e.conn, "x", 1, NULL, 0), 0);
			(void)sim_run(&e.sim, echo_all_done, &e, cases[i].gap_ms * SIM_MS);
		}
		assert_true(s->fin && !s->wrong);
		echo_deinit(&e);
	}
}

/* The network is away for some time: packets are as large as before soon after. */
static void test_path_that_is_away(void **state)
{
	struct echo_stream *s;
	struct echo e;

	(void)state;
	connect_with(&e, MT_UDP_PAYLOAD_CEILING, 0);
	s = echo_start(&e, 40 * MUCH);
	assert_true(sim_run(&e.sim, has_large_packets, &e, 10 * SIM_S));
	for (unsigned i = 0; i < 4; i++) {
		e.sim.black_hole = true;
		assert_false(sim_run(&e.sim, NULL, NULL, 2 * SIM_S));
		e.sim.black_hole = false;
		e.sim.client.link.rate_bps = e.sim.server.link.rate_bps = 30000000;
		e.sim.client.link.queue_bytes = e.sim.server.link.queue_bytes = 1000000;
		assert_false(sim_run(&e.sim, NULL, NULL, 8 * SIM_S));
		assert_false(s->ended);
		assert_true(has_large_packets(&e));
	}
	echo_deinit(&e);
}

static bool is_over_or_narrow(void *user)
{
	struct echo *e = user;

	return echo_all_done(e) || mt_conn_path_payload(e->conn) == 1200 ||
	       mt_conn_path_payload(e->server_conn) == 1200;
}

/* A path that loses, delays and reorders packets of all sizes is not narrow. */
static void test_path_that_loses_is_not_narrow(void **state)
{
	static const struct {
		unsigned loss_permille;
		uint64_t delay_ns, jitter_ns;
		uint64_t rate_bps, queue_bytes;
	} cases[] = {{30, 1 * SIM_MS, 0, 0, 0}, {30, 10 * SIM_MS, 5 * SIM_MS, 0, 0},
		{30, 150 * SIM_MS, 20 * SIM_MS, 0, 0}, {50, 50 * SIM_MS, 0, 0, 0},
		{0, 10 * SIM_MS, 0, 5000000, 25000}, {10, 50 * SIM_MS, 0, 5000000, 500000}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (enum mt_cc cc = MT_CC_CUBIC; cc <= MT_CC_RENO; cc++) {
			struct mt_endpoint_limits limits = sim_limits();
			struct echo e;

			echo_init(&e, i + 1);
			limits.congestion_control = cc;
			mt_endpoint_set_limits(e.sim.client.ep, &limits);
			mt_endpoint_set_limits(e.sim.server.ep, &limits);
			echo_connect(&e);
			assert_false(sim_run(&e.sim, NULL, NULL, 1 * SIM_S));
			e.sim.delay_ns = cases[i].delay_ns;
			e.sim.jitter_ns = cases[i].jitter_ns;
			e.sim.loss_permille = cases[i].loss_permille;
			e.sim.client.link.rate_bps = e.sim.server.link.rate_bps = cases[i].rate_bps;
			e.sim.client.link.queue_bytes = e.sim.server.link.queue_bytes =
				cases[i].queue_bytes;
			(void)echo_start(&e, MUCH);
			(void)echo_start(&e, MUCH);
			assert_true(sim_run(&e.sim, is_over_or_narrow, &e, 600 * SIM_S));
			assert_true(echo_all_done(&e));
			echo_deinit(&e);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path_payload_is_what_the_path_carries),
		cmocka_unit_test(test_path_payload_of_little_traffic_is_ordinary),
		cmocka_unit_test(test_path_that_becomes_narrow),
		cmocka_unit_test(test_path_that_becomes_narrow_beside_small_packets),
		cmocka_unit_test(test_path_that_is_away),
		cmocka_unit_test(test_path_that_loses_is_not_narrow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
