/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* An endpoint near its limit of memory. */
#include "proto/quic/impl.h"
#include "proto/wire/request.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void set_memory(struct sim_node *node, uint64_t bytes)
{
	struct mt_endpoint_limits limits = sim_limits();

	limits.max_memory = bytes;
	mt_endpoint_set_limits(node->ep, &limits);
}

struct watch {
	struct echo *e;
	struct sim_node *node;
	uint64_t most;
};

static bool watch_memory(void *user)
{
	struct watch *w = user;
	uint64_t now = mt_endpoint_memory(w->node->ep);

	w->most = now > w->most ? now : w->most;
	return echo_all_done(w->e);
}

/* Sixteen streams on a long path would take 4 MiB of unsent bytes and more: they wait for each
 * other, and all end well within the limit.
 */
static void test_senders_wait(void **state)
{
	const uint64_t limit = 3u << 20;
	struct watch w = {0};
	struct echo e;

	(void)state;
	echo_init(&e, 1);
	e.sim.delay_ns = 50 * SIM_MS;
	echo_connect(&e);
	set_memory(&e.sim.client, limit);
	for (unsigned i = 0; i < 16; i++) {
		echo_start(&e, 2000000);
	}
	w = (struct watch){.e = &e, .node = &e.sim.client};
	assert_true(sim_run(&e.sim, watch_memory, &w, 300 * SIM_S));
	for (unsigned i = 0; i < 16; i++) {
		assert_true(e.streams[i].fin && !e.streams[i].cut && !e.streams[i].wrong);
	}
	assert_true(mt_counter_get(&e.sim.client.counters.memory_waits) > 0);
	assert_int_equal(mt_counter_get(&e.sim.client.counters.memory_shed), 0);
	assert_in_range(w.most, limit / 2, limit);
	assert_true(TAILQ_EMPTY(&e.sim.client.ep->starved));
	echo_deinit(&e);
}

/* A stream that waits ends in every way without leaving anything behind. */
static void test_waiting_streams_end(void **state)
{
	struct mt_stream *s[4];
	struct iovec iov;
	struct echo e;

	(void)state;
	echo_init(&e, 2);
	echo_connect(&e);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(mt_conn_open_stream(e.conn, &s[i]), 0);
		assert_int_equal(mt_stream_send(s[i], "x", 1), 0);
	}
	set_memory(&e.sim.client, 1);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(mt_stream_reserve(s[i], &iov, 1), 0);
		assert_int_equal(mt_stream_send_space(s[i]), 0);
		assert_int_equal(mt_stream_send(s[i], "y", 1), 0); /* messages pass */
	}
	mt_stream_reset(s[0], 0);
	mt_stream_release(s[0], 0);
	mt_stream_release(s[1], 0);
	mt_stream_send_fin(s[2]);
	mt_stream_release(s[2], 0);
	assert_true(TAILQ_FIRST(&e.sim.client.ep->starved));
	mt_conn_close(e.conn, MT_APP_NONE, "");
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(e.ended);
	mt_stream_release(s[3], 0);
	assert_true(TAILQ_EMPTY(&e.sim.client.ep->starved));
	echo_deinit(&e);
}

/* Handshakes under way go first, and are told why; a new client is refused; who is in stays. */
static void test_handshakes_are_shed(void **state)
{
	struct mt_endpoint *ep;
	struct echo e;

	(void)state;
	echo_init(&e, 3);
	echo_connect(&e);
	ep = e.sim.server.ep;
	e.sim.delay_ns = 100 * SIM_MS;
	for (unsigned i = 0; i < 20; i++) {
		(void)sim_connect(&e.sim);
	}
	(void)sim_run(&e.sim, NULL, NULL, 150 * SIM_MS);
	assert_int_equal(ep->half_open, 20);
	/* below it a part of the handshakes, and the connection, have room */
	set_memory(&e.sim.server, mt_endpoint_memory(ep) * 32 / 25 / 2);
	(void)sim_run(&e.sim, NULL, NULL, 60 * SIM_MS);
	assert_in_range(mt_counter_get(&e.sim.server.counters.memory_shed), 5, 15);
	assert_false(e.server_ended);
	set_memory(&e.sim.server, mt_endpoint_memory(ep) * 32 / 24);
	e.ended = false;
	(void)sim_connect(&e.sim);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 10 * SIM_S));
	assert_int_equal(e.end.code, NGTCP2_CONNECTION_REFUSED);
	assert_string_equal(e.end.reason, "the server is out of memory, try again later");
	assert_false(e.server_ended);
	echo_deinit(&e);
}

/* When nothing else helps, the connection that holds most makes room. */
static void test_largest_is_closed(void **state)
{
	struct mt_conn *small;
	struct echo e;

	(void)state;
	echo_init(&e, 4);
	echo_connect(&e);
	e.server_holds = true;
	for (unsigned i = 0; i < 8; i++) {
		echo_start(&e, 250000);
	}
	(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_S);
	assert_true(e.server_conn->rx_queued > 1000000);
	small = sim_connect(&e.sim);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(mt_conn_is_established(small));
	set_memory(&e.sim.server, 1u << 20);
	e.server_ended = e.ended = false;
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(e.server_ended && e.ended);
	assert_int_equal(e.end.code, MT_APP_LIMIT);
	assert_true(mt_conn_is_established(small) && !mt_conn_is_closing(small));
	assert_int_equal(mt_counter_get(&e.sim.server.counters.memory_shed), 1);
	assert_true(mt_endpoint_memory(e.sim.server.ep) < 1u << 20);
	echo_deinit(&e);
}

/* A byte takes a chunk: who sends one on each of its streams holds more than an honest transfer. */
static void test_many_single_bytes_are_much(void **state)
{
	struct mt_stream *s[100];
	struct mt_conn *many;
	uint64_t honest;
	struct echo e;

	(void)state;
	echo_init(&e, 5);
	echo_connect(&e);
	honest = mt_conn_serial(e.server_conn);
	e.server_holds = true;
	echo_start(&e, 250000);
	many = sim_connect(&e.sim);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(mt_conn_open_stream(many, &s[i]), 0);
		assert_int_equal(mt_stream_send(s[i], "x", 1), 0);
	}
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_endpoint_count(e.sim.server.ep), 2);
	set_memory(&e.sim.server, 3u << 19);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_endpoint_count(e.sim.server.ep), 1);
	assert_int_equal(mt_conn_serial(TAILQ_FIRST(&e.sim.server.ep->all)), honest);
	for (unsigned i = 0; i < 100; i++) {
		mt_stream_release(s[i], 0);
	}
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_senders_wait),
		cmocka_unit_test(test_waiting_streams_end),
		cmocka_unit_test(test_handshakes_are_shed),
		cmocka_unit_test(test_largest_is_closed),
		cmocka_unit_test(test_many_single_bytes_are_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
