/* links: tests/sim/sim.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* Sockets in the place of users, which have and take bytes when they like, on both ends of
 * connections whose path is fast at one time and slow at another. Whatever happens between, what
 * was not cut arrives as it was sent, and nobody waits for a turn that does not come.
 */
#include "proto/quic/impl.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define PUMPS      24 /* of each end: as many streams are open at a time */
#define PIECES     16
#define TURN_SIZE  (256u * 1024) /* that a pump takes before others do */
#define EXTRA      16384u        /* as room.c has it */
#define SEEDS      10
#define ACK_MAX_NS (33 * SIM_MS)
#define STEPS      250

struct end;

/* A stream and the socket that it is for, as proto/io/pump.c has them. */
struct pump {
	struct end *end;
	struct mt_stream *s; /* NULL: this place is free */
	uint64_t id;
	/* To the stream. */
	uint64_t size;      /* then the socket is at its end */
	uint64_t available; /* of the next ones */
	uint64_t taken;
	bool up_over;
	bool is_cut; /* by anybody: not all of it arrives */
	/* From it. */
	uint64_t room;
	uint64_t got;
	bool down_over;
	bool is_asleep; /* reads nothing for a while */
};

struct end {
	struct sim *sim;
	struct sim_node *node;
	struct mt_conn *conn;
	struct end *other;
	struct pump pumps[PUMPS];
	uint64_t arrived; /* whole directions */
	bool opens;
	bool is_endless; /* what its sockets have */
	bool is_willing; /* sockets have and take everything at once, and nobody cuts */
};

struct world {
	struct sim sim;
	struct end client;
	struct end server;
};

static uint64_t below(struct end *end, uint64_t n)
{
	return sim_random(end->sim) % n;
}

/* What stands at `off` of what this end sends on stream `id`. */
static uint8_t byte_at(uint64_t id, bool by_client, uint64_t off)
{
	return (uint8_t)(off * 31 + (off >> 12) + id * 7 + by_client);
}

static bool is_client(const struct end *end)
{
	return end->node == &end->sim->client;
}

static const struct mt_quic_stream *inside(const struct pump *p)
{
	return (const struct mt_quic_stream *)p->s;
}

static void let_go(struct pump *p)
{
	mt_stream_release(p->s, 5);
	p->s = NULL;
}

static size_t put(struct pump *p, const struct iovec *iov, size_t n)
{
	uint64_t left = p->available, len;
	size_t all = 0;

	for (size_t i = 0; i < n && left > 0; i++) {
		uint8_t *to = iov[i].iov_base;

		len = iov[i].iov_len < left ? iov[i].iov_len : left;
		for (size_t k = 0; k < len; k++) {
			to[k] = byte_at(p->id, is_client(p->end), p->taken + k);
		}
		p->taken += len;
		left -= len;
		all += len;
	}
	p->available = left;
	return all;
}

static void move_up(struct pump *p)
{
	struct iovec iov[PIECES];
	size_t moved = 0, n, len;

	while (p->s && !p->up_over && moved < TURN_SIZE) {
		if (p->available == 0 && p->taken < p->size) {
			return;
		}
		n = mt_stream_reserve(p->s, iov, moved > 0 ? PIECES : 4);
		if (n == 0) {
			assert_int_equal(mt_stream_send_space(p->s), 0);
			return;
		}
		len = put(p, iov, n);
		mt_stream_commit(p->s, len);
		moved += len;
		if (len == 0) {
			p->up_over = true;
			mt_stream_send_fin(p->s);
		}
	}
}

static void move_down(struct pump *p)
{
	struct iovec iov[PIECES];
	size_t n, len;

	while (p->s && !p->is_asleep && p->room > 0 && mt_stream_peek(p->s, iov, PIECES) > 0) {
		const uint8_t *from = iov[0].iov_base;

		len = iov[0].iov_len < p->room ? iov[0].iov_len : p->room;
		for (n = 0; n < len; n++) {
			assert_int_equal(from[n], byte_at(p->id, !is_client(p->end), p->got + n));
		}
		p->got += len;
		p->room -= len;
		mt_stream_consume(p->s, len);
	}
	if (p->s && !p->down_over && mt_stream_fin_received(p->s) &&
		mt_stream_readable(p->s) == 0) {
		p->down_over = true;
		p->end->arrived++;
	}
}

