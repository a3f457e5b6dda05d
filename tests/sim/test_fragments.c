/* links: tests/sim/sim.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/wire/extended.c
 * proto/wire/reassembly.c proto/wire/request.c proto/quic/order.c proto/quic/room.c
 * proto/quic/calm.c
 */
#include "proto/wire/reassembly.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define SESSIONS 3
#define PAYLOADS 120 /* of all sessions together */

/* A client that sends payloads in fragments, and a server that puts them together. */
struct world {
	struct sim sim;
	struct mt_conn *conn;
	bool established;
	struct mt_reassembly_pool pool;
	struct mt_reassembly reassembly;
	unsigned sent_fragments;
	unsigned got_fragments;
	unsigned arrived[PAYLOADS]; /* how often */
	unsigned wrong;
	uint8_t out[MT_UDP_PAYLOAD_MAX];
};

static size_t size_of(unsigned payload)
{
	static const size_t sizes[] = {1473, 4000, 60000, 2000, MT_UDP_PAYLOAD_MAX, 9000};

	return sizes[payload % (sizeof(sizes) / sizeof(sizes[0]))];
}

static uint8_t byte_of(unsigned payload, size_t at)
{
	return (uint8_t)(payload * 31 + at * 7 + (at >> 8));
}

/* The payload's number stands in its first byte's place in the pattern: the packet number says it.
 */
static void check(struct world *w, const struct mt_extended *h, size_t len)
{
	unsigned payload = h->packet * SESSIONS + h->session;

	if (payload >= PAYLOADS || len != size_of(payload)) {
		w->wrong++;
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (w->out[i] != byte_of(payload, i)) {
			w->wrong++;
			return;
		}
	}
	w->arrived[payload]++;
}

static void on_server_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct world *w = user;
	struct mt_extended h;
	size_t whole = 0;

	(void)c;
	assert_int_equal(mt_extended_decode(&h, data, len), 0);
	w->got_fragments++;
	if (mt_reassembly_add(&w->reassembly, &h, w->sim.now_ns / SIM_MS, w->out, &whole) == 0) {
		check(w, &h, whole);
	}
	assert_true(w->reassembly.bytes <= MT_REASSEMBLY_BYTES);
	assert_true(w->reassembly.count <= MT_REASSEMBLY_PACKETS);
}

static void on_established(void *user, struct mt_conn *c)
{
	(void)c;
	((struct world *)user)->established = true;
}

static bool is_established(void *user)
{
	return ((struct world *)user)->established;
}

static bool has_room(void *user)
{
	return mt_conn_datagram_room(((struct world *)user)->conn) == MT_DATAGRAMS_OUT_MAX;
}

static struct world *start(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct mt_endpoint_events client = {.on_established = on_established, .user = w};
	const struct mt_endpoint_events server = {.on_datagram = on_server_datagram, .user = w};
	struct mt_allocator mem;

	assert_non_null(w);
	sim_init(&w->sim, seed, &client, &server);
	mem = mt_mem_allocator(w->sim.server.mem);
	mt_reassembly_pool_init(&w->pool, &mem);
	mt_reassembly_init(&w->reassembly, &w->pool);
	w->conn = sim_connect(&w->sim);
	assert_true(sim_run(&w->sim, is_established, w, 10 * SIM_S));
	return w;
}

static void end(struct world *w)
{
	mt_reassembly_clear(&w->reassembly);
	assert_int_equal(w->pool.bytes, 0);
	sim_deinit(&w->sim);
	free(w);
}

static void send_payload(struct world *w, unsigned payload)
{
	static uint8_t data[MT_UDP_PAYLOAD_MAX];
	struct mt_extended h = {.session = payload % SESSIONS,
		.packet = (uint16_t)(payload / SESSIONS),
		.datagram = {.port = 53, .host = "a.example", .host_len = 9}};
	uint8_t head[MT_EXTENDED_HEADER_MAX];
	size_t len = size_of(payload), head_len;
	struct mt_cut cut;

	for (size_t i = 0; i < len; i++) {
		data[i] = byte_of(payload, i);
	}
	assert_true(mt_cut_plan(&cut, len, mt_conn_datagram_max(w->conn),
		MT_EXTENDED_PREFIX + 3u + h.datagram.host_len));
	assert_in_range(cut.count, 2, MT_DATAGRAMS_OUT_MAX);
	h.count = cut.count;
	for (unsigned i = 0; i < cut.count; i++) {
		size_t from = i * cut.piece;

		h.fragment = (uint8_t)i;
		head_len = mt_extended_header_encode(head, sizeof(head), &h);
		assert_int_equal(mt_conn_send_datagram(w->conn, head, head_len, data + from,
					 len - from < cut.piece ? len - from : cut.piece),
			0);
		w->sent_fragments++;
	}
}

/* Sends all payloads, each as soon as the queue has room; returns how many arrived. */
static unsigned send_all(struct world *w)
{
	unsigned arrived = 0;

	for (unsigned i = 0; i < PAYLOADS; i++) {
		assert_true(sim_run(&w->sim, has_room, w, 60 * SIM_S));
		send_payload(w, i);
	}
	(void)sim_run(&w->sim, NULL, NULL, 2 * SIM_S);
	for (unsigned i = 0; i < PAYLOADS; i++) {
		assert_true(w->arrived[i] <= 1);
		arrived += w->arrived[i];
	}
	assert_int_equal(w->wrong, 0);
	return arrived;
}

/* Without loss every payload arrives once, in whatever order its fragments come. */
static void test_fragments_reordered_and_duplicated(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct world *w = start(seed);

		/* Much more, and QUIC takes the last ones for packets that it has had. */
		w->sim.jitter_ns = seed * SIM_MS;
		w->sim.duplicate_permille = seed % 2 ? 200 : 0;
		assert_int_equal(send_all(w), PAYLOADS);
		assert_int_equal(w->got_fragments, w->sent_fragments);
		assert_int_equal(w->reassembly.count, 0);
		end(w);
	}
}

/* With loss a payload arrives whole or not at all, and what is left of it goes after its time. */
static void test_fragments_lost(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct world *w = start(seed);
		unsigned arrived;

		w->sim.loss_permille = 20;
		w->sim.jitter_ns = 10 * SIM_MS;
		w->sim.duplicate_permille = 50;
		arrived = send_all(w);
		assert_in_range(arrived, PAYLOADS / 4, PAYLOADS - 1);
		assert_true(w->got_fragments < w->sent_fragments);
		mt_reassembly_expire(&w->reassembly, w->sim.now_ns / SIM_MS + MT_REASSEMBLY_MS);
		assert_int_equal(w->pool.bytes, 0);
		assert_in_range(
			w->pool.dropped[MT_REASSEMBLY_LATE] + w->pool.dropped[MT_REASSEMBLY_FULL],
			1, PAYLOADS - arrived);
		end(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fragments_reordered_and_duplicated),
		cmocka_unit_test(test_fragments_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
