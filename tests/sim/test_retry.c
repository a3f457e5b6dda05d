/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
#include "proto/quic/impl.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define PACKETS_MAX 8

/* An endpoint whose packets the test carries itself. */
struct loose {
	struct mt_endpoint *ep;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_addr addr;
	uint8_t room[MT_TX_BATCH_BYTES];
	uint8_t packets[PACKETS_MAX][1500];
	size_t lens[PACKETS_MAX];
	size_t count;
};

struct fixture {
	struct sim sim; /* for the credentials only */
	struct loose server;
	struct loose client;
	struct mt_conn *conn; /* client */
	struct mt_conn_end end;
	bool ended;
	uint64_t now_ns;
};

static uint8_t *catch_reserve(void *user)
{
	return ((struct loose *)user)->room;
}

static void catch_commit(
	void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	struct loose *l = user;
	size_t n;

	(void)path, (void)ecn;
	for (size_t off = 0; off < len; off += n) {
		n = len - off < segment ? len - off : segment;
		assert_true(l->count < PACKETS_MAX && n <= sizeof(l->packets[0]));
		memcpy(l->packets[l->count], l->room + off, n);
		l->lens[l->count++] = n;
	}
}

static void on_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct fixture *f = user;

	(void)c;
	f->ended = true;
	f->end = *end;
	f->conn = NULL;
}

static void start(struct loose *l, struct fixture *f, struct mt_tls_server *tls, const char *addr)
{
	struct mt_endpoint_config cfg = {
		.counters = &l->counters,
		.events = {.on_end = on_end, .user = f},
		.limits = sim_limits(),
		.tx = {.reserve = catch_reserve, .commit = catch_commit, .user = l},
		.worker_count = 1,
		.tls = tls,
	};

	l->mem = cfg.mem = mt_mem_new();
	assert_non_null(l->mem);
	memset(cfg.secret, 7, sizeof(cfg.secret));
	assert_int_equal(mt_addr_parse(&l->addr, addr), 0);
	assert_int_equal(mt_endpoint_new(&l->ep, &cfg), 0);
}

static void stop(struct loose *l)
{
	mt_endpoint_free(l->ep);
	assert_int_equal(mt_mem_used(l->mem), 0);
	mt_mem_free(l->mem);
}

static struct fixture *set_up(void)
{
	static struct fixture f;
	static const struct mt_endpoint_events none;

	memset(&f, 0, sizeof(f));
	sim_init(&f.sim, 1, &none, &none);
	f.now_ns = 1000 * SIM_S;
	start(&f.server, &f, f.sim.tls_server, "198.51.100.1:443");
	start(&f.client, &f, NULL, "192.0.2.1:5000");
	return &f;
}

static void tear_down(struct fixture *f)
{
	stop(&f->client);
	stop(&f->server);
	sim_deinit(&f->sim);
}

static void connect_client(struct fixture *f)
{
	struct mt_path path = {.local = f->client.addr, .remote = f->server.addr, .socket = f};

	assert_int_equal(
		mt_endpoint_connect(f->client.ep, &path, f->sim.tls_client, f->now_ns, &f->conn),
		0);
}

static void flush(struct fixture *f, struct loose *l)
{
	l->count = 0;
	mt_endpoint_expire(l->ep, f->now_ns);
	assert_true(mt_endpoint_flush(l->ep, f->now_ns));
}

/* Hands a packet to the server as if it came from `from`; its answers are in f->server.packets. */
static void to_server(struct fixture *f, const struct mt_addr *from, const uint8_t *p, size_t len)
{
	struct mt_path path = {.local = f->server.addr, .remote = *from, .socket = f};

	f->server.count = 0;
	mt_endpoint_receive(f->server.ep, &path, 0, p, len, 0, f->now_ns);
	mt_endpoint_expire(f->server.ep, f->now_ns); /* what waits for the next turn */
}