static void on_event(struct mt_stream *s, void *user)
{
	struct pump *p = user;

	assert_ptr_equal(p->s, s);
	move_up(p);
	move_down(p);
	if (p->up_over && p->down_over) {
		let_go(p);
	}
}

static void on_reset(struct mt_stream *s, uint64_t code, void *user)
{
	struct pump *p = user;

	(void)code;
	p->is_cut = true;
	p->down_over = true;
	on_event(s, user);
}

static void on_stop(struct mt_stream *s, uint64_t code, void *user)
{
	struct pump *p = user;

	(void)code;
	p->is_cut = true;
	p->up_over = true;
	on_event(s, user);
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	struct pump *p = user;

	(void)s;
	assert_int_equal(err, 0);
	assert_true(p->is_cut || (p->up_over && p->taken == p->size));
}

static const struct mt_stream_handler handler = {
	.on_readable = on_event,
	.on_writable = on_event,
	.on_reset = on_reset,
	.on_stop = on_stop,
	.on_end = on_stream_end,
};

static struct pump *free_place(struct end *end)
{
	for (unsigned i = 0; i < PUMPS; i++) {
		if (!end->pumps[i].s) {
			return &end->pumps[i];
		}
	}
	return NULL;
}

static void begin(struct pump *p, struct end *end, struct mt_stream *s)
{
	static const uint64_t sizes[] = {0, 1, 900, 16384, 16385, 100000, 700000, 3000000};

	*p = (struct pump){.end = end, .s = s, .id = (uint64_t)mt_stream_id(s)};
	p->size = sizes[below(end, 8)];
	p->size += p->size > 900 && below(end, 2) ? below(end, 1000) : 0;
	p->size = end->is_endless ? UINT64_MAX : p->size;
	p->available = !end->is_endless && (end->is_willing || below(end, 2)) ? p->size : 0;
	p->room = end->is_willing ? UINT64_MAX : below(end, 2) * 1000000;
	mt_stream_set_handler(s, &handler, p);
	on_event(s, p);
}

static void open_streams(struct end *end)
{
	struct mt_stream *s;
	struct pump *p;

	while (end->opens && (p = free_place(end)) && mt_conn_open_stream(end->conn, &s) == 0) {
		begin(p, end, s);
	}
}

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct end *end = user;
	struct pump *p = free_place(end);

	(void)c;
	if (!p) {
		mt_stream_release(s, 6); /* of its place somebody has let go, not of the stream */
		return;
	}
	begin(p, end, s);
}

static void on_established(void *user, struct mt_conn *c)
{
	struct end *end = user;

	end->conn = c;
}

static void on_streams_left(void *user, struct mt_conn *c)
{
	(void)c;
	open_streams(user);
}

static bool both_established(void *user)
{
	const struct world *w = user;

	return w->client.conn && w->server.conn;
}

static void init(struct world *w, uint64_t seed)
{
	struct mt_endpoint_limits limits = sim_limits();
	struct end *ends[2] = {&w->client, &w->server};
	struct mt_endpoint_events ev[2];

	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i < 2; i++) {
		ends[i]->sim = &w->sim;
		ends[i]->other = ends[1 - i];
		ev[i] = (struct mt_endpoint_events){
			.on_established = on_established,
			.on_stream = on_stream,
			.on_streams_left = on_streams_left,
			.user = ends[i],
		};
	}
	sim_init(&w->sim, seed, &ev[0], &ev[1]);
	w->client.node = &w->sim.client;
	w->server.node = &w->sim.server;
	limits.max_streams = PUMPS;
	limits.max_stream_window = seed % 2 ? 8u << 20 : 128u * 1024;
	limits.max_conn_window = seed % 3 ? 8u << 20 : 256u * 1024;
	limits.congestion_control = seed % 4 ? MT_CC_CUBIC : MT_CC_BBR;
	limits.idle_timeout_ns = 600 * SIM_S;
	mt_endpoint_set_limits(w->sim.client.ep, &limits);
	mt_endpoint_set_limits(w->sim.server.ep, &limits);
	w->sim.delay_ns = SIM_MS / 10;
	(void)sim_connect(&w->sim);
	assert_true(sim_run(&w->sim, both_established, w, 5 * SIM_S));
}

