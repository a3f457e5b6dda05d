/* links: tests/sim/sim.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* Who sends when there is more to send than the network takes: streams of a connection, streams and
 * datagrams, connections of an endpoint.
 */
#include "proto/quic/impl.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define STREAMS_MAX 128
#define CONNS_MAX   4
#define ROUND       65536u  /* of one stream at most, as proto/quic/order.c has it */
#define TURN        524288u /* the same, of room.c */

/* Clients that send, and a server that drops what comes. */
struct world {
	struct sim sim;
	struct mt_conn *conns[CONNS_MAX];
	unsigned conn_count;
	unsigned established;
	struct mt_stream *streams[STREAMS_MAX];
	bool endless[STREAMS_MAX];
	unsigned stream_count;
	struct mt_stream *sinks[STREAMS_MAX];
	unsigned sink_count;
	uint64_t datagrams; /* bytes that have arrived */
};

static void fill(struct mt_stream *s, void *user)
{
	struct iovec iov[4];
	size_t n;

	(void)user;
	while ((n = mt_stream_reserve(s, iov, 4)) > 0) {
		size_t len = 0;

		for (size_t i = 0; i < n; i++) {
			memset(iov[i].iov_base, 0, iov[i].iov_len);
			len += iov[i].iov_len;
		}
		mt_stream_commit(s, len);
	}
}

static const struct mt_stream_handler source = {.on_writable = fill};

static void drop(struct mt_stream *s, void *user)
{
	(void)user;
	mt_stream_consume(s, mt_stream_readable(s));
}

static const struct mt_stream_handler sink = {.on_readable = drop};

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct world *w = user;

	(void)c;
	assert_true(w->sink_count < STREAMS_MAX);
	w->sinks[w->sink_count++] = s;
	mt_stream_set_handler(s, &sink, w);
}

static void on_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	(void)c, (void)data;
	((struct world *)user)->datagrams += len;
}

static void on_established(void *user, struct mt_conn *c)
{
	(void)c;
	((struct world *)user)->established++;
}

static bool all_established(void *user)
{
	const struct world *w = user;

	return w->established == w->conn_count;
}

/* `window`: what each connection may have on its way, so that it is never done with sending. */
static void start(struct world *w, unsigned conns, uint64_t window)
{
	const struct mt_endpoint_events client = {.on_established = on_established, .user = w};
	const struct mt_endpoint_events server = {
		.on_stream = on_stream, .on_datagram = on_datagram, .user = w};
	struct mt_endpoint_limits limits = sim_limits();

	memset(w, 0, sizeof(*w));
	sim_init(&w->sim, 1, &client, &server);
	limits.max_stream_window = limits.max_conn_window = window;
	/* It takes what it gets, so only whose turn it is decides; BBR paces itself. */
	limits.congestion_control = MT_CC_CUBIC;
	mt_endpoint_set_limits(w->sim.client.ep, &limits);
	w->conn_count = conns;
	for (unsigned i = 0; i < conns; i++) {
		w->conns[i] = sim_connect(&w->sim);
	}
	assert_true(sim_run(&w->sim, all_established, w, 5 * SIM_S));
}

static void stop(struct world *w)
{
	for (unsigned i = 0; i < w->stream_count; i++) {
		mt_stream_release(w->streams[i], 0);
	}
	for (unsigned i = 0; i < w->sink_count; i++) {
		mt_stream_release(w->sinks[i], 0);
	}
	sim_deinit(&w->sim);
}

static unsigned open_stream(struct world *w, unsigned conn, bool endless)
{
	unsigned i = w->stream_count++;

	assert_true(i < STREAMS_MAX);
	w->endless[i] = endless;
	assert_int_equal(mt_conn_open_stream(w->conns[conn], &w->streams[i]), 0);
	if (endless) {
		mt_stream_set_handler(w->streams[i], &source, w);
		fill(w->streams[i], w);
	}
	return i;
}

static struct mt_quic_stream *inside(struct world *w, unsigned stream)
{
	return (struct mt_quic_stream *)w->streams[stream];
}

