/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c proto/quic/mem.c proto/quic/memory.c
 * proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c proto/quic/tls_verify.c
 * proto/quic/identity.c store/pki.c store/pki_check.c proto/wire/addr.c proto/wire/bytes.c
 * proto/wire/encode.c proto/wire/err.c proto/quic/order.c proto/quic/room.c proto/quic/calm.c
 * proto/quic/conn_path.c
 */
/* When a server acknowledges: keep-alives at once, a request with its answer. */
#include "proto/quic/impl.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants these above first */
#include <cmocka.h>

static uint64_t sent_by_server(const struct echo *e)
{
	return mt_counter_get(&e->sim.server.counters.packets_sent);
}

static bool is_resting(void *user)
{
	struct echo *e = user;

	return e->server_conn->is_resting;
}

struct watch {
	struct echo *e;
	uint64_t sent;
};

static bool has_sent(void *user)
{
	struct watch *w = user;

	return sent_by_server(w->e) > w->sent;
}

/* A small packet that wants an acknowledgement. */
static void nudge(struct echo *e)
{
	ngtcp2_conn_extend_max_offset(e->conn->qc, 32u << 20);
	mt_conn_mark_dirty(e->conn);
}

static void start(struct echo *e, uint64_t delay_ns)
{
	echo_init(e, 21);
	e->sim.delay_ns = delay_ns;
	echo_connect(e);
	(void)sim_run(&e->sim, NULL, NULL, 10 * SIM_S); /* until path MTU discovery is over */
	assert_false(e->server_conn->is_resting);
}

/* Whatever the round trip is, a keep-alive is answered in the turn in which it came. */
static void test_keep_alive_is_answered_at_once(void **state)
{
	static const uint64_t delays_ms[] = {0, 1, 10, 40, 200};
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(delays_ms) / sizeof(delays_ms[0]); i++) {
		start(&e, delays_ms[i] * SIM_MS);
		mt_conn_set_keep_alive(e.conn, 2 * SIM_S);
		for (unsigned k = 0; k < 10; k++) {
			struct watch w = {.e = &e, .sent = sent_by_server(&e)};

			assert_true(sim_run(&e.sim, has_sent, &w, 5 * SIM_S));
			assert_int_equal(e.server_conn->last_received_ns, e.sim.now_ns);
			assert_int_equal(sent_by_server(&e), w.sent + 1);
			assert_false(e.server_conn->is_dirty);
			(void)sim_run(&e.sim, NULL, NULL, SIM_S); /* what follows from it */
			assert_int_equal(sent_by_server(&e), w.sent + 1);
		}
		echo_deinit(&e);
	}
}

/* What the client acknowledges of it is a packet more: hardly any of them asks for that, whatever
 * the round trip and the length of the acknowledgement, which grows with the packets' numbers; but
 * some do.
 */
static void test_keep_alive_takes_one_packet_each_way(void **state)
{
	static const uint64_t delays_ms[] = {0, 10, 200};
	enum { COUNT = 300 };
	struct echo e;

	(void)state;
	for (size_t i = 0; i < sizeof(delays_ms) / sizeof(delays_ms[0]); i++) {
		struct mt_quic_counters *client = &e.sim.client.counters;
		uint64_t by_client, by_server;

		start(&e, delays_ms[i] * SIM_MS);
		mt_conn_set_keep_alive(e.conn, 2 * SIM_S);
		by_client = mt_counter_get(&client->packets_sent);
		by_server = sent_by_server(&e);
		(void)sim_run(&e.sim, NULL, NULL, COUNT * 2 * SIM_S);
		by_client = mt_counter_get(&client->packets_sent) - by_client;
		by_server = sent_by_server(&e) - by_server;
		assert_in_range(by_server, COUNT - COUNT / 5, COUNT + 1);
		assert_in_range(by_client - by_server, COUNT / 20, COUNT / 8);
		echo_deinit(&e);
	}
}

/* What the library has to say beside an acknowledgement that has room for nothing else follows at
 * once: here, credit for streams. */
