/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
#include "proto/quic/impl.h"
#include "proto/wire/request.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void test_close_by_client(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 1);
	echo_connect(&e);
	mt_conn_close(e.conn, MT_APP_CANCELLED, "done");
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 1 * SIM_S));
	assert_false(e.end.by_peer);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_true(e.server_ended);
	assert_true(e.server_end.by_peer);
	assert_true(e.server_end.is_app);
	assert_int_equal(e.server_end.code, MT_APP_CANCELLED);
	assert_string_equal(e.server_end.reason, "done");
	assert_int_equal(e.server_end.err, MT_E_CLOSED);
	/* ids are kept for three PTOs and gone afterwards */
	(void)sim_run(&e.sim, NULL, NULL, 10 * SIM_S);
	assert_int_equal(mt_cid_count(e.sim.server.ep->cids), 0);
	assert_int_equal(mt_cid_count(e.sim.client.ep->cids), 0);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_active), 0);
	echo_deinit(&e);
}

static void test_close_by_server_cuts_streams(void **state)
{
	struct echo_stream *es;
	struct echo e;

	(void)state;
	echo_init(&e, 2);
	echo_connect(&e);
	es = echo_start(&e, 3000000);
	(void)sim_run(&e.sim, NULL, NULL, 50 * SIM_MS);
	mt_conn_close(e.server_conn, MT_APP_REVOKED, "revoked");
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 1 * SIM_S));
	assert_true(e.end.is_app && e.end.by_peer);
	assert_int_equal(e.end.code, MT_APP_REVOKED);
	assert_true(es->ended && es->cut && !es->fin);
	assert_int_equal(es->end_err, MT_E_CLOSED);
	echo_deinit(&e);
}

static void test_identity_refused(void **state)
{
	static const int alerts[] = {GNUTLS_A_ACCESS_DENIED, GNUTLS_A_CERTIFICATE_REVOKED,
		GNUTLS_A_CERTIFICATE_REQUIRED};
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		echo_init(&e, 3);
		e.authorize_alert = alerts[i];
		e.conn = sim_connect(&e.sim);
		assert_true(sim_run(&e.sim, echo_has_ended, &e, 20 * SIM_S));
		assert_false(e.established);
		assert_int_equal(e.end.err, MT_E_TLS);
		assert_true(e.end.by_peer);
		assert_int_equal(e.end.alert, alerts[i]);
		assert_true(mt_tls_alert_is_permanent(e.end.alert));
		assert_int_equal(mt_counter_get(&e.sim.server.counters.identity_refused), 1);
		assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_total), 0);
		assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_half_open), 0);
		echo_deinit(&e);
	}
}

/* The same authority's pin is what counts: another one is refused by the client, before it says who
 * it is. */
static void test_wrong_pin(void **state)
{
	struct mt_tls_client_config cfg = {
		.has_key = true, .host = "server.example", .pin_count = 1};
	struct echo e;

	(void)state;
	echo_init(&e, 4);
	memcpy(cfg.key, e.sim.client_key, MT_KEY_LEN);
	memset(cfg.pins[0], 1, MT_PIN_LEN);
	mt_tls_client_unref(e.sim.tls_client);
	assert_int_equal(mt_tls_client_new(&e.sim.tls_client, &cfg), 0);
	e.conn = sim_connect(&e.sim);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 20 * SIM_S));
	assert_int_equal(e.end.err, MT_E_PIN);
	assert_false(e.end.by_peer);
	assert_int_equal(e.authorized, 0);
	echo_deinit(&e);
}

static void test_idle_timeout_and_keep_alive(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 5);
	echo_connect(&e);
	mt_conn_set_keep_alive(e.conn, 10 * SIM_S);
	(void)sim_run(&e.sim, NULL, NULL, 300 * SIM_S);
	assert_false(e.ended);
	assert_false(e.server_ended);
	mt_conn_set_keep_alive(e.conn, 0);
	(void)sim_run(&e.sim, NULL, NULL, 41 * SIM_S);
	assert_true(e.ended);
	assert_int_equal(e.end.err, MT_E_TIMEOUT);
	assert_true(e.server_ended);
	assert_int_equal(e.server_end.err, MT_E_TIMEOUT);
	echo_deinit(&e);
}