static uint64_t sent(struct world *w, unsigned stream)
{
	return inside(w, stream)->tx_sent;
}

/* That nobody got more than the others, but for one round's share. */
static void assert_equal_shares(struct world *w, unsigned first, unsigned count, unsigned rounds)
{
	uint64_t least = UINT64_MAX, most = 0, n;

	for (unsigned i = first; i < first + count; i++) {
		n = sent(w, i);
		least = n < least ? n : least;
		most = n > most ? n : most;
	}
	assert_true(least >= (uint64_t)rounds * ROUND);
	assert_true(most - least <= ROUND + 1500);
}

/* However little a connection may send at a time, its streams have the same share. */
static void test_endless_streams(void **state)
{
	static const uint64_t windows[] = {8000, 20000, 60000, 200000, 1000000};
	static const unsigned counts[] = {2, 3, 8, 50};
	struct world w;

	(void)state;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++) {
			start(&w, 1, windows[i]);
			for (unsigned k = 0; k < counts[j]; k++) {
				open_stream(&w, 0, true);
			}
			/* each of them for about 20 rounds */
			(void)sim_run(&w.sim, NULL, NULL,
				20ull * counts[j] * ROUND * 25 * SIM_MS / windows[i] + SIM_S);
			assert_equal_shares(&w, 0, counts[j], 15);
			stop(&w);
		}
	}
}

struct wait_for {
	struct world *w;
	unsigned stream;
};

static bool has_sent_all(void *user)
{
	struct wait_for *f = user;
	const struct mt_quic_stream *s = inside(f->w, f->stream);

	return s->tx_sent == s->tx_end;
}

/* What a small stream has to send goes before the bulk of any number of others. */
static void test_small_stream_goes_first(void **state)
{
	struct world w;
	struct wait_for f = {.w = &w};
	uint64_t before;

	(void)state;
	for (unsigned bulks = 1; bulks <= 64; bulks *= 4) {
		start(&w, 1, 100000);
		f.stream = open_stream(&w, 0, false);
		for (unsigned i = 0; i < bulks; i++) {
			open_stream(&w, 0, true);
		}
		(void)sim_run(&w.sim, NULL, NULL, 1 * SIM_S); /* they are not new any more */
		for (unsigned i = 0; i < 200; i++) {
			(void)sim_run(&w.sim, NULL, NULL, 7 * SIM_MS);
			before = w.conns[0]->info.bytes_sent;
			assert_int_equal(mt_stream_send(w.streams[f.stream], "0123456789", 10), 0);
			assert_true(sim_run(&w.sim, has_sent_all, &f, SIM_S));
			/* what went out with it is the batch that it was the beginning of */
			assert_true(w.conns[0]->info.bytes_sent - before <= 65536);
		}
		assert_true(sent(&w, 1) > 150000);
		stop(&w);
	}
}

/* Where the network is slow, a page does not wait long for the bulk of many. */
static void test_pages_on_a_slow_link(void **state)
{
	static uint8_t page[16384];
	struct world w;
	struct wait_for f = {.w = &w};
	uint64_t begin;

	(void)state;
	start(&w, 1, 32u << 20);
	w.sim.delay_ns = 20 * SIM_MS;
	w.sim.client.link.rate_bps = 20000000;
	w.sim.client.link.queue_bytes = 100000;
	f.stream = open_stream(&w, 0, false);
	for (unsigned i = 0; i < 32; i++) {
		open_stream(&w, 0, true);
	}
	(void)sim_run(&w.sim, NULL, NULL, 10 * SIM_S);
	for (unsigned i = 0; i < 10; i++) {
		(void)sim_run(&w.sim, NULL, NULL, (700 + 97 * i) * SIM_MS);
		begin = w.sim.now_ns;
		assert_int_equal(mt_stream_send(w.streams[f.stream], page, sizeof(page)), 0);
		assert_true(sim_run(&w.sim, has_sent_all, &f, 5 * SIM_S));
		assert_true(w.sim.now_ns - begin < 400 * SIM_MS);
	}
	stop(&w);
}

