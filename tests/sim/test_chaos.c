/* links: tests/sim/sim.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* Users on both sides that do anything at any time, from inside the handlers too, over a bad
 * network and blocked sockets. What is looked for is what the sanitizers see, a gauge below zero, a
 * stream that its user is never told the end of, and a turn of the loop that never sleeps.
 */
#include "proto/quic/impl.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define STREAMS_MAX  256
#define STREAMS_OPEN 20
#define CONN_WINDOW  (256u * 1024)
#define TURNS_MAX    200000u

struct side;

struct held {
	struct side *side;
	struct mt_stream *s; /* NULL: this place is free */
};

struct side {
	struct sim *sim;
	struct sim_node *node;
	struct mt_conn *conn;
	struct held held[STREAMS_MAX];
	uint64_t ends;
	bool calm; /* reads everything, sends FIN and nothing else */
};

struct chaos {
	struct sim sim;
	struct side client;
	struct side server;
	unsigned turns;
};

static bool one_in(struct side *side, unsigned n)
{
	return sim_random(side->sim) % n == 0;
}

static void let_go(struct held *h)
{
	mt_stream_release(h->s, 5);
	h->s = NULL;
}

static void send_some(struct held *h)
{
	struct iovec iov[3];
	size_t pieces = mt_stream_reserve(h->s, iov, 3), room = 0;

	for (size_t i = 0; i < pieces; i++) {
		memset(iov[i].iov_base, 0x5a, iov[i].iov_len);
		room += iov[i].iov_len;
	}
	mt_stream_commit(h->s, room ? sim_random(h->side->sim) % (room + 1) : 0);
}

static void read_some(struct held *h)
{
	size_t len = mt_stream_readable(h->s);

	mt_stream_consume(h->s, one_in(h->side, 3) ? len / 2 : len);
}

static void do_anything(struct held *h)
{
	struct mt_conn *c = mt_stream_conn(h->s);
	struct side *side = h->side;

	if (side->calm) {
		mt_stream_consume(h->s, mt_stream_readable(h->s));
		mt_stream_send_fin(h->s);
		return;
	}
	switch (sim_random(side->sim) % 16) {
	case 0: mt_stream_stop(h->s, 1); break;
	case 1: mt_stream_reset(h->s, 2); break;
	case 2:
	case 3: mt_stream_send_fin(h->s); break;
	case 4: let_go(h); break;
	case 5:
		if (c && one_in(side, 200)) {
			mt_conn_close(c, 3, "enough");
		}
		break;
	case 6:
		if (c && mt_conn_send_datagram(c, "datagram", 8, "body", 4) != 0) {
			break; /* closed */
		}
		break;
	case 7:
	case 8:
	case 9:
	case 10: read_some(h); break;
	default: send_some(h); break;
	}
}

static void on_event(struct mt_stream *s, void *user)
{
	struct held *h = user;

	assert_ptr_equal(h->s, s);
	do_anything(h);
}

static void on_code(struct mt_stream *s, uint64_t code, void *user)
{
	(void)code;
	on_event(s, user);
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	struct held *h = user;

	(void)err;
	assert_ptr_equal(h->s, s);
	h->side->ends++;
	let_go(h);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_event,
	.on_writable = on_event,
	.on_reset = on_code,
	.on_stop = on_code,
	.on_end = on_stream_end,
};

static struct held *free_place(struct side *side)
{
	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		if (!side->held[i].s) {
			return &side->held[i];
		}
	}
	return NULL;
}

static void hold(struct held *h, struct side *side, struct mt_stream *s)
{
	h->side = side;
	h->s = s;
	mt_stream_set_handler(s, &handler, h);
	do_anything(h);
}

static void open_streams(struct side *side)
{
	struct mt_stream *s;
	struct held *h;

	while (side->conn && !side->calm && !one_in(side, 6) && (h = free_place(side)) &&
		mt_conn_open_stream(side->conn, &s) == 0) {
		hold(h, side, s);
	}
}

static void on_established(void *user, struct mt_conn *c)
{
	struct side *side = user;

	side->conn = c;
	mt_conn_set_keep_alive(c, 1 * SIM_S);
	if (side == &((struct chaos *)side->sim)->client) {
		open_streams(side);
	}
}

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct side *side = user;
	struct held *h = free_place(side);

	(void)c;
	if (!h || one_in(side, 10)) {
		mt_stream_release(s, 4);
		return;
	}
	hold(h, side, s);
}

static void on_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct side *side = user;

	if (one_in(side, 2) && mt_conn_send_datagram(c, data, len, NULL, 0) != 0) {
		return; /* closed */
	}
}

static void on_streams_left(void *user, struct mt_conn *c)
{
	(void)c;
	open_streams(user);
}

static void on_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct side *side = user;

	(void)end;
	if (side->conn == c) {
		side->conn = NULL;
	}
}