static void test_handshake_timeout(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 6);
	e.sim.black_hole = true;
	e.conn = sim_connect(&e.sim);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 6 * SIM_S));
	assert_int_equal(e.end.err, MT_E_TIMEOUT);
	echo_deinit(&e);
}

/* The server's process is another one, with the same secret: it answers what it does not know by a
 * stateless reset. */
static void test_stateless_reset(void **state)
{
	struct echo_stream *es;
	struct echo e;

	(void)state;
	echo_init(&e, 7);
	echo_connect(&e);
	es = echo_start(&e, 100);
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_MS);
	while (e.server_stream_count > 0) {
		mt_stream_release(e.server_streams[--e.server_stream_count], 0);
	}
	sim_restart_server(&e.sim, echo_server_events(&e), 2);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 1 * SIM_S));
	assert_int_equal(e.end.err, MT_E_RESET);
	assert_true(es->ended && es->cut);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.stateless_resets), 1);
	echo_deinit(&e);
}

/* A server has started anew, and a client with so many connections is told by a reset. */
static bool is_reset_beside(unsigned count)
{
	struct echo e;
	bool seen;

	echo_init(&e, 7);
	echo_connect(&e);
	for (unsigned i = 1; i < count; i++) {
		assert_non_null(sim_connect(&e.sim));
	}
	(void)sim_run(&e.sim, NULL, NULL, 4 * SIM_S);
	assert_int_equal(mt_endpoint_count(e.sim.client.ep), count);
	sim_restart_server(&e.sim, echo_server_events(&e), 2);
	echo_start(&e, 100);
	seen = sim_run(&e.sim, echo_has_ended, &e, 1 * SIM_S);
	assert_true(mt_counter_get(&e.sim.server.counters.stateless_resets) > 0);
	echo_deinit(&e);
	return seen;
}

/* Beside more connections than a client has nobody is shown a packet that belongs to none: each
 * would have to be asked.
 */
static void test_stateless_reset_beside_many(void **state)
{
	(void)state;
	assert_true(is_reset_beside(144)); /* 64, and 16 dials of 5 attempts */
	assert_false(is_reset_beside(300));
}

/* A NAT gives the client another port in the middle of a transfer and forgets the old one. */
static void test_nat_rebinding(void **state)
{
	struct mt_conn_info info;
	struct echo e;

	(void)state;
	echo_init(&e, 8);
	echo_connect(&e);
	mt_conn_set_keep_alive(e.conn, 1 * SIM_S);
	echo_start(&e, 6000000);
	for (unsigned i = 0; i < 5; i++) {
		(void)sim_run(&e.sim, NULL, NULL, 30 * SIM_MS);
		e.sim.nat_port++;
	}
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin && !e.streams[0].wrong && !e.streams[0].cut);
	mt_conn_get_info(e.server_conn, &info);
	assert_int_equal(mt_addr_port(&info.remote), e.sim.nat_port);
	assert_true(mt_counter_get(&e.sim.server.counters.migrations) >= 1);
	echo_deinit(&e);
}

static void test_client_migration(void **state)
{
	struct mt_conn_info info;
	struct echo e;

	(void)state;
	echo_init(&e, 9);
	echo_connect(&e);
	echo_start(&e, 6000000);
	(void)sim_run(&e.sim, NULL, NULL, 60 * SIM_MS);
	assert_false(e.streams[0].ended);
	assert_int_equal(mt_addr_parse(&e.sim.client.addr, "203.0.113.9:6000"), 0);
	assert_int_equal(mt_conn_migrate(e.conn, &e.sim.client.addr, &e.sim, e.sim.now_ns), 0);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin && !e.streams[0].wrong && !e.streams[0].cut);
	mt_conn_get_info(e.server_conn, &info);
	assert_true(mt_addr_equal_host(&info.remote, &e.sim.client.addr));
	echo_deinit(&e);
}

