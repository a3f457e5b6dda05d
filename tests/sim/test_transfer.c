/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
#include "proto/quic/impl.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void check_complete(struct echo *e)
{
	for (unsigned i = 0; i < e->stream_count; i++) {
		assert_false(e->streams[i].wrong);
		assert_false(e->streams[i].cut);
		assert_true(e->streams[i].fin);
		assert_int_equal(e->streams[i].received, e->streams[i].size);
	}
}

static void test_stream_echo(void **state)
{
	static const uint64_t sizes[] = {0, 1, 1000, 16384, 16385, 300000, 5000000};
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		echo_init(&e, i);
		echo_connect(&e);
		echo_start(&e, sizes[i]);
		assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
		check_complete(&e);
		assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_active), 1);
		echo_deinit(&e);
	}
}

static void test_many_streams_at_once(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 3);
	echo_connect(&e);
	for (unsigned i = 0; i < 100; i++) {
		echo_start(&e, 50000 + i);
	}
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	check_complete(&e);
	echo_deinit(&e);
}

/* Loss, reordering, duplication and corruption may cost time, never bytes. */
static void test_bad_network(void **state)
{
	struct echo e;

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		echo_init(&e, seed);
		e.sim.loss_permille = (unsigned)(seed % 4) * 50;
		e.sim.duplicate_permille = seed % 3 == 0 ? 100 : 0;
		e.sim.corrupt_permille = seed % 5 == 0 ? 50 : 0;
		e.sim.jitter_ns = seed % 2 ? 15 * SIM_MS : 0;
		echo_connect(&e);
		echo_start(&e, 200000);
		echo_start(&e, 1);
		echo_start(&e, 70000);
		assert_true(sim_run(&e.sim, echo_all_done, &e, 600 * SIM_S));
		check_complete(&e);
		echo_deinit(&e);
	}
}

/* A server that does not read holds at most one window, and everything arrives once it does. */
static void test_back_pressure(void **state)
{
	struct echo_stream *es;
	struct echo e;
	size_t held;

	(void)state;
	echo_init(&e, 5);
	echo_connect(&e);
	e.server_holds = true;
	es = echo_start(&e, 4000000);
	assert_false(sim_run(&e.sim, echo_all_done, &e, 5 * SIM_S));
	assert_int_equal(e.server_stream_count, 1);
	held = mt_stream_readable(e.server_streams[0]);
	assert_in_range(held, 1, 256 * 1024);
	assert_true(es->sent < es->size);
	e.server_holds = false;
	mt_stream_consume(e.server_streams[0], 0);
	/* What was queued before gives no new event: read it as a woken server would. */
	e.server_streams[0]->handler->on_readable(e.server_streams[0], &e);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	check_complete(&e);
	echo_deinit(&e);
}

static void test_datagram_echo(void **state)
{
	uint8_t data[1200];
	struct echo e;
	size_t max;

	(void)state;
	echo_init(&e, 6);
	echo_connect(&e);
	/* path MTU discovery finds the ceiling */
	(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_S);
	max = mt_conn_datagram_max(e.conn);
	assert_in_range(max, 1400, 1452);
	for (unsigned i = 0; i < 20; i++) {
		for (size_t j = 0; j < sizeof(data); j++) {
			data[j] = (uint8_t)(i + j);
		}
		assert_int_equal(mt_conn_send_datagram(e.conn, data, 4, data + 4, i * 60), 0);
	}
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(e.datagrams, 20);
	assert_false(e.datagram_wrong);
	assert_int_equal(mt_conn_send_datagram(e.conn, data, 1200, data, max), MT_E_TOO_LONG);
	assert_int_equal(mt_conn_datagram_room(e.conn), MT_DATAGRAMS_OUT_MAX);
	for (unsigned i = 0; i < MT_DATAGRAMS_OUT_MAX + 8; i++) {
		assert_int_equal(mt_conn_send_datagram(e.conn, data, 1, NULL, 0), 0);
	}
	assert_int_equal(mt_conn_datagram_room(e.conn), 0);
	assert_int_equal(mt_counter_get(&e.sim.client.counters.datagrams_dropped), 1 + 8);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(e.datagrams, 20 + MT_DATAGRAMS_OUT_MAX);
	echo_deinit(&e);
}

/* A datagram right behind the client's last handshake packet is there before the server's user
 * knows the connection. */
static void test_early_datagram(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 7);
	e.conn = sim_connect(&e.sim);
	/* the client may send once its own handshake is complete, a round trip before its
	 * confirmation */
	while (!ngtcp2_conn_get_handshake_completed(e.conn->qc)) {
		(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_MS);
	}
	e.conn->established = true;
	assert_int_equal(mt_conn_send_datagram(e.conn, "\1\2\3", 3, NULL, 0), 0);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.datagrams_received), 1);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.datagrams_dropped), 0);
	assert_int_equal(e.datagrams, 1);
	echo_deinit(&e);
}

/* A full chunk is acknowledged after the next one was filled and before anything of that was sent.
 */
static void test_acknowledged_up_to_the_unsent(void **state)
{
	static const uint8_t zeros[MT_CHUNK_BYTES];
	const struct mt_quic_stream *inside;
	struct mt_stream *s;
	struct echo e;

	(void)state;
	echo_init(&e, 9);
	echo_connect(&e);
	assert_int_equal(mt_conn_open_stream(e.conn, &s), 0);
	inside = (const struct mt_quic_stream *)s;
	assert_int_equal(mt_stream_send(s, zeros, sizeof(zeros)), 0);
	while (inside->tx_sent < sizeof(zeros)) {
		(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_MS);
	}
	assert_true(inside->tx_base < inside->tx_sent);
	e.sim.client.blocked = true;
	assert_int_equal(mt_stream_send(s, zeros, 1), 0);
	while (inside->tx_base < sizeof(zeros)) {
		(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_MS);
	}
	e.sim.client.blocked = false;
	(void)mt_endpoint_flush(e.sim.client.ep, e.sim.now_ns);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_stream_readable(s), sizeof(zeros) + 1);
	mt_stream_release(s, 0);
	echo_deinit(&e);
}

/* Long enough for several congestion epochs and for every window to have grown to its end. */
static void test_long_transfer(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 8);
	echo_connect(&e);
	echo_start(&e, 30000000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 600 * SIM_S));
	check_complete(&e);
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream_echo),
		cmocka_unit_test(test_many_streams_at_once),
		cmocka_unit_test(test_bad_network),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_datagram_echo),
		cmocka_unit_test(test_early_datagram),
		cmocka_unit_test(test_acknowledged_up_to_the_unsent),
		cmocka_unit_test(test_long_transfer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