static void to_client(struct fixture *f, const uint8_t *p, size_t len)
{
	struct mt_path path = {.local = f->client.addr, .remote = f->server.addr, .socket = f};

	mt_endpoint_receive(f->client.ep, &path, 0, p, len, 0, f->now_ns);
}

static bool is_retry(const uint8_t *packet)
{
	return (packet[0] & 0xf0) == 0xf0;
}

/* Gets the client a token. Its Initial with the token is then in f->client.packets[0]. */
static void fetch_token(struct fixture *f)
{
	size_t half_open = f->server.ep->half_open;

	connect_client(f);
	flush(f, &f->client);
	f->server.ep->half_open = MT_HALF_OPEN_RETRY;
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	f->server.ep->half_open = half_open;
	assert_int_equal(f->server.count, 1);
	assert_true(is_retry(f->server.packets[0]));
	to_client(f, f->server.packets[0], f->server.lens[0]);
	flush(f, &f->client);
	assert_int_equal(f->client.count, 1);
}

/* The last packet was answered by a small INVALID_TOKEN, and nothing was kept of it. */
static void check_refused(struct fixture *f, uint64_t count)
{
	assert_int_equal(mt_counter_get(&f->server.counters.tokens_invalid), count);
	assert_int_equal(mt_endpoint_count(f->server.ep), 0);
	assert_int_equal(mt_cid_count(f->server.ep->cids), 0);
	assert_int_equal(mt_mem_used(f->server.mem), 0);
	assert_int_equal(f->server.count, 1);
	assert_false(is_retry(f->server.packets[0]));
	assert_true(f->server.lens[0] < 100);
}

static void test_good_token(void **state)
{
	struct fixture *f = set_up();

	(void)state;
	fetch_token(f);
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	assert_int_equal(mt_endpoint_count(f->server.ep), 1);
	assert_int_equal(mt_counter_get(&f->server.counters.tokens_invalid), 0);
	tear_down(f);
}

/* The key of the hour before is still good. */
static void test_token_across_the_hour(void **state)
{
	struct fixture *f = set_up();

	(void)state;
	f->now_ns = 2 * 3600 * SIM_S - 1;
	fetch_token(f);
	f->now_ns += 2;
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	assert_int_equal(mt_endpoint_count(f->server.ep), 1);
	tear_down(f);
}

static void test_forged_token(void **state)
{
	struct fixture *f = set_up();
	ngtcp2_pkt_hd hd;
	size_t at;

	(void)state;
	fetch_token(f);
	assert_true(ngtcp2_pkt_decode_hd_long(&hd, f->client.packets[0], f->client.lens[0]) > 0);
	assert_true(hd.tokenlen > 2);
	at = (size_t)(hd.token - f->client.packets[0]);
	for (size_t i = 1; i < hd.tokenlen; i++) {
		f->now_ns += 1 * SIM_MS; /* within the cap on answers */
		f->client.packets[0][at + i] ^= 0x10;
		to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
		f->client.packets[0][at + i] ^= 0x10;
		check_refused(f, i);
	}
	/* The client understands the answer. */
	to_client(f, f->server.packets[0], f->server.lens[0]);
	mt_endpoint_dispatch(f->client.ep, f->now_ns);
	assert_true(f->ended && f->end.by_peer && !f->end.is_app);
	assert_int_equal(f->end.code, NGTCP2_INVALID_TOKEN);
	tear_down(f);
}

/* With many handshakes under way others begin one after the other; what has no good token does not
 * count as one that did.
 */
static void test_forged_token_takes_nobodys_turn(void **state)
{
	const size_t under_way = MT_HALF_OPEN_MAX / 2;
	struct fixture *f = set_up();
	uint8_t *middle;

	(void)state;
	fetch_token(f);
	f->server.ep->half_open = under_way;
	middle = f->client.packets[0] + 60;
	*middle ^= 0x10;
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	*middle ^= 0x10;
	check_refused(f, 1);
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	assert_int_equal(mt_endpoint_count(f->server.ep), 1);
	assert_int_equal(f->server.ep->begun_ns, f->now_ns);
	f->server.ep->half_open -= under_way;
	tear_down(f);
}