/* The books of room.c are right, and who waits for room is called some day. */
static void check(const struct mt_conn *c)
{
	const struct mt_quic_stream *s;
	bool has_invited = false;
	uint64_t unsent = 0;
	unsigned waiting = 0;

	TAILQ_FOREACH(s, &c->streams, of_conn)
	{
		bool counts = s->queue && s->queue != &c->blocked && !s->is_retried;

		uint64_t much = s->tx_end - s->tx_sent > EXTRA ? s->tx_end - s->tx_sent - EXTRA : 0;

		assert_true(s->counted == (counts ? much : 0));
		unsent += s->counted;
		waiting += s->waits_for_room;
		has_invited = has_invited || s == c->invited;
		assert_true(s->tx_over || s->closed || s->tx_sent == s->tx_end || s->queue);
	}
	assert_true(c->tx_unsent == unsent);
	assert_true(!c->invited || (has_invited && c->invited->is_ready));
	TAILQ_FOREACH(s, &c->for_room, for_room)
	{
		assert_true(s->waits_for_room && !s->released);
		waiting--;
	}
	assert_int_equal(waiting, 0);
	/* What rests is acknowledged in time: the longest delay, and what timers gather by. */
	assert_true(!c->is_resting || c->is_dirty ||
		    c->expiry.ts_ns <= c->last_received_ns + ACK_MAX_NS);
	assert_true(TAILQ_EMPTY(&c->for_room) || c->invited ||
		    (c->slice > 0 && c->tx_unsent > MT_STREAM_UNSENT_MAX / 2 - EXTRA));
}

static bool check_both(void *user)
{
	struct world *w = user;

	check(w->client.conn);
	check(w->server.conn);
	return false;
}

static void cut(struct pump *p)
{
	struct end *end = p->end;

	switch (below(end, 3)) {
	case 0:
		mt_stream_reset(p->s, 1);
		p->up_over = true;
		break;
	case 1:
		mt_stream_stop(p->s, 2);
		p->down_over = true;
		break;
	case 2:
		mt_stream_set_handler(p->s, NULL, NULL);
		let_go(p);
		return;
	default: let_go(p); return;
	}
	p->is_cut = true;
}

static void touch(struct pump *p)
{
	static const uint64_t amounts[] = {1, 700, 16384, 20000, 300000, 5000000};
	struct end *end = p->end;
	uint64_t left = p->size - p->taken - p->available, n = amounts[below(end, 6)];

	switch (below(end, 8)) {
	case 0:
	case 1: p->available += n < left ? n : left; break;
	case 2:
	case 3: p->room += n; break;
	case 4: p->is_asleep = !p->is_asleep; break;
	case 5:
		if (below(end, 12) == 0) {
			cut(p);
		}
		break;
	default: break;
	}
	if (p->s) {
		on_event(p->s, p);
	}
}

static void change_path(struct world *w)
{
	static const uint64_t delays[] = {
		SIM_MS / 20, SIM_MS / 10, SIM_MS / 10, SIM_MS / 2, 5 * SIM_MS, 40 * SIM_MS};
	static const uint64_t rates[] = {0, 0, 10000000000ull, 1000000000, 20000000};
	struct end *client = &w->client;

	if (below(client, 10) == 0) {
		w->sim.delay_ns = delays[below(client, 6)];
		w->sim.client.link.rate_bps = rates[below(client, 5)];
		w->sim.server.link.rate_bps = rates[below(client, 5)];
		w->sim.client.link.queue_bytes = w->sim.server.link.queue_bytes = 300000;
	}
	w->sim.loss_permille = below(client, 10) ? 0 : 20;
	w->sim.client.blocked = below(client, 15) == 0;
	w->sim.server.blocked = below(client, 15) == 0;
	/* As if memory were short until the next turn. */
	w->sim.client.ep->is_short = below(client, 8) == 0;
	w->sim.server.ep->is_short = below(client, 8) == 0;
}

static void step(struct world *w)
{
	struct end *ends[2] = {&w->client, &w->server};

	change_path(w);
	for (unsigned i = 0; i < 2; i++) {
		open_streams(ends[i]);
		for (unsigned k = 0; k < PUMPS; k++) {
			if (ends[i]->pumps[k].s && below(ends[i], 2)) {
				touch(&ends[i]->pumps[k]);
			}
		}
	}
	check_both(w);
	(void)sim_run(&w->sim, check_both, w, below(&w->client, 3 * SIM_MS));
}