static void test_keep_alive_holds_nothing_up(void **state)
{
	struct echo e;

	(void)state;
	start(&e, 10 * SIM_MS);
	mt_conn_set_keep_alive(e.conn, 2 * SIM_S);
	(void)sim_run(&e.sim, NULL, NULL, 9 * SIM_S);
	for (unsigned k = 0; k < 20; k++) {
		struct watch w = {.e = &e, .sent = sent_by_server(&e)};
		uint64_t left = ngtcp2_conn_get_streams_bidi_left(e.conn->qc);

		/* As if a stream had ended: nobody marks the connection as dirty. */
		ngtcp2_conn_extend_max_streams_bidi(e.server_conn->qc, 1);
		assert_true(sim_run(&e.sim, has_sent, &w, 5 * SIM_S));
		(void)sim_run(&e.sim, NULL, NULL, 11 * SIM_MS);
		assert_int_equal(ngtcp2_conn_get_streams_bidi_left(e.conn->qc), left + 1);
		(void)sim_run(&e.sim, NULL, NULL, SIM_S / 2);
	}
	echo_deinit(&e);
}

/* From a new address none is answered with room for an acknowledgement only: it would take the
 * place of a PATH_CHALLENGE, which is counted as sent.
 */
static void test_keep_alive_from_new_address(void **state)
{
	struct watch w;
	struct echo e;

	(void)state;
	start(&e, 10 * SIM_MS);
	mt_conn_set_keep_alive(e.conn, 2 * SIM_S);
	(void)sim_run(&e.sim, NULL, NULL, 9 * SIM_S);
	assert_true(e.server_conn->bare_count > 0);
	assert_true(e.server_conn->answer_len > 0);
	e.sim.nat_port++;
	w = (struct watch){.e = &e, .sent = sent_by_server(&e)};
	assert_true(sim_run(&e.sim, has_sent, &w, 5 * SIM_S));
	assert_int_equal(e.server_conn->answer_len, 0);
	(void)sim_run(&e.sim, NULL, NULL, 9 * SIM_S);
	assert_int_equal(mt_addr_port(&e.server_conn->info.remote), e.sim.nat_port);
	assert_true(e.server_conn->answer_len > 0); /* and later as before */
	assert_true(e.server_conn->bare_count > 0);
	echo_deinit(&e);
}

/* What only acknowledges is not answered. */
static void test_no_answer_to_acknowledgements(void **state)
{
	uint64_t sent;
	struct echo e;

	(void)state;
	start(&e, 10 * SIM_MS);
	sent = sent_by_server(&e);
	for (unsigned i = 0; i < 4; i++) {
		ngtcp2_conn_extend_max_offset(e.server_conn->qc, (i + 1) * (32u << 20));
		mt_conn_mark_dirty(e.server_conn);
		(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_S);
		assert_false(e.server_conn->is_dirty);
	}
	/* Every now and then a client wants its own acknowledged. */
	assert_in_range(sent_by_server(&e) - sent, 4, 7);
	echo_deinit(&e);
}

/* A request's acknowledgement goes with the answer to it, or alone when that takes too long. */
static void test_request_is_acknowledged_with_its_answer(void **state)
{
	uint64_t sent, came_ns;
	struct watch w;
	struct echo e;

	(void)state;
	start(&e, 40 * SIM_MS);
	e.server_holds = true;
	sent = sent_by_server(&e);
	echo_start(&e, 100);
	assert_true(sim_run(&e.sim, is_resting, &e, SIM_S));
	came_ns = e.sim.now_ns;
	(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_MS);
	assert_int_equal(sent_by_server(&e), sent);
	assert_true(e.server_conn->is_resting);
	/* Taking it is no reason to write either. */
	mt_stream_consume(e.server_streams[0], mt_stream_readable(e.server_streams[0]) - 1);
	(void)sim_run(&e.sim, NULL, NULL, 2 * SIM_MS);
	assert_int_equal(sent_by_server(&e), sent);
	w = (struct watch){.e = &e, .sent = sent};
	assert_true(sim_run(&e.sim, has_sent, &w, SIM_S));
	assert_true(e.sim.now_ns - came_ns >= 5 * SIM_MS);
	assert_true(e.sim.now_ns - came_ns <= 26 * SIM_MS);
	assert_false(e.server_conn->is_resting);
	echo_deinit(&e);

	start(&e, 40 * SIM_MS);
	sent = sent_by_server(&e);
	echo_start(&e, 100);
	w = (struct watch){.e = &e, .sent = sent};
	assert_true(sim_run(&e.sim, has_sent, &w, SIM_S));
	assert_false(e.server_conn->is_resting);
	(void)sim_run(&e.sim, NULL, NULL, 30 * SIM_MS);
	assert_int_equal(sent_by_server(&e), sent + 1);
	echo_deinit(&e);
}