/* What has no good token waits among those who have none. */
static void test_forged_token_takes_nobodys_place(void **state)
{
	struct fixture *f = set_up();
	struct mt_path path = {.local = f->server.addr, .remote = f->client.addr, .socket = f};
	struct mt_endpoint *ep = f->server.ep;
	ngtcp2_pkt_hd hd;
	uint8_t packet[1500];
	size_t at;

	(void)state;
	fetch_token(f);
	memcpy(packet, f->client.packets[0], f->client.lens[0]);
	assert_true(ngtcp2_pkt_decode_hd_long(&hd, packet, f->client.lens[0]) > 0);
	at = (size_t)(hd.token - packet);
	for (unsigned i = 0; i < MT_DEFERRED_PROVEN_MAX; i++) {
		memcpy(packet + 6, &i, sizeof(i)); /* another id each */
		packet[at + 10] = (uint8_t)i;
		mt_endpoint_receive(ep, &path, 0, packet, f->client.lens[0], 0, f->now_ns);
		f->now_ns += 1 * SIM_MS;
	}
	assert_int_equal(ep->deferred[MT_DEFERRED_PROVEN].count, 0);
	mt_endpoint_receive(ep, &path, 0, f->client.packets[0], f->client.lens[0], 0, f->now_ns);
	assert_int_equal(ep->deferred[MT_DEFERRED_PROVEN].count, 1);
	mt_endpoint_drop_deferred(ep);
	tear_down(f);
}

static void test_token_of_somebody_else(void **state)
{
	struct fixture *f = set_up();
	struct mt_addr other = f->client.addr;

	(void)state;
	fetch_token(f);
	assert_int_equal(mt_addr_parse(&other, "192.0.2.2:5000"), 0);
	to_server(f, &other, f->client.packets[0], f->client.lens[0]);
	check_refused(f, 1);
	tear_down(f);
}

static void test_expired_token(void **state)
{
	struct fixture *f = set_up();

	(void)state;
	fetch_token(f);
	f->now_ns += 11 * SIM_S;
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	check_refused(f, 1);
	/* Two hours on its key is gone as well. */
	f->now_ns += 2 * 3600 * SIM_S;
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	check_refused(f, 2);
	tear_down(f);
}

/* Cheap junk, which is answered by stateless resets as far as their cap goes, must not use up what
 * honest clients need.
 */
static void test_junk_does_not_silence_retry(void **state)
{
	struct fixture *f = set_up();
	uint8_t junk[60];

	(void)state;
	memset(junk, 0x41, sizeof(junk));
	for (unsigned i = 0; i < 5000; i++) {
		to_server(f, &f->client.addr, junk, sizeof(junk));
	}
	assert_int_equal(f->server.count, 0); /* their cap is reached */
	fetch_token(f);
	tear_down(f);
}