struct refill {
	struct world *w;
	unsigned first;
	unsigned count;
	size_t len;
};

static bool refill(void *user)
{
	static const uint8_t bytes[ROUND];
	struct refill *r = user;

	for (unsigned i = r->first; i < r->first + r->count; i++) {
		const struct mt_quic_stream *s = inside(r->w, i);

		if (s->tx_sent == s->tx_end) {
			assert_int_equal(mt_stream_send(r->w->streams[i], bytes, r->len), 0);
		}
	}
	return false;
}

/* Many small streams that always have something new do not starve a large one. */
static void test_new_bytes_do_not_starve_old_ones(void **state)
{
	static const size_t lengths[] = {100, 3000, 5000, ROUND};
	struct world w;
	struct refill r = {.w = &w, .first = 1, .count = 30};
	uint64_t most;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		start(&w, 1, 60000);
		open_stream(&w, 0, true);
		for (unsigned k = 0; k < r.count; k++) {
			open_stream(&w, 0, false);
		}
		r.len = lengths[i];
		(void)sim_run(&w.sim, refill, &r, 20 * SIM_S);
		most = 0;
		for (unsigned k = 1; k <= r.count; k++) {
			most = sent(&w, k) > most ? sent(&w, k) : most;
		}
		assert_true(most > 0 && sent(&w, 0) > 10 * ROUND);
		assert_true(sent(&w, 0) + 2 * ROUND >= most);
		stop(&w);
	}
}

static void flood_of_datagrams(struct world *w)
{
	static const uint8_t bytes[1000];

	while (mt_conn_datagram_room(w->conns[0]) > 0) {
		assert_int_equal(
			mt_conn_send_datagram(w->conns[0], bytes, sizeof(bytes), NULL, 0), 0);
	}
}

static bool flood(void *user)
{
	flood_of_datagrams(user);
	return false;
}

/* Datagrams and streams have half each while both have more to send, and all of it alone. */
static void test_datagrams_and_streams(void **state)
{
	struct world w;
	uint64_t streams, datagrams;

	(void)state;
	start(&w, 1, 8u << 20);
	w.sim.delay_ns = 50 * SIM_MS;
	w.sim.loss_permille = 10; /* keeps the congestion window small */
	for (unsigned i = 0; i < 3; i++) {
		open_stream(&w, 0, true);
	}
	(void)sim_run(&w.sim, flood, &w, 60 * SIM_S);
	streams = sent(&w, 0) + sent(&w, 1) + sent(&w, 2);
	datagrams = mt_counter_get(&w.sim.client.counters.datagrams_sent) * 1000;
	assert_true(streams > 1500000 && datagrams > 1500000);
	assert_in_range(datagrams * 1000 / (datagrams + streams), 400, 600);
	stop(&w);
}

/* A way out that takes one batch a millisecond. */
struct narrow {
	struct sim *sim;
	struct mt_tx wide;
	uint64_t taken_at_ms;
};

static uint8_t *reserve(void *user)
{
	struct narrow *n = user;

	return n->taken_at_ms == n->sim->now_ns / SIM_MS ? NULL : n->wide.reserve(n->wide.user);
}

static void commit(void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	struct narrow *n = user;

	n->taken_at_ms = n->sim->now_ns / SIM_MS;
	n->wide.commit(n->wide.user, path, ecn, len, segment);
}

/* Connections of an endpoint take turns: one with a hundred streams has the share of one with a
 * single stream. What is scarce here is the way out, as when a worker's socket is full. */
