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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct mt_addr stranger(unsigned n)
{
	struct mt_addr a;
	char text[MT_ADDR_TEXT_MAX];

	assert_true(snprintf(text, sizeof(text), "203.0.113.%u:%u", n % 250 + 1, 1024 + n) > 0);
	assert_int_equal(mt_addr_parse(&a, text), 0);
	return a;
}

/* Junk of every size from 0 to 1500 bytes, short and long headers: no abort, and never three times
 * as much back. */
static void test_junk_of_every_size(void **state)
{
	uint8_t junk[1500];
	struct mt_addr from = stranger(1);
	struct echo e;

	(void)state;
	echo_init(&e, 1);
	for (size_t len = 0; len <= sizeof(junk); len++) {
		for (unsigned form = 0; form < 4; form++) {
			for (size_t i = 0; i < len; i++) {
				junk[i] = (uint8_t)sim_random(&e.sim);
			}
			if (len > 5) {
				junk[0] = (uint8_t)(form & 1 ? junk[0] | 0xc0 : junk[0] & 0x7f);
				if (form & 2) {
					memcpy(junk + 1, "\0\0\0\1", 4);
				}
			}
			sim_inject(&e.sim.server, &from, junk, len);
		}
		e.sim.now_ns += 10 * SIM_MS;
	}
	(void)sim_run(&e.sim, NULL, NULL, 10 * SIM_S);
	assert_true(e.sim.server.bytes_out <= 3 * e.sim.server.bytes_in);
	assert_int_equal(mt_endpoint_count(e.sim.server.ep), 0);
	assert_true(mt_counter_get(&e.sim.server.counters.packets_invalid) > 0);
	echo_deinit(&e);
}

/* Connection ids of up to 255 bytes in a packet of another version (RFC 8999). */
static void test_unknown_version_with_long_ids(void **state)
{
	static const size_t lengths[] = {0, 1, 8, 20, 21, 100, 255};
	uint8_t packet[1400];
	struct mt_addr from = stranger(2);
	struct echo e;

	(void)state;
	echo_init(&e, 2);
	for (size_t i = 0; i < 7; i++) {
		for (size_t j = 0; j < 7; j++) {
			memset(packet, 0xaa, sizeof(packet));
			packet[0] = 0xc0;
			packet[5] = (uint8_t)lengths[i];
			packet[6 + lengths[i]] = (uint8_t)lengths[j];
			sim_inject(&e.sim.server, &from, packet, sizeof(packet));
			sim_inject(&e.sim.server, &from, packet, 600);
		}
	}
	assert_int_equal(mt_counter_get(&e.sim.server.counters.version_negotiations), 16);
	echo_deinit(&e);
}

static void test_reset_is_shorter_than_its_trigger(void **state)
{
	uint8_t packet[1500];
	struct mt_addr from = stranger(3);
	uint64_t before;
	struct echo e;

	(void)state;
	echo_init(&e, 3);
	for (size_t len = 21; len < sizeof(packet); len++) {
		memset(packet, 0x40, len);
		before = e.sim.server.bytes_out;
		sim_inject(&e.sim.server, &from, packet, len);
		assert_true(e.sim.server.bytes_out - before < len);
		e.sim.now_ns += 50 * SIM_MS;
	}
	assert_true(mt_counter_get(&e.sim.server.counters.stateless_resets) > 1000);
	echo_deinit(&e);
}

/* Makes Initials by starting clients whose packets are caught. */
struct catcher {
	uint8_t buf[MT_TX_BATCH_BYTES];
	size_t len;
};

static struct catcher catcher; /* with the last one */

static uint8_t *catch_reserve(void *user)
{
	return ((struct catcher *)user)->buf;
}

static void catch_commit(
	void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	(void)path, (void)ecn, (void)segment;
	((struct catcher *)user)->len = len;
}

static void inject_initials(struct echo *e, unsigned count)
{
	struct mt_quic_counters counters = {0};
	struct mt_mem *mem = mt_mem_new();
	struct mt_endpoint_config cfg = {
		.mem = mem,
		.counters = &counters,
		.limits = sim_limits(),
		.tx = {.reserve = catch_reserve, .commit = catch_commit, .user = &catcher},
		.worker_count = 1,
	};
	struct mt_endpoint *ep;

	assert_int_equal(mt_endpoint_new(&ep, &cfg), 0);
	for (unsigned i = 0; i < count; i++) {
		struct mt_addr from = stranger(i);
		struct mt_path path = {.local = from, .remote = e->sim.server.addr, .socket = ep};
		struct mt_conn *c;

		assert_int_equal(
			mt_endpoint_connect(ep, &path, e->sim.tls_client, e->sim.now_ns, &c), 0);
		catcher.len = 0;
		assert_true(mt_endpoint_flush(ep, e->sim.now_ns));
		assert_true(catcher.len >= 1200);
		sim_inject(&e->sim.server, &from, catcher.buf, catcher.len);
	}
	mt_endpoint_free(ep);
	mt_mem_free(mem);
}