/* A key share so large that the client's hello needs two packets, which it has then sent. */
static void greet_at_length(struct fixture *f)
{
	static const char large[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-FFDHE8192:"
				    "+GROUP-X25519:%DISABLE_TLS13_COMPAT_MODE";

	connect_client(f);
	assert_int_equal(gnutls_priority_set_direct(f->conn->tls.session, large, NULL), 0);
	flush(f, &f->client);
	assert_int_equal(f->client.count, 2);
}

/* Hands one of its packets to the server, before the server's turn. */
static void wait_at_server(struct fixture *f, size_t i)
{
	struct mt_path path = {.local = f->server.addr, .remote = f->client.addr, .socket = f};

	mt_endpoint_receive(
		f->server.ep, &path, 0, f->client.packets[i], f->client.lens[i], 0, f->now_ns);
}

/* A ClientHello of two packets whose first one is lost: the address is validated before anything is
 * kept, and the client gets in.
 */
static void test_client_hello_in_two_packets(void **state)
{
	struct fixture *f = set_up();

	(void)state;
	greet_at_length(f);
	to_server(f, &f->client.addr, f->client.packets[1], f->client.lens[1]);
	assert_int_equal(f->server.count, 1);
	assert_true(is_retry(f->server.packets[0]));
	assert_int_equal(f->server.ep->half_open, 0);
	mt_endpoint_dispatch(f->server.ep, f->now_ns);
	assert_int_equal(mt_endpoint_count(f->server.ep), 0);
	assert_int_equal(mt_cid_count(f->server.ep->cids), 0);
	/* With the token the order does not matter any more. */
	to_client(f, f->server.packets[0], f->server.lens[0]);
	flush(f, &f->client);
	assert_int_equal(f->client.count, 2);
	to_server(f, &f->client.addr, f->client.packets[1], f->client.lens[1]);
	to_server(f, &f->client.addr, f->client.packets[0], f->client.lens[0]);
	assert_int_equal(mt_endpoint_count(f->server.ep), 1);
	for (unsigned i = 0; i < 20 && f->server.ep->half_open > 0; i++) {
		flush(f, &f->server);
		for (size_t j = 0; j < f->server.count; j++) {
			to_client(f, f->server.packets[j], f->server.lens[j]);
		}
		flush(f, &f->client);
		for (size_t j = 0; j < f->client.count; j++) {
			to_server(f, &f->client.addr, f->client.packets[j], f->client.lens[j]);
		}
		f->now_ns += 10 * SIM_MS;
	}
	assert_int_equal(mt_counter_get(&f->server.counters.connections_active), 1);
	assert_int_equal(mt_counter_get(&f->server.counters.protocol_errors), 0);
	tear_down(f);
}

/* Both come in one batch, and wait for the same turn: the second is not the first sent again. What
 * is beyond them, or the same once more, is not kept.
 */
static void test_client_hello_in_one_batch(void **state)
{
	struct fixture *f = set_up();
	size_t before;

	(void)state;
	greet_at_length(f);
	before = mt_mem_used(f->server.mem);
	wait_at_server(f, 0);
	wait_at_server(f, 0);
	assert_true(mt_mem_used(f->server.mem) - before < 2000);
	for (unsigned i = 0; i < 10; i++) {
		wait_at_server(f, 1);
	}
	assert_true(mt_mem_used(f->server.mem) - before < 4000);
	assert_int_equal(mt_endpoint_waiting(f->server.ep), 1);
	flush(f, &f->server);
	assert_int_equal(mt_endpoint_count(f->server.ep), 1);
	/* More than one of them holds: it has all been read. */
	assert_true(TAILQ_FIRST(&f->server.ep->all)->crypto_bytes > NGTCP2_MAX_UDP_PAYLOAD_SIZE);
	tear_down(f);
}

/* Who is told to come again with a token is told so once. */
static void test_client_hello_in_one_batch_put_off(void **state)
{
	struct fixture *f = set_up();

	(void)state;
	greet_at_length(f);
	f->server.ep->half_open = MT_HALF_OPEN_RETRY;
	wait_at_server(f, 0);
	wait_at_server(f, 1);
	flush(f, &f->server);
	f->server.ep->half_open = 0;
	assert_int_equal(f->server.count, 1);
	assert_true(is_retry(f->server.packets[0]));
	assert_false(mt_endpoint_is_deferring(f->server.ep));
	assert_int_equal(mt_mem_used(f->server.mem), 0);
	tear_down(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_token),
		cmocka_unit_test(test_token_across_the_hour),
		cmocka_unit_test(test_forged_token),
		cmocka_unit_test(test_forged_token_takes_nobodys_turn),
		cmocka_unit_test(test_forged_token_takes_nobodys_place),
		cmocka_unit_test(test_token_of_somebody_else),
		cmocka_unit_test(test_expired_token),
		cmocka_unit_test(test_junk_does_not_silence_retry),
		cmocka_unit_test(test_client_hello_in_two_packets),
		cmocka_unit_test(test_client_hello_in_one_batch),
		cmocka_unit_test(test_client_hello_in_one_batch_put_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
