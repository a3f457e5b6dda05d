/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* Key updates (RFC 9001, section 6), long after the TLS sessions have gone. That they come by
 * themselves when a key has sealed enough packets takes 11 GiB: `make test-keys`.
 */
#include "proto/quic/impl.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

struct updates {
	struct echo *e;
	bool by_client;
	bool by_server;
	unsigned done;
};

/* As often as the last one is confirmed, and three times the probe timeout has passed. */
static bool update_keys(void *user)
{
	struct updates *u = user;
	struct mt_conn *c = u->e->conn, *s = u->e->server_conn;
	uint64_t now = u->e->sim.now_ns;

	if (u->by_client && c && ngtcp2_conn_initiate_key_update(c->qc, now) == 0) {
		u->done++;
	}
	if (u->by_server && s && ngtcp2_conn_initiate_key_update(s->qc, now) == 0) {
		u->done++;
	}
	return echo_all_done(u->e);
}

/* Transfers while keys change, again and again, and packets get lost and overtake each other: those
 * of old keys among those of new ones.
 */
static void transfer(uint64_t seed, bool by_client, bool by_server)
{
	struct updates u = {.by_client = by_client, .by_server = by_server};
	struct echo e;
	uint64_t seen;

	echo_init(&e, seed);
	e.sim.loss_permille = 10;
	e.sim.jitter_ns = 3 * SIM_MS;
	u.e = &e;
	echo_connect(&e);
	for (unsigned i = 0; i < 4; i++) {
		echo_start(&e, 3000000);
	}
	assert_true(sim_run(&e.sim, update_keys, &u, 300 * SIM_S));
	for (unsigned i = 0; i < 4; i++) {
		assert_true(e.streams[i].fin && !e.streams[i].cut && !e.streams[i].wrong);
	}
	assert_false(e.ended || e.server_ended);
	assert_true(u.done >= 3);
	/* Both sides saw them all, each once: those that both began at a time are one. The last is
	 * seen with a packet that comes when the keys before it are not needed any more.
	 */
	for (unsigned i = 0; i < 2; i++) {
		(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
		echo_start(&e, 100);
	}
	(void)sim_run(&e.sim, NULL, NULL, 5 * SIM_S);
	seen = mt_counter_get(&e.sim.client.counters.key_updates);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.key_updates), seen);
	if (by_client && by_server) {
		assert_in_range(seen, u.done / 2, u.done);
	} else {
		assert_int_equal(seen, u.done);
	}
	echo_deinit(&e);
}

static void test_updates_by_client(void **state)
{
	(void)state;
	transfer(1, true, false);
}

static void test_updates_by_server(void **state)
{
	(void)state;
	transfer(2, false, true);
}

static void test_updates_by_both(void **state)
{
	(void)state;
	for (uint64_t seed = 3; seed < 8; seed++) {
		transfer(seed, true, true);
	}
}

/* Nobody updates keys without need. */
static void test_no_updates(void **state)
{
	struct echo e;

	(void)state;
	echo_init(&e, 9);
	echo_connect(&e);
	echo_start(&e, 1000000);
	assert_true(sim_run(&e.sim, echo_all_done, &e, 60 * SIM_S));
	assert_int_equal(mt_counter_get(&e.sim.client.counters.key_updates), 0);
	assert_int_equal(mt_counter_get(&e.sim.server.counters.key_updates), 0);
	echo_deinit(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_updates_by_client),
		cmocka_unit_test(test_updates_by_server),
		cmocka_unit_test(test_updates_by_both),
		cmocka_unit_test(test_no_updates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