/* Of a storm of handshakes one packet is looked at in a turn: who is in does not wait for the
 * others, who get in one after the other.
 */
static void test_handshakes_take_turns(void **state)
{
	struct mt_endpoint *ep;
	uint64_t active;
	struct echo e;

	(void)state;
	echo_init(&e, 9);
	echo_connect(&e);
	ep = e.sim.server.ep;
	active = mt_counter_get(&e.sim.server.counters.connections_total);
	for (unsigned i = 0; i < 50; i++) {
		(void)sim_connect(&e.sim);
	}
	assert_true(mt_endpoint_flush(e.sim.client.ep, e.sim.now_ns));
	echo_start(&e, 1000);
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_total), active + 50);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.handshake_packets_dropped), 0);
	assert_false(mt_endpoint_is_deferring(ep));
	inject_initials(&e, 60);
	assert_int_equal(mt_endpoint_count(ep), 51);
	assert_true(mt_endpoint_is_deferring(ep));
	assert_true(mt_endpoint_expiry(ep) <= e.sim.now_ns);
	for (unsigned i = 0; i < 60; i++) {
		mt_endpoint_expire(ep, e.sim.now_ns);
		assert_int_equal(mt_endpoint_count(ep), 52 + i);
	}
	assert_false(mt_endpoint_is_deferring(ep));
	echo_deinit(&e);
}

/* Beside running connections handshakes leave twice the time that they have taken; and without
 * them, none.
 */
static void test_handshakes_rest(void **state)
{
	struct mt_endpoint *ep;
	struct echo e;

	(void)state;
	echo_init(&e, 11);
	echo_connect(&e);
	ep = e.sim.server.ep;
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	inject_initials(&e, 3);
	mt_endpoint_rest(ep, SIM_MS, e.sim.now_ns);
	assert_true(mt_endpoint_run_deferred(ep)); /* nobody has been served for a second */
	mt_endpoint_note_traffic(ep);
	mt_endpoint_rest(ep, SIM_MS, e.sim.now_ns);
	assert_false(mt_endpoint_run_deferred(ep));
	assert_true(mt_endpoint_expiry(ep) <= e.sim.now_ns + 2 * SIM_MS);
	/* Not cut short by the turns of others, nor prolonged by what those take. */
	mt_endpoint_expire(ep, e.sim.now_ns + 10);
	mt_endpoint_note_traffic(ep);
	mt_endpoint_rest(ep, 10, e.sim.now_ns + 20);
	assert_int_equal(mt_endpoint_deferred_expiry(ep), e.sim.now_ns + 2 * SIM_MS);
	mt_endpoint_rest(ep, 2 * SIM_MS, e.sim.now_ns + 30);
	assert_int_equal(mt_endpoint_deferred_expiry(ep), e.sim.now_ns + 2 * SIM_MS);
	mt_endpoint_expire(ep, e.sim.now_ns + 2 * SIM_MS - 1);
	assert_int_equal(mt_endpoint_count(ep), 2);
	mt_endpoint_expire(ep, e.sim.now_ns + 2 * SIM_MS);
	assert_int_equal(mt_endpoint_count(ep), 3);
	echo_deinit(&e);
}

/* A handshake that has begun goes before those that have not; what a client sends again while it
 * waits is not kept twice; and who has waited for too long is told so.
 */