/* Two packets are acknowledged at once, as is one that met congestion. */
static void test_who_does_not_rest(void **state)
{
	struct mt_conn *c;
	struct echo e;

	(void)state;
	start(&e, 10 * SIM_MS);
	c = e.server_conn;
	c->got_payload = true;
	assert_true(mt_conn_settle(c, NGTCP2_ECN_ECT_0, 1300));
	assert_true(c->is_resting);
	assert_false(mt_conn_settle(c, 0, 1300)); /* the second one */
	c->is_resting = false;
	assert_false(mt_conn_settle(c, NGTCP2_ECN_CE, 1300));
	c->got_payload = false;
	assert_false(mt_conn_settle(c, 0, 1300)); /* it may be a PATH_CHALLENGE */
	c->got_payload = true;
	assert_false(mt_conn_settle(e.conn, 0, 50)); /* a client's */
	mt_conn_mark_dirty(c);
	assert_false(mt_conn_settle(c, 0, 50));
	assert_false(c->is_resting);
	echo_deinit(&e);
}

/* To be told beforehand what comes changes nothing about it. */
static void test_expect(void **state)
{
	struct mt_endpoint *ep;
	uint8_t packets[20][60] = {{0}};
	struct mt_cid *id;
	uint64_t invalid;
	struct watch w;
	struct echo e;

	(void)state;
	start(&e, 10 * SIM_MS);
	ep = e.sim.server.ep;
	id = e.server_conn->owner.ids;
	mt_endpoint_expect(ep, packets[0], 60);
	assert_int_equal(ep->expected.count, 0); /* there are few connections */
	ep->count += 5000;
	for (unsigned i = 0; i < 20; i++) {
		packets[i][0] = i % 5 == 4 ? 0xc0 : 0x40;
		memcpy(packets[i] + 1, id->data, id->len);
		packets[i][1 + id->len - 1] ^= (uint8_t)(i % 3); /* nobody's, two times of three */
		mt_endpoint_expect(ep, packets[i], i == 7 ? 3 : 60);
	}
	assert_int_equal(ep->expected.count, MT_EXPECTED_MAX);
	assert_null(ep->expected.packets[4].id);
	assert_null(ep->expected.packets[7].id);
	invalid = mt_counter_get(&e.sim.server.counters.packets_invalid);
	for (unsigned i = 0; i < 10; i++) {
		sim_inject(&e.sim.server, &e.sim.client.addr, packets[i], i == 7 ? 3 : 60);
	}
	assert_true(mt_counter_get(&e.sim.server.counters.packets_invalid) > invalid);
	assert_ptr_equal(ep->expected.packets[0].conn, e.server_conn);
	assert_null(ep->expected.packets[1].conn);
	assert_int_equal(ep->expected.done, 10);
	/* Another batch, though the last was not received to its end. */
	mt_endpoint_expect(ep, packets[0], 60);
	assert_int_equal(ep->expected.count, 1);
	mt_endpoint_expect(ep, packets[0], 60);
	assert_null(ep->expected.packets[1].id); /* the same again */
	sim_inject(&e.sim.server, &e.sim.client.addr, packets[0], 60);
	sim_inject(&e.sim.server, &e.sim.client.addr, packets[0], 60);
	assert_int_equal(ep->expected.count, 0);
	ep->count -= 5000;
	w = (struct watch){.e = &e, .sent = sent_by_server(&e)};
	nudge(&e);
	assert_true(sim_run(&e.sim, has_sent, &w, SIM_S)); /* it goes on */
	echo_deinit(&e);
}

static void test_rest_ends_with_the_connection(void **state)
{
	struct echo e;

	(void)state;
	start(&e, 40 * SIM_MS);
	e.server_holds = true;
	echo_start(&e, 100);
	assert_true(sim_run(&e.sim, is_resting, &e, SIM_S));
	mt_conn_close(e.server_conn, 0, "");
	assert_true(sim_run(&e.sim, echo_has_ended, &e, SIM_S));
	echo_deinit(&e);
}

static void nudge_for(struct echo *e, uint64_t ns, uint64_t every_ns)
{
	for (uint64_t passed = 0; passed < ns; passed += every_ns) {
		nudge(e);
		(void)sim_run(&e->sim, NULL, NULL, every_ns);
	}
}