static void test_connections(void **state)
{
	uint64_t crowd = 0, single;
	struct narrow narrow = {0};
	struct world w;

	(void)state;
	start(&w, 2, 8u << 20);
	narrow = (struct narrow){.sim = &w.sim, .wide = w.sim.client.ep->cfg.tx};
	w.sim.client.ep->cfg.tx = (struct mt_tx){reserve, commit, &narrow};
	for (unsigned i = 0; i < 100; i++) {
		open_stream(&w, 0, true);
	}
	open_stream(&w, 1, true);
	(void)sim_run(&w.sim, NULL, NULL, 10 * SIM_S);
	for (unsigned i = 0; i < 100; i++) {
		crowd += sent(&w, i);
	}
	single = sent(&w, 100);
	assert_true(single > 100 * ROUND);
	assert_in_range(crowd * 1000 / (crowd + single), 470, 530);
	stop(&w);
}

static uint64_t much; /* bytes under way */
static bool is_more(void *user)
{
	const struct world *w = user;

	return w->conns[0]->tx_unacked > much;
}

/* What is under way on a short path stays little, and what a long one needs may be under way. */
static void test_short_paths_have_short_queues(void **state)
{
	struct world w;

	(void)state;
	much = 2u << 20;
	start(&w, 1, 8u << 20);
	w.sim.delay_ns = SIM_MS / 10;
	open_stream(&w, 0, true);
	assert_false(sim_run(&w.sim, is_more, &w, SIM_S));
	assert_true(sent(&w, 0) > 10u << 20);
	stop(&w);

	start(&w, 1, 8u << 20);
	w.sim.delay_ns = 50 * SIM_MS;
	open_stream(&w, 0, true);
	assert_true(sim_run(&w.sim, is_more, &w, 20 * SIM_S));
	stop(&w);
}

/* Less of a bulk transfer is under way while a stream of the endpoint exchanges little. */
static void test_short_paths_have_shorter_queues_for_others(void **state)
{
	struct world w;
	unsigned little;

	(void)state;
	much = 400u << 10;
	for (unsigned conn = 0; conn < 2; conn++) {
		start(&w, 2, 8u << 20);
		w.sim.delay_ns = SIM_MS / 10;
		open_stream(&w, 0, true);
		little = open_stream(&w, conn, false);
		(void)sim_run(&w.sim, NULL, NULL, SIM_S / 5);
		assert_true(sim_run(&w.sim, is_more, &w, SIM_S / 5));
		for (unsigned i = 0; i < 20; i++) {
			assert_int_equal(mt_stream_send(w.streams[little], "0123456789", 10), 0);
			(void)sim_run(&w.sim, NULL, NULL, 2 * SIM_MS);
			/* the first could be a request for something large */
			assert_false(i > 0 && sim_run(&w.sim, is_more, &w, 20 * SIM_MS));
		}
		assert_true(sim_run(&w.sim, is_more, &w, SIM_S / 5));
		stop(&w);
	}
}

static bool has_too_much_unsent(void *user)
{
	struct world *w = user;
	const struct mt_conn *c = w->conns[0];

	return c->slice > 0 && c->tx_unsent > MT_STREAM_UNSENT_MAX;
}

/* Starts `count` endless streams on a path so fast that they take turns to fill. */
static void start_fast(struct world *w, unsigned count)
{
	start(w, 1, 8u << 20);
	w->sim.delay_ns = SIM_MS / 10;
	for (unsigned i = 0; i < count; i++) {
		open_stream(w, 0, true);
	}
	(void)sim_run(&w->sim, NULL, NULL, SIM_S / 10);
	assert_true(w->conns[0]->slice > 0);
}

/* Where streams take turns they hold little together, and none gets more than another but for its
 * turn. */
static void test_turns_on_a_fast_path(void **state)
{
	static const unsigned counts[] = {1, 2, 8, 64};
	uint64_t before[64], least, most, n;
	struct world w;

	(void)state;
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		start_fast(&w, counts[k]);
		(void)sim_run(&w.sim, NULL, NULL, SIM_S / 20);
		for (unsigned i = 0; i < counts[k]; i++) {
			before[i] = sent(&w, i);
		}
		assert_false(sim_run(&w.sim, has_too_much_unsent, &w, SIM_S / 10));
		least = UINT64_MAX;
		most = 0;
		for (unsigned i = 0; i < counts[k]; i++) {
			n = sent(&w, i) - before[i];
			least = n < least ? n : least;
			most = n > most ? n : most;
		}
		assert_true(least > 0 && most - least <= 2 * TURN);
		stop(&w);
	}
}