static void test_waiting_for_a_handshake(void **state)
{
	uint8_t packet[100] = {0x40};
	struct mt_addr from = stranger(19);
	const struct mt_cid *id;
	struct mt_endpoint *ep;
	uint64_t out;
	struct echo e;

	(void)state;
	echo_init(&e, 12);
	ep = e.sim.server.ep;
	inject_initials(&e, 1);
	mt_endpoint_expire(ep, e.sim.now_ns);
	assert_int_equal(mt_endpoint_count(ep), 1);
	inject_initials(&e, 20);
	sim_inject(&e.sim.server, &from, catcher.buf, catcher.len);
	assert_int_equal(mt_endpoint_waiting(ep), 20);
	for (id = TAILQ_FIRST(&ep->opening)->owner.ids; id->len != MT_CID_LEN;
		id = id->next_of_owner) {
	}
	memcpy(packet + 1, id->data, MT_CID_LEN);
	sim_inject(&e.sim.server, &from, packet, sizeof(packet));
	assert_int_equal(ep->deferred[MT_DEFERRED_BEGUN].count, 1);
	mt_endpoint_expire(ep, e.sim.now_ns);
	assert_int_equal(ep->deferred[MT_DEFERRED_BEGUN].count, 0);
	assert_int_equal(mt_endpoint_waiting(ep), 20);
	e.sim.now_ns += 4 * SIM_S;
	out = e.sim.server.bytes_out;
	mt_endpoint_expire(ep, e.sim.now_ns);
	assert_int_equal(mt_endpoint_waiting(ep), 19);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.refused_half_open), 1);
	assert_true(e.sim.server.bytes_out > out);
	assert_int_equal(mt_endpoint_count(ep), 1);
	echo_deinit(&e);
}

/* With as many under way as may be, whoever has a token waits for its turn. */
static void test_begins_are_paced(void **state)
{
	struct mt_endpoint *ep;
	struct echo e;

	(void)state;
	echo_init(&e, 13);
	ep = e.sim.server.ep;
	ep->half_open = MT_HALF_OPEN_MAX;
	e.conn = sim_connect(&e.sim);
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.retries), 1);
	assert_int_equal(ep->deferred[MT_DEFERRED_PROVEN].count, 1);
	assert_int_equal(mt_endpoint_count(ep), 0);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_refused), 0);
	ep->half_open = 0;
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_total), 1);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_refused), 0);
	echo_deinit(&e);
}

/* Whoever begins a handshake and then sends the largest packets there are, by the thousand, takes a
 * bounded share of the memory.
 */
static void test_large_packets_of_a_handshake(void **state)
{
	static uint8_t packet[65000];
	const mt_counter *dropped;
	struct mt_conn *half_open;
	struct mt_endpoint *ep;
	const struct mt_cid *id;
	struct echo e;

	(void)state;
	echo_init(&e, 10);
	ep = e.sim.server.ep;
	dropped = &e.sim.server.counters.handshake_packets_dropped;
	inject_initials(&e, 1);
	mt_endpoint_expire(ep, e.sim.now_ns);
	half_open = TAILQ_FIRST(&ep->opening);
	for (id = half_open->owner.ids; id->len != MT_CID_LEN; id = id->next_of_owner) {
	}
	packet[0] = 0x40;
	memcpy(packet + 1, id->data, MT_CID_LEN);
	for (unsigned i = 0; i < 4000; i++) {
		struct mt_addr from = stranger(i);

		sim_inject(&e.sim.server, &from, packet, sizeof(packet));
		assert_true(mt_endpoint_memory(ep) < 6u << 20);
	}
	assert_true(mt_counter_get(dropped) > 3000);
	(void)sim_run(&e.sim, NULL, NULL, 10 * SIM_S);
	assert_false(mt_endpoint_is_deferring(ep));
	echo_connect(&e); /* nobody else is shut out */
	echo_deinit(&e);
}

/* Past the threshold a spoofed Initial costs no state, and an honest client still gets in, by
 * Retry. */
static void test_initial_flood(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 4);
	inject_initials(&e, 300);
	while (mt_endpoint_is_deferring(e.sim.server.ep)) {
		mt_endpoint_expire(e.sim.server.ep, e.sim.now_ns);
	}
	assert_int_equal(mt_endpoint_count(e.sim.server.ep) + mt_endpoint_waiting(e.sim.server.ep),
		MT_HALF_OPEN_RETRY);
	assert_true(mt_counter_get(&e.sim.server.counters.retries) > 0);
	assert_true(e.sim.server.bytes_out <= 3 * e.sim.server.bytes_in);
	e.sim.now_ns += 500 * SIM_MS; /* the cap on stateless answers refills */
	echo_connect(&e);
	echo_start(&e, 1000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 10 * SIM_S));
	assert_true(e.streams[0].fin);
	(void)sim_run(&e.sim, NULL, NULL, 10 * SIM_S);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_half_open), 0);
	assert_int_equal(mt_endpoint_count(e.sim.server.ep), 1);
	echo_deinit(&e);
}