static void init(struct chaos *x, uint64_t seed)
{
	struct mt_endpoint_events ev[2];
	struct mt_endpoint_limits limits = sim_limits();
	struct side *sides[2] = {&x->client, &x->server};

	memset(x, 0, sizeof(*x));
	for (unsigned i = 0; i < 2; i++) {
		sides[i]->sim = &x->sim;
		ev[i] = (struct mt_endpoint_events){
			.on_established = on_established,
			.on_stream = on_stream,
			.on_datagram = on_datagram,
			.on_streams_left = on_streams_left,
			.on_end = on_end,
			.user = sides[i],
		};
	}
	sim_init(&x->sim, seed, &ev[0], &ev[1]);
	x->client.node = &x->sim.client;
	x->server.node = &x->sim.server;
	limits.max_streams = STREAMS_OPEN;
	limits.max_stream_window = 64u * 1024;
	limits.max_conn_window = CONN_WINDOW;
	mt_endpoint_set_limits(x->sim.server.ep, &limits);
	mt_endpoint_set_limits(x->sim.client.ep, &limits);
}

static bool never_spins(void *user)
{
	struct chaos *x = user;

	x->turns++;
	assert_true(x->turns < TURNS_MAX);
	return false;
}

static void step(struct chaos *x)
{
	struct side *sides[2] = {&x->client, &x->server};

	x->turns = 0;
	(void)sim_run(&x->sim, never_spins, x, sim_random(&x->sim) % (30 * SIM_MS));
	x->sim.loss_permille = one_in(&x->client, 10) ? 200 : 10;
	for (unsigned i = 0; i < 2; i++) {
		sides[i]->node->blocked = one_in(sides[i], 12);
		for (unsigned j = 0; j < STREAMS_MAX; j++) {
			if (sides[i]->held[j].s && one_in(sides[i], 3)) {
				do_anything(&sides[i]->held[j]);
			}
		}
		assert_true(mt_counter_get(&sides[i]->node->counters.connections_active) < 50);
	}
	open_streams(&x->client);
	if (one_in(&x->client, 60)) {
		x->sim.nat_port++;
	}
	if (!x->client.conn && mt_endpoint_count(x->sim.client.ep) == 0) {
		(void)sim_connect(&x->sim);
	}
}

static void finish(struct chaos *x)
{
	struct side *sides[2] = {&x->client, &x->server};

	x->sim.loss_permille = 0;
	for (unsigned i = 0; i < 2; i++) {
		sides[i]->node->blocked = false;
		sides[i]->calm = true;
		for (unsigned j = 0; j < STREAMS_MAX; j++) {
			if (sides[i]->held[j].s) {
				do_anything(&sides[i]->held[j]);
			}
		}
	}
	/* With good will on both sides every stream that nobody has cut comes to its end, and
	 * nothing of the credit is lost.
	 */
	x->turns = 0;
	(void)sim_run(&x->sim, never_spins, x, 60 * SIM_S);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned j = 0; j < STREAMS_MAX; j++) {
			struct held *h = &sides[i]->held[j];

			if (h->s) {
				const struct mt_quic_stream *s =
					(const struct mt_quic_stream *)h->s;

				assert_true(s->rx_over);
				assert_true(s->tx_over || s->tx_fin_sent);
				let_go(h);
			}
		}
	}
	x->turns = 0;
	(void)sim_run(&x->sim, never_spins, x, 30 * SIM_S);
	if (x->client.conn) {
		assert_int_equal(mt_conn_streams_left(x->client.conn), STREAMS_OPEN);
		assert_true(ngtcp2_conn_get_max_data_left(x->client.conn->qc) >= CONN_WINDOW / 2);
		assert_true(ngtcp2_conn_get_max_data_left(x->server.conn->qc) >= CONN_WINDOW / 2);
		assert_int_equal(x->client.conn->tx_unacked, 0);
		assert_int_equal(x->server.conn->tx_unacked, 0);
	}
	/* The connection ends by its timeout. */
	x->sim.black_hole = true;
	x->turns = 0;
	(void)sim_run(&x->sim, never_spins, x, 200 * SIM_S);
	for (unsigned i = 0; i < 2; i++) {
		const struct mt_quic_counters *n = &sides[i]->node->counters;

		assert_null(sides[i]->conn);
		assert_int_equal(mt_endpoint_count(sides[i]->node->ep), 0);
		assert_int_equal(mt_cid_count(sides[i]->node->ep->cids), 0);
		assert_int_equal(mt_counter_get(&n->connections_active), 0);
		assert_int_equal(mt_counter_get(&n->connections_half_open), 0);
		assert_int_equal(
			mt_counter_get(&n->streams_opened), mt_counter_get(&n->streams_closed));
		assert_int_equal(mt_mem_used(sides[i]->node->mem), 0);
	}
}

static void test_anything_at_any_time(void **state)
{
	static struct chaos x;

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		init(&x, seed);
		x.sim.jitter_ns = 3 * SIM_MS;
		x.sim.duplicate_permille = 20;
		for (unsigned i = 0; i < 1000; i++) {
			step(&x);
		}
		assert_true(x.client.ends + x.server.ends > 200);
		finish(&x);
		sim_deinit(&x.sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_anything_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
