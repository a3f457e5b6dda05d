/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* What one connection may cost, and what it must not lose however long it lives. */
#include "proto/quic/impl.h"
#include "proto/wire/request.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define SMALL_STREAM_WINDOW (128u * 1024)
#define SMALL_CONN_WINDOW   (256u * 1024)

static void init_with_small_windows(struct echo *e, uint64_t seed)
{
	struct mt_endpoint_limits limits = sim_limits();

	echo_init(e, seed);
	limits.max_stream_window = SMALL_STREAM_WINDOW;
	limits.max_conn_window = SMALL_CONN_WINDOW;
	mt_endpoint_set_limits(e->sim.server.ep, &limits);
	echo_connect(e);
}

/* A peer that sends CRYPTO frames without end: tickets that nobody asked for. */
static void test_crypto_flood(void **state)
{
	static const uint8_t bytes[16384];
	struct echo e;

	(void)state;
	echo_init(&e, 1);
	echo_connect(&e);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(ngtcp2_conn_submit_crypto_data(e.server_conn->qc,
					 NGTCP2_ENCRYPTION_LEVEL_1RTT, bytes, sizeof(bytes)),
			0);
		mt_conn_mark_dirty(e.server_conn);
		(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	}
	assert_true(e.ended);
	assert_false(e.end.by_peer || e.end.is_app);
	assert_int_equal(e.end.code, NGTCP2_CRYPTO_BUFFER_EXCEEDED);
	assert_int_equal(mt_counter_get(&e.sim.client.counters.crypto_floods), 1);
	assert_true(e.server_ended);
	assert_int_equal(e.server_end.code, NGTCP2_CRYPTO_BUFFER_EXCEEDED);
	echo_deinit(&e);
}

/* A server has nothing to hear by CRYPTO frames after the handshake. */
static void test_crypto_after_the_handshake(void **state)
{
	static const uint8_t bytes[100];
	struct echo e;

	(void)state;
	echo_init(&e, 2);
	echo_connect(&e);
	assert_int_equal(ngtcp2_conn_submit_crypto_data(
				 e.conn->qc, NGTCP2_ENCRYPTION_LEVEL_1RTT, bytes, sizeof(bytes)),
		0);
	mt_conn_mark_dirty(e.conn);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(e.server_ended && e.ended);
	assert_int_equal(e.end.alert, GNUTLS_A_UNEXPECTED_MESSAGE);
	echo_deinit(&e);
}

/* After a close the packet is repeated ever more rarely, and never beyond three times what comes.
 */
static void test_close_is_not_repeated_without_end(void **state)
{
	uint8_t packet[100] = {0x40};
	struct mt_cid id;
	uint64_t in, out, sent;
	struct echo e;

	(void)state;
	for (size_t len = 21; len <= sizeof(packet); len += 79) {
		echo_init(&e, 3);
		echo_connect(&e);
		id = *e.server_conn->owner.ids;
		assert_int_equal(id.len, MT_CID_LEN);
		memcpy(packet + 1, id.data, id.len);
		mt_conn_close(e.server_conn, MT_APP_REVOKED, "a reason of some length, to be big");
		assert_true(mt_endpoint_flush(e.sim.server.ep, e.sim.now_ns));
		in = e.sim.server.bytes_in;
		out = e.sim.server.bytes_out;
		sent = mt_counter_get(&e.sim.server.counters.packets_sent);
		for (unsigned i = 0; i < 1000; i++) {
			sim_inject(&e.sim.server, &e.sim.client.addr, packet, len);
			assert_true(
				e.sim.server.bytes_out - out <= 3 * (e.sim.server.bytes_in - in));
		}
		sent = mt_counter_get(&e.sim.server.counters.packets_sent) - sent;
		assert_true(sent > 0 && sent <= 10);
		echo_deinit(&e);
	}
}

/* Beyond a cap the ids of ended connections are not kept: late packets get a stateless reset. */
static void test_closing_entries_are_capped(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 4);
	echo_connect(&e);
	e.sim.server.ep->closing_count += MT_CLOSING_MAX;
	mt_conn_close(e.server_conn, MT_APP_NONE, "");
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_MS);
	assert_int_equal(mt_cid_count(e.sim.server.ep->cids), 0);
	assert_int_equal(e.sim.server.ep->closing_count, MT_CLOSING_MAX);
	e.sim.server.ep->closing_count = 0;
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(e.ended);
	echo_deinit(&e);
}