/* One whose peer does not read, and one whose user has nothing more, keep no turn from others. */
static void test_turns_that_are_not_used(void **state)
{
	uint64_t before[8], total;
	struct world w;

	(void)state;
	start_fast(&w, 8);
	for (unsigned i = 0; i < 4; i++) {
		mt_stream_set_handler(w.sinks[i], NULL, NULL); /* nobody takes what comes */
	}
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 2);
	for (unsigned i = 4; i < 6; i++) {
		mt_stream_set_handler(w.streams[i], NULL, NULL); /* nobody fills */
	}
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 10);
	for (unsigned i = 0; i < 8; i++) {
		before[i] = sent(&w, i);
	}
	total = w.conns[0]->info.bytes_sent;
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 10);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(sent(&w, i) == before[i]);
	}
	assert_true(sent(&w, 6) - before[6] > 2 * TURN && sent(&w, 7) - before[7] > 2 * TURN);
	assert_true(w.conns[0]->info.bytes_sent - total > 10u << 20);
	/* What waits without credit goes on when it is read again. */
	for (unsigned i = 0; i < 4; i++) {
		mt_stream_set_handler(w.sinks[i], &sink, &w);
		drop(w.sinks[i], &w);
	}
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 5);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(sent(&w, i) - before[i] > TURN);
	}
	stop(&w);
}

/* A stream may end at any time, with all the room filled or its turn just come. */
static void test_turns_of_streams_that_end(void **state)
{
	uint64_t before;
	struct world w;

	(void)state;
	start_fast(&w, 60);
	for (unsigned i = 0; i < 59; i++) {
		(void)sim_run(&w.sim, NULL, NULL, (100 + 37 * i) * SIM_MS / 1000);
		if (i % 3 == 0) {
			mt_stream_reset(w.streams[i], 1);
		} else if (i % 3 == 1) {
			mt_stream_stop(w.sinks[i], 1);
		} else {
			mt_stream_release(w.streams[i], 1);
			w.streams[i] = w.streams[59];
		}
	}
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 20);
	before = sent(&w, 59);
	(void)sim_run(&w.sim, NULL, NULL, SIM_S / 20);
	assert_true(sent(&w, 59) - before > 10u << 20);
	assert_true(w.conns[0]->tx_unsent <= MT_STREAM_UNSENT_MAX);
	stop(&w);
}

/* What waited for its turn goes on when the path has become slow. */
static void test_turns_end_with_the_pace(void **state)
{
	uint64_t before[16];
	struct world w;

	(void)state;
	start_fast(&w, 16);
	w.sim.delay_ns = 50 * SIM_MS;
	(void)sim_run(&w.sim, NULL, NULL, 2 * SIM_S);
	assert_true(w.conns[0]->slice == 0 && TAILQ_EMPTY(&w.conns[0]->for_room));
	for (unsigned i = 0; i < 16; i++) {
		before[i] = sent(&w, i);
	}
	(void)sim_run(&w.sim, NULL, NULL, 5 * SIM_S);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(sent(&w, i) - before[i] > ROUND);
	}
	stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endless_streams),
		cmocka_unit_test(test_small_stream_goes_first),
		cmocka_unit_test(test_new_bytes_do_not_starve_old_ones),
		cmocka_unit_test(test_datagrams_and_streams),
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_pages_on_a_slow_link),
		cmocka_unit_test(test_short_paths_have_short_queues),
		cmocka_unit_test(test_short_paths_have_shorter_queues_for_others),
		cmocka_unit_test(test_turns_on_a_fast_path),
		cmocka_unit_test(test_turns_that_are_not_used),
		cmocka_unit_test(test_turns_of_streams_that_end),
		cmocka_unit_test(test_turns_end_with_the_pace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