static void test_stream_limit_returns(void **state)
{
	struct mt_stream *s[101];
	struct echo e;

	(void)state;
	echo_init(&e, 10);
	echo_connect(&e);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(mt_conn_open_stream(e.conn, &s[i]), 0);
	}
	assert_int_equal(mt_conn_streams_left(e.conn), 0);
	assert_int_equal(mt_conn_open_stream(e.conn, &s[100]), MT_E_LIMIT);
	for (unsigned i = 0; i < 100; i++) {
		mt_stream_release(s[i], MT_APP_CANCELLED);
	}
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_conn_streams_left(e.conn), 100);
	assert_int_equal(e.server_stream_count, 0);
	echo_deinit(&e);
}

static void test_reset_and_stop(void **state)
{
	struct echo_stream *es;
	struct echo e;

	(void)state;
	echo_init(&e, 11);
	echo_connect(&e);
	es = echo_start(&e, 4000000);
	(void)sim_run(&e.sim, NULL, NULL, 100 * SIM_MS);
	mt_stream_reset(e.server_streams[0], MT_APP_TARGET_RESET);
	mt_stream_stop(e.server_streams[0], MT_APP_TARGET_RESET);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 10 * SIM_S));
	assert_true(es->cut && !es->fin && !es->wrong);
	/* the connection is as good as before */
	echo_start(&e, 1000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 10 * SIM_S));
	assert_true(e.streams[1].fin);
	echo_deinit(&e);
}

/* An answer with FIN, and no interest in the rest of the question: the answer arrives whole. */
static void test_answer_and_release(void **state)
{
	struct mt_stream *s;
	struct iovec iov;
	struct echo e;

	(void)state;
	echo_init(&e, 14);
	echo_connect(&e);
	e.server_holds = true;
	assert_int_equal(mt_conn_open_stream(e.conn, &s), 0);
	assert_int_equal(mt_stream_send(s, "question", 8), 0);
	(void)sim_run(&e.sim, NULL, NULL, 100 * SIM_MS);
	assert_int_equal(e.server_stream_count, 1);
	assert_int_equal(mt_stream_send(e.server_streams[0], "no", 2), 0);
	mt_stream_send_fin(e.server_streams[0]);
	mt_stream_release(e.server_streams[--e.server_stream_count], 0);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_stream_peek(s, &iov, 1), 1);
	assert_int_equal(iov.iov_len, 2);
	assert_true(mt_stream_fin_received(s));
	mt_stream_release(s, 0);
	(void)sim_run(&e.sim, NULL, NULL, 1 * SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.streams_closed), 1);
	assert_int_equal(mt_counter_get(&e.sim.client.counters.streams_closed), 1);
	echo_deinit(&e);
}

/* STOP_SENDING alone is noticed by a sender with bytes in hand, with and without credit, before and
 * after its own reading is over.
 */
static void test_stop_sending_is_noticed(void **state)
{
	struct echo_stream *es;
	struct echo e;

	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		echo_init(&e, 15 + how);
		echo_connect(&e);
		e.server_holds = how & 1; /* the client runs out of credit */
		es = echo_start(&e, 8000000);
		(void)sim_run(&e.sim, NULL, NULL, 60 * SIM_MS);
		assert_false(es->ended);
		assert_int_equal(e.server_stream_count, 1);
		if (how & 2) {
			mt_stream_send_fin(e.server_streams[0]);
			(void)sim_run(&e.sim, NULL, NULL, 100 * SIM_MS);
		}
		mt_stream_stop(e.server_streams[0], MT_APP_TARGET_RESET);
		mt_conn_set_keep_alive(e.conn, 1 * SIM_S);
		(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
		assert_true(es->cut);
		echo_deinit(&e);
	}
}