static void test_full_server_refuses(void **state)
{
	struct mt_endpoint_limits limits = sim_limits();
	struct echo e;

	(void)state;
	echo_init(&e, 5);
	limits.max_connections = 0;
	mt_endpoint_set_limits(e.sim.server.ep, &limits);
	e.conn = sim_connect(&e.sim);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 5 * SIM_S));
	assert_false(e.end.is_app);
	assert_int_equal(e.end.code, NGTCP2_CONNECTION_REFUSED);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.connections_refused), 1);
	echo_deinit(&e);
}

static void retry(struct echo *e, int alert)
{
	e->ended = false;
	e->authorize_alert = alert;
	e->conn = sim_connect(&e->sim);
}

/* What endpoints share: a place is taken by who is let in and by nobody else, and comes back once,
 * however the connection ends.
 */
static void test_places_come_back(void **state)
{
	struct mt_endpoint_limits limits = sim_limits();
	mt_counter places;
	struct echo e;

	(void)state;
	atomic_init(&places, 2); /* others', whose endpoints are full */
	echo_init(&e, 15);
	limits.max_connections = 2;
	mt_endpoint_set_limits(e.sim.server.ep, &limits);
	e.sim.server.ep->cfg.places = &places;
	retry(&e, 0);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 5 * SIM_S));
	assert_int_equal(e.end.code, NGTCP2_CONNECTION_REFUSED);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.refused_full), 1);
	assert_int_equal(mt_counter_get(&places), 2);
	atomic_store(&places, 1);
	retry(&e, GNUTLS_A_ACCESS_DENIED);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 5 * SIM_S));
	assert_int_equal(mt_counter_get(&places), 1);
	retry(&e, 0);
	assert_true(sim_run(&e.sim, echo_is_established, &e, 5 * SIM_S));
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	assert_int_equal(mt_counter_get(&places), 2);
	mt_conn_close(e.conn, 0, NULL);
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
	assert_int_equal(mt_counter_get(&places), 1);
	retry(&e, 0);
	(void)sim_run(&e.sim, NULL, NULL, 12 * SIM_MS);
	assert_int_equal(mt_counter_get(&places), 2);
	e.sim.black_hole = true; /* the handshake, and what is open, end by their timeouts */
	(void)sim_run(&e.sim, NULL, NULL, 60 * SIM_S);
	assert_int_equal(mt_counter_get(&places), 1);
	e.sim.black_hole = false;
	retry(&e, 0);
	(void)sim_run(&e.sim, NULL, NULL, SIM_S);
	assert_int_equal(mt_counter_get(&places), 2);
	echo_deinit(&e);
	assert_int_equal(mt_counter_get(&places), 1);
}

static void test_draining_server_refuses(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 6);
	mt_endpoint_set_draining(e.sim.server.ep, true);
	e.conn = sim_connect(&e.sim);
	assert_true(sim_run(&e.sim, echo_has_ended, &e, 5 * SIM_S));
	assert_int_equal(e.end.code, NGTCP2_CONNECTION_REFUSED);
	echo_deinit(&e);
}

/* Corruption of every packet for a while: the connection survives or ends by its timeout, never by
 * a crash. */
static void test_corrupted_everything(void **state)
{
	struct echo e;

	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++) {
		echo_init(&e, seed);
		echo_connect(&e);
		echo_start(&e, 100000);
		e.sim.corrupt_permille = 1000;
		(void)sim_run(&e.sim, NULL, NULL, 3 * SIM_S);
		e.sim.corrupt_permille = 0;
		(void)sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S);
		assert_true(e.streams[0].ended);
		assert_false(e.streams[0].wrong);
		echo_deinit(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_junk_of_every_size),
		cmocka_unit_test(test_unknown_version_with_long_ids),
		cmocka_unit_test(test_reset_is_shorter_than_its_trigger),
		cmocka_unit_test(test_handshakes_take_turns),
		cmocka_unit_test(test_handshakes_rest),
		cmocka_unit_test(test_waiting_for_a_handshake),
		cmocka_unit_test(test_begins_are_paced),
		cmocka_unit_test(test_large_packets_of_a_handshake),
		cmocka_unit_test(test_initial_flood),
		cmocka_unit_test(test_full_server_refuses),
		cmocka_unit_test(test_places_come_back),
		cmocka_unit_test(test_draining_server_refuses),
		cmocka_unit_test(test_corrupted_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