/* Every change of address takes new connection ids: old ones go as new ones come. */
static void test_cid_churn(void **state)
{
	char text[MT_ADDR_TEXT_MAX];
	unsigned most = 0;
	struct echo e;

	(void)state;
	echo_init(&e, 5);
	echo_connect(&e);
	mt_conn_set_keep_alive(e.conn, 100 * SIM_MS);
	for (unsigned i = 0; i < 60; i++) {
		assert_true(snprintf(text, sizeof(text), "203.0.113.%u:6000", i + 1) > 0);
		assert_int_equal(mt_addr_parse(&e.sim.client.addr, text), 0);
		assert_int_equal(
			mt_conn_migrate(e.conn, &e.sim.client.addr, &e.sim, e.sim.now_ns), 0);
		for (unsigned j = 0; j < 20; j++) {
			(void)sim_run(&e.sim, NULL, NULL, 100 * SIM_MS);
			assert_false(e.ended || e.server_ended);
			most = e.server_conn->owner.count > most ? e.server_conn->owner.count
								 : most;
			assert_true(e.conn->owner.count <= 10);
		}
	}
	assert_true(most >= 2 && most <= 10);
	mt_conn_close(e.conn, MT_APP_NONE, "");
	(void)sim_run(&e.sim, NULL, NULL, 20 * SIM_S);
	assert_true(e.ended && e.server_ended);
	assert_int_equal(mt_cid_count(e.sim.server.ep->cids), 0);
	assert_int_equal(mt_cid_count(e.sim.client.ep->cids), 0);
	echo_deinit(&e);
}

static bool in_flight_is_bounded(void *user)
{
	struct echo *e = user;
	uint64_t unacked = 0;

	for (unsigned i = 0; i < e->stream_count; i++) {
		const struct mt_quic_stream *s = (const struct mt_quic_stream *)e->streams[i].s;

		if (s) {
			unacked += s->tx_sent - s->tx_base;
		}
	}
	/* what is exceeded by is at most one step of writing */
	assert_true(unacked <= SMALL_CONN_WINDOW + 1500);
	return echo_all_done(e);
}

/* However large the windows that a peer grants and however fast it makes the path look, what waits
 * for its acknowledgements is bounded by our own limit.
 */
static void test_unacknowledged_bytes_are_bounded(void **state)
{
	struct mt_endpoint_limits limits = sim_limits();
	struct echo e;

	(void)state;
	echo_init(&e, 6);
	limits.max_stream_window = SMALL_STREAM_WINDOW;
	limits.max_conn_window = SMALL_CONN_WINDOW;
	mt_endpoint_set_limits(e.sim.client.ep, &limits);
	e.sim.delay_ns = 200 * SIM_MS;
	echo_connect(&e);
	for (unsigned i = 0; i < 8; i++) {
		echo_start(&e, 500000);
	}
	assert_true(sim_run(&e.sim, in_flight_is_bounded, &e, 300 * SIM_S));
	for (unsigned i = 0; i < 8; i++) {
		assert_true(e.streams[i].fin && !e.streams[i].cut && !e.streams[i].wrong);
	}
	assert_int_equal(e.conn->tx_unacked, 0);
	echo_deinit(&e);
}

/* A FIN needs no credit: it passes streams that wait for the connection's window. */
static void test_fin_passes_a_full_window(void **state)
{
	struct mt_stream *quiet;
	struct echo e;

	(void)state;
	init_with_small_windows(&e, 7);
	e.server_holds = true;
	assert_int_equal(mt_conn_open_stream(e.conn, &quiet), 0);
	assert_int_equal(mt_stream_send(quiet, "x", 1), 0);
	(void)sim_run(&e.sim, NULL, NULL, 100 * SIM_MS);
	for (unsigned i = 0; i < 4; i++) {
		echo_start(&e, 500000);
	}
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
	assert_int_equal(ngtcp2_conn_get_max_data_left(e.conn->qc), 0);
	assert_false(mt_stream_fin_received(e.server_streams[0]));
	mt_stream_send_fin(quiet);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(mt_stream_fin_received(e.server_streams[0]));
	mt_stream_release(quiet, 0);
	echo_deinit(&e);
}

/* Streams ended in every way, with bytes read, unread and on their way, in a network that loses and
 * reorders: the connection's window and its number of streams are whole again afterwards.
 */