/* What comes in gathers only where there is much of it, and nothing else for a second. */
static void test_patience(void **state)
{
	const struct mt_endpoint *ep;
	struct mt_stream *held;
	struct echo e;

	(void)state;
	start(&e, SIM_MS);
	ep = e.sim.server.ep;
	assert_int_equal(mt_endpoint_patience(ep), 0);
	nudge_for(&e, 2 * SIM_S, 5 * SIM_MS);
	assert_int_equal(mt_endpoint_patience(ep), 0);
	nudge_for(&e, SIM_S / 2, SIM_MS / 2);
	assert_in_range(mt_endpoint_patience(ep), SIM_MS, 5 * SIM_MS);
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	mt_endpoint_expire(e.sim.server.ep, e.sim.now_ns);
	assert_int_equal(mt_endpoint_patience(ep), 0); /* nothing comes any more */
	nudge_for(&e, SIM_S / 2, SIM_MS / 2);
	assert_in_range(mt_endpoint_patience(ep), SIM_MS, 5 * SIM_MS);

	/* With nobody left who sends, nobody looks whether something came. */
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
	mt_endpoint_expire(e.sim.server.ep, e.sim.now_ns);
	assert_int_equal(mt_endpoint_patience(ep), 0);
	nudge_for(&e, SIM_S / 2, SIM_MS / 2);
	assert_in_range(mt_endpoint_patience(ep), SIM_MS, 5 * SIM_MS);

	e.server_holds = true;
	echo_start(&e, 1000);
	nudge_for(&e, SIM_S / 2, SIM_MS / 2);
	assert_int_equal(mt_endpoint_patience(ep), 0);
	nudge_for(&e, 2 * SIM_S, SIM_MS / 2);
	assert_int_equal(mt_endpoint_patience(ep), 0); /* the stream is open */
	held = e.server_streams[0];
	mt_stream_set_quiet(held);
	nudge_for(&e, 2 * SIM_S, SIM_MS / 2);
	assert_in_range(mt_endpoint_patience(ep), SIM_MS, 5 * SIM_MS);
	mt_stream_reset(held, 0);
	mt_stream_consume(held, mt_stream_readable(held));
	nudge_for(&e, 2 * SIM_S, SIM_MS / 2);
	assert_int_equal(ep->stream_count, 0);
	echo_deinit(&e);
}

/* Few packets at a time: where many may send keep-alives, and somebody has a stream open. */
static void test_shared_by_many_and_streams(void **state)
{
	struct mt_endpoint *ep;
	struct echo e;

	(void)state;
	start(&e, SIM_MS);
	ep = e.sim.server.ep;
	e.server_holds = true;
	echo_start(&e, 1000);
	nudge_for(&e, SIM_S / 2, SIM_MS);
	assert_int_equal(ep->stream_count, 1);
	assert_false(mt_endpoint_is_shared(ep));
	ep->count += 1000; /* as if they were there */
	assert_true(mt_endpoint_is_shared(ep));
	mt_stream_set_quiet(e.server_streams[0]);
	assert_false(mt_endpoint_is_shared(ep));
	ep->count -= 1000;
	mt_stream_reset(e.server_streams[0], 0);
	mt_stream_consume(e.server_streams[0], mt_stream_readable(e.server_streams[0]));
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	echo_deinit(&e);
}

/* UDP needs no stream: who speaks by datagrams is not kept waiting either. */
static void test_datagrams_want_no_patience(void **state)
{
	struct mt_endpoint *ep;
	struct mt_conn *from;
	struct echo e;

	(void)state;
	start(&e, SIM_MS);
	ep = e.sim.server.ep;
	ep->cfg.events.on_datagram = NULL; /* nothing is sent back */
	for (unsigned i = 0; i < 2; i++) {
		nudge_for(&e, 2 * SIM_S, SIM_MS / 2);
		assert_in_range(mt_endpoint_patience(ep), SIM_MS, 5 * SIM_MS);
		from = i == 0 ? e.conn : e.server_conn;
		assert_int_equal(mt_conn_send_datagram(from, "x", 1, NULL, 0), 0);
		nudge_for(&e, SIM_S / 2, SIM_MS / 2);
		assert_int_equal(mt_endpoint_patience(ep), 0);
	}
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keep_alive_is_answered_at_once),
		cmocka_unit_test(test_keep_alive_takes_one_packet_each_way),
		cmocka_unit_test(test_keep_alive_holds_nothing_up),
		cmocka_unit_test(test_keep_alive_from_new_address),
		cmocka_unit_test(test_no_answer_to_acknowledgements),
		cmocka_unit_test(test_request_is_acknowledged_with_its_answer),
		cmocka_unit_test(test_who_does_not_rest),
		cmocka_unit_test(test_expect),
		cmocka_unit_test(test_rest_ends_with_the_connection),
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_shared_by_many_and_streams),
		cmocka_unit_test(test_datagrams_want_no_patience),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