static void test_key_update(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 12);
	echo_connect(&e);
	echo_start(&e, 3000000);
	for (unsigned i = 0; i < 6; i++) {
		(void)sim_run(&e.sim, NULL, NULL, 200 * SIM_MS);
		/* refused while the last one is not yet confirmed; both sides take turns */
		(void)ngtcp2_conn_initiate_key_update(
			i % 2 && e.server_conn ? e.server_conn->qc : e.conn->qc, e.sim.now_ns);
	}
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin && !e.streams[0].wrong && !e.streams[0].cut);
	echo_deinit(&e);
}

/* A way out that is blocked for a while loses nothing. */
static void test_blocked_socket(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 13);
	echo_connect(&e);
	echo_start(&e, 500000);
	for (unsigned i = 0; i < 10; i++) {
		e.sim.server.blocked = true;
		(void)sim_run(&e.sim, NULL, NULL, 20 * SIM_MS);
		e.sim.server.blocked = false;
		(void)mt_endpoint_flush(e.sim.server.ep, e.sim.now_ns);
		(void)sim_run(&e.sim, NULL, NULL, 20 * SIM_MS);
	}
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_true(e.streams[0].fin && !e.streams[0].wrong && !e.streams[0].cut);
	echo_deinit(&e);
}

/* How often, of twenty exchanges, the server's next moment is none that connections share. */
static unsigned moments_apart(struct echo *e)
{
	unsigned apart = 0;

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(mt_conn_send_datagram(e->conn, "\0", 1, NULL, 0), 0);
		(void)sim_run(&e->sim, NULL, NULL, 137 * SIM_MS + 1 + i * 1000000);
		apart += e->server_conn->expiry.ts_ns % (8 * SIM_MS) != 0;
	}
	return apart;
}

/* A server's timers gather when nothing but quiet streams is open. */
static void test_timers_gather_beside_quiet_streams(void **state)
{
	struct echo_stream *es;
	struct mt_stream *quiet;
	struct echo e;

	(void)state;
	echo_init(&e, 14);
	echo_connect(&e);
	e.server_holds = true;
	assert_int_equal(moments_apart(&e), 0);
	echo_start(&e, 1000);
	assert_true(moments_apart(&e) > 10);
	assert_int_equal(e.server_stream_count, 1);
	quiet = e.server_streams[0];
	mt_stream_set_quiet(quiet);
	mt_stream_set_quiet(quiet);
	assert_int_equal(moments_apart(&e), 0);
	es = echo_start(&e, 1000);
	assert_true(moments_apart(&e) > 10);
	mt_stream_reset(quiet, 0);
	mt_stream_consume(quiet, mt_stream_readable(quiet));
	assert_true(moments_apart(&e) > 10); /* the quiet one has gone, and the other has not */
	assert_int_equal(e.server_stream_count, 1);
	assert_int_equal(e.server_conn->quiet_count, 0);
	mt_stream_set_quiet(e.server_streams[0]);
	mt_stream_reset(es->s, 0);
	mt_stream_stop(es->s, 0);
	mt_stream_reset(e.server_streams[0], 0);
	mt_stream_consume(e.server_streams[0], mt_stream_readable(e.server_streams[0]));
	assert_int_equal(moments_apart(&e), 0);
	assert_int_equal(e.server_conn->quiet_count, 0);
	assert_int_equal(e.server_conn->stream_count, 0);
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_by_client),
		cmocka_unit_test(test_close_by_server_cuts_streams),
		cmocka_unit_test(test_identity_refused),
		cmocka_unit_test(test_wrong_pin),
		cmocka_unit_test(test_idle_timeout_and_keep_alive),
		cmocka_unit_test(test_handshake_timeout),
		cmocka_unit_test(test_stateless_reset),
		cmocka_unit_test(test_stateless_reset_beside_many),
		cmocka_unit_test(test_nat_rebinding),
		cmocka_unit_test(test_client_migration),
		cmocka_unit_test(test_stream_limit_returns),
		cmocka_unit_test(test_reset_and_stop),
		cmocka_unit_test(test_answer_and_release),
		cmocka_unit_test(test_stop_sending_is_noticed),
		cmocka_unit_test(test_key_update),
		cmocka_unit_test(test_blocked_socket),
		cmocka_unit_test(test_timers_gather_beside_quiet_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