static void test_credit_of_cut_streams_comes_back(void **state)
{
	struct echo e;
	struct mt_stream *s;
	unsigned ways[6] = {0};

	(void)state;
	init_with_small_windows(&e, 8);
	e.sim.loss_permille = 30;
	e.sim.jitter_ns = 5 * SIM_MS;
	e.server_holds = true;
	mt_conn_set_keep_alive(e.conn, 1 * SIM_S);
	for (unsigned round = 0; round < 300; round++) {
		unsigned way = (unsigned)(sim_random(&e.sim) % 6);
		size_t len = 1 + sim_random(&e.sim) % 60000;
		static uint8_t bytes[60000];

		assert_int_equal(mt_conn_open_stream(e.conn, &s), 0);
		assert_int_equal(mt_stream_send(s, bytes, len), 0);
		if (way == 0) {
			mt_stream_send_fin(s);
		}
		(void)sim_run(&e.sim, NULL, NULL, sim_random(&e.sim) % (100 * SIM_MS));
		ways[way]++;
		if (way == 4) {
			mt_stream_reset(s, MT_APP_CANCELLED);
			(void)sim_run(&e.sim, NULL, NULL, 30 * SIM_MS);
		}
		if (e.server_stream_count > 0) {
			struct mt_stream *peer = e.server_streams[--e.server_stream_count];
			size_t some = mt_stream_readable(peer) / 2;

			if (way == 1) {
				mt_stream_consume(peer, some);
			} else if (way == 2) {
				mt_stream_stop(peer, MT_APP_CANCELLED);
			} else if (way == 3) {
				mt_stream_reset(peer, MT_APP_CANCELLED);
			}
			mt_stream_release(peer, MT_APP_CANCELLED);
		}
		mt_stream_release(s, MT_APP_CANCELLED);
	}
	e.sim.loss_permille = 0;
	(void)sim_run(&e.sim, NULL, NULL, 10 * SIM_S);
	while (e.server_stream_count > 0) {
		mt_stream_release(e.server_streams[--e.server_stream_count], MT_APP_CANCELLED);
		(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	}
	(void)sim_run(&e.sim, NULL, NULL, 60 * SIM_S);
	assert_false(e.ended || e.server_ended);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(ways[i] > 0);
	}
	assert_int_equal(mt_conn_streams_left(e.conn), 100);
	assert_true(TAILQ_EMPTY(&e.conn->streams));
	/* but for those that this ngtcp2 never closes, which count no more */
	assert_int_equal(e.server_conn->stream_count, e.server_conn->written_off_count);
	assert_true(e.server_conn->written_off_count < 10);
	/* Credit is told when half of the window is used up. */
	assert_true(ngtcp2_conn_get_max_data_left(e.conn->qc) >= SMALL_CONN_WINDOW / 2);
	assert_true(ngtcp2_conn_get_max_data_left(e.conn->qc) <= SMALL_CONN_WINDOW);
	e.server_holds = false;
	echo_start(&e, 2000000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin && !e.streams[0].wrong && !e.streams[0].cut);
	echo_deinit(&e);
}

/* Packets by the thousand that carry nothing: most are not looked at, and the connection works on.
 */
static void test_packets_for_nothing(void **state)
{
	const mt_counter *dropped;
	uint8_t packet[60];
	struct echo e;

	(void)state;
	echo_init(&e, 40);
	echo_connect(&e);
	memset(packet, 0x40, sizeof(packet));
	memcpy(packet + 1, e.server_conn->owner.ids->data, MT_CID_LEN);
	dropped = &e.sim.server.counters.packets_over_budget;
	for (unsigned i = 0; i < 100000; i++) {
		sim_inject(&e.sim.server, &e.sim.client.addr, packet, sizeof(packet));
	}
	assert_in_range(mt_counter_get(dropped), 79000, 81000);
	(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_S);
	assert_false(e.ended);
	echo_start(&e, 20000000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin);
	/* nor is a busy connection held up: small packets that are answered, and large ones */
	assert_in_range(mt_counter_get(dropped), 79000, 81000);
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crypto_flood),
		cmocka_unit_test(test_crypto_after_the_handshake),
		cmocka_unit_test(test_close_is_not_repeated_without_end),
		cmocka_unit_test(test_closing_entries_are_capped),
		cmocka_unit_test(test_cid_churn),
		cmocka_unit_test(test_unacknowledged_bytes_are_bounded),
		cmocka_unit_test(test_fin_passes_a_full_window),
		cmocka_unit_test(test_credit_of_cut_streams_comes_back),
		cmocka_unit_test(test_packets_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