static bool is_over(void *user)
{
	struct world *w = user;

	(void)check_both(w);
	for (unsigned k = 0; k < PUMPS; k++) {
		if (w->client.pumps[k].s || w->server.pumps[k].s) {
			return false;
		}
	}
	return true;
}

/* Nobody cuts any more, and all sockets do what they can: all come to their end in little time. */
static void finish(struct world *w)
{
	struct end *ends[2] = {&w->client, &w->server};

	w->sim.loss_permille = 0;
	w->sim.delay_ns = SIM_MS / 10;
	for (unsigned i = 0; i < 2; i++) {
		ends[i]->node->blocked = false;
		ends[i]->node->link.rate_bps = 0;
		ends[i]->opens = false;
		ends[i]->is_willing = true;
	}
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < PUMPS; k++) {
			struct pump *p = &ends[i]->pumps[k];

			p->available = p->size - p->taken;
			p->room = UINT64_MAX;
			p->is_asleep = false;
			if (p->s) {
				on_event(p->s, p);
			}
		}
	}
}

static void settle(struct world *w)
{
	for (unsigned i = 0; i < 200 && !sim_run(&w->sim, is_over, w, 100 * SIM_MS); i++) {
		/* What a pump left for its next turn. */
		for (unsigned k = 0; k < PUMPS; k++) {
			if (w->client.pumps[k].s) {
				on_event(w->client.pumps[k].s, &w->client.pumps[k]);
			}
			if (w->server.pumps[k].s) {
				on_event(w->server.pumps[k].s, &w->server.pumps[k]);
			}
		}
	}
	assert_true(is_over(w));
	assert_int_equal(w->client.conn->tx_unsent, 0);
	assert_int_equal(w->server.conn->tx_unsent, 0);
}

static void stop(struct world *w)
{
	for (unsigned k = 0; k < PUMPS; k++) {
		if (w->client.pumps[k].s) {
			let_go(&w->client.pumps[k]);
		}
		if (w->server.pumps[k].s) {
			let_go(&w->server.pumps[k]);
		}
	}
	sim_deinit(&w->sim);
}

static void test_all_arrives(void **state)
{
	static struct world w;
	unsigned with_turns = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		init(&w, seed);
		w.client.opens = true;
		w.server.opens = seed % 5 == 0;
		for (unsigned i = 0; i < STEPS; i++) {
			step(&w);
			with_turns += !TAILQ_EMPTY(&w.client.conn->for_room);
			with_turns += !TAILQ_EMPTY(&w.server.conn->for_room);
		}
		finish(&w);
		settle(&w);
		assert_true(w.client.arrived > 20 && w.server.arrived > 20);
		stop(&w);
	}
	assert_true(with_turns > 100);
}

/* Sockets that have a little at a time, and together more than the path takes, do not keep one
 * waiting that has much. */
static void test_much_beside_many_with_little(void **state)
{
	static struct world w;
	const struct mt_quic_stream *bulk;
	uint64_t before, longest_ns = 0, since_ns;

	(void)state;
	init(&w, 1);
	w.sim.client.link.rate_bps = 2000000000;
	w.sim.client.link.queue_bytes = 300000;
	w.server.is_willing = true;
	w.client.opens = w.client.is_endless = true;
	open_streams(&w.client);
	for (unsigned k = 0; k < PUMPS; k++) {
		struct pump *p = &w.client.pumps[k];

		p->available = k == 0 ? UINT64_MAX / 2 : 0;
		p->room = UINT64_MAX;
	}
	bulk = inside(&w.client.pumps[0]);
	before = bulk->tx_sent;
	since_ns = w.sim.now_ns;
	for (unsigned i = 0; i < 2000; i++) {
		for (unsigned k = 0; k < PUMPS; k++) {
			w.client.pumps[k].available += k == 0 ? 0 : 5450;
			on_event(w.client.pumps[k].s, &w.client.pumps[k]);
		}
		(void)sim_run(&w.sim, check_both, &w, SIM_MS / 2);
		if (bulk->tx_sent > before) {
			since_ns = w.sim.now_ns;
			before = bulk->tx_sent;
		}
		if (w.sim.now_ns - since_ns > longest_ns) {
			longest_ns = w.sim.now_ns - since_ns;
		}
	}
	assert_true(longest_ns < 50 * SIM_MS);
	assert_true(bulk->tx_sent > inside(&w.client.pumps[1])->tx_sent / 4 * 3);
	stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_arrives),
		cmocka_unit_test(test_much_beside_many_with_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
