/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c
 * store/pki.c store/pki_check.c proto/quic/order.c proto/quic/room.c proto/quic/calm.c
 */
#include "proto/io/driver.h"

#include "proto/quic/identity.h"
#include "proto/quic/impl.h"
#include "proto/quic/mem.h"
#include "store/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MS        1000000ull
#define PAYLOAD   (8u << 20)
#define HALF_WAY  (2u << 20)
#define TURNS_MAX 1000000

/* Stands in front of the system calls: lets a socket be full, tells how much is read at once. */
static struct {
	int fd; /* whose calls fail; -1: none */
	unsigned refused;
	int read_fd;    /* which is looked at */
	unsigned asked; /* messages, at most */
} kernel;

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	if (fd == kernel.fd) {
		kernel.refused++;
		errno = EAGAIN;
		return -1;
	}
	return (int)syscall(SYS_sendmmsg, fd, msgs, count, flags);
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	if (fd == kernel.read_fd && count > kernel.asked) {
		kernel.asked = count;
	}
	return (int)syscall(SYS_recvmmsg, fd, msgs, count, flags, timeout);
}

struct node {
	uv_loop_t *loop;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_driver *driver;
	struct mt_udp_socket *socket;
	struct mt_stream *stream;
	size_t done; /* bytes of the pattern, written or read */
	struct mt_conn_end end;
	unsigned ends;
	bool fin;
};

struct world {
	uv_loop_t loop;
	struct node server;
	struct node client;
	struct mt_tls_server *tls_server;
	struct mt_tls_client *tls_client;
	struct mt_conn *conn;
};

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 13 + i / 257);
}

static void fill(struct mt_stream *s, void *user)
{
	struct node *n = user;
	struct iovec iov[8];
	size_t pieces;

	while (n->done < PAYLOAD && (pieces = mt_stream_reserve(s, iov, 8)) > 0) {
		size_t len = 0;

		for (size_t i = 0; i < pieces; i++) {
			for (size_t j = 0; j < iov[i].iov_len && n->done < PAYLOAD; j++, len++) {
				((uint8_t *)iov[i].iov_base)[j] = pattern(n->done++);
			}
		}
		mt_stream_commit(s, len);
	}
	if (n->done == PAYLOAD) {
		mt_stream_send_fin(s);
	}
}

static void verify(struct mt_stream *s, void *user)
{
	struct node *n = user;
	struct iovec iov[64];
	size_t pieces = mt_stream_peek(s, iov, 64);
	size_t len = 0;

	for (size_t i = 0; i < pieces; i++) {
		for (size_t j = 0; j < iov[i].iov_len; j++) {
			if (((uint8_t *)iov[i].iov_base)[j] != pattern(n->done++)) {
				fail_msg("byte %zu differs", n->done - 1);
			}
		}
		len += iov[i].iov_len;
	}
	mt_stream_consume(s, len);
	n->fin = mt_stream_fin_received(s) && mt_stream_readable(s) == 0;
	uv_stop(n->loop); /* the turn has got where the test waits for: it shall not sleep now */
}

static void release(struct mt_stream *s, int err, void *user)
{
	struct node *n = user;

	(void)err;
	mt_stream_release(s, 0);
	n->stream = NULL;
}

static const struct mt_stream_handler source = {.on_writable = fill, .on_end = release};
static const struct mt_stream_handler sink = {.on_readable = verify, .on_end = release};

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct node *n = user;

	(void)c;
	n->stream = s;
	mt_stream_set_handler(s, &source, n);
	fill(s, n);
}

static void on_established(void *user, struct mt_conn *c)
{
	struct node *n = user;

	assert_int_equal(mt_conn_open_stream(c, &n->stream), 0);
	mt_stream_set_handler(n->stream, &sink, n);
	assert_int_equal(mt_stream_send(n->stream, "x", 1), 0);
	mt_stream_send_fin(n->stream);
}

static void on_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct node *n = user;

	(void)c;
	n->end = *end;
	n->ends++;
	uv_stop(n->loop);
}

static void make_credentials(struct world *w)
{
	char *ca = NULL, *ca_key = NULL, *chain = NULL, *key = NULL;
	struct mt_tls_server_config server = {.require_identity = false};
	struct mt_tls_client_config client = {.host = "localhost", .pin_count = 1};
	struct mt_cert_info info;

	assert_int_equal(mt_pki_make_ca(&ca, &ca_key), 0);
	assert_int_equal(mt_pki_make_server(ca, ca_key, &chain, &key), 0);
	assert_int_equal(mt_pki_describe(chain, &info), 0);
	server.appliance_chain = chain;
	server.appliance_key = key;
	memcpy(client.pins[0], info.pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_server_new(&w->tls_server, &server), 0);
	assert_int_equal(mt_tls_client_new(&w->tls_client, &client), 0);
	free(ca);
	free(ca_key);
	free(chain);
	free(key);
}

static void open_socket(struct node *n, const char *text, bool connect_ok)
{
	const struct mt_udp_options options = {.connect_ok = connect_ok, .reuse_port = true};
	struct mt_addr bind_to;

	assert_int_equal(mt_addr_parse(&bind_to, text), 0);
	assert_int_equal(mt_driver_open_socket(n->driver, &bind_to, &options, &n->socket), 0);
}

static void open_node(struct world *w, struct node *n, struct mt_tls_server *tls)
{
	struct mt_endpoint_config config = {
		.counters = &n->counters,
		.events = {.on_stream = on_stream,
			.on_established = tls == NULL ? on_established : NULL,
			.on_end = on_end,
			.user = n},
		.limits = {.max_connections = 10,
			.max_streams = 10,
			.idle_timeout_ns = 500 * MS,
			.max_stream_window = 1u << 20,
			.max_conn_window = 2u << 20,
			.max_udp_payload = 1452},
		.worker_count = 1,
		.tls = tls,
	};

	n->loop = &w->loop;
	n->mem = mt_mem_new();
	assert_non_null(n->mem);
	config.mem = n->mem;
	assert_int_equal(mt_driver_new(&n->driver, &w->loop, &config), 0);
}

static void connect_client(struct world *w)
{
	struct mt_path path = {.local = w->client.socket->local,
		.remote = w->server.socket->local,
		.socket = w->client.socket};

	if (mt_addr_is_any(&path.remote)) {
		assert_int_equal(mt_addr_parse(&path.remote, "127.0.0.1:0"), 0);
		mt_addr_set_port(&path.remote, mt_addr_port(&w->server.socket->local));
	}
	assert_int_equal(mt_endpoint_connect(mt_driver_endpoint(w->client.driver), &path,
				 w->tls_client, mt_driver_now_ns(w->client.driver), &w->conn),
		0);
}

static int set_up(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));

	kernel.fd = kernel.read_fd = -1;
	kernel.refused = kernel.asked = 0;
	assert_int_equal(uv_loop_init(&w->loop), 0);
	make_credentials(w);
	open_node(w, &w->server, w->tls_server);
	open_node(w, &w->client, NULL);
	open_socket(&w->server, "0.0.0.0:0", false);
	open_socket(&w->client, "0.0.0.0:0", true);
	connect_client(w);
	*state = w;
	return 0;
}

static void close_node(struct node *n)
{
	if (n->stream != NULL) {
		mt_stream_release(n->stream, 0);
		n->stream = NULL;
	}
	mt_driver_free(n->driver);
	n->driver = NULL;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	kernel.fd = -1;
	close_node(&w->client);
	close_node(&w->server);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	assert_int_equal(mt_mem_used(w->client.mem), 0);
	assert_int_equal(mt_mem_used(w->server.mem), 0);
	mt_mem_free(w->client.mem);
	mt_mem_free(w->server.mem);
	mt_tls_server_unref(w->tls_server);
	mt_tls_client_unref(w->tls_client);
	test_free(w);
	return 0;
}

static void run_to(struct world *w, size_t bytes)
{
	for (unsigned i = 0; w->client.done < bytes; i++) {
		assert_true(i < TURNS_MAX && w->client.ends == 0);
		uv_run(&w->loop, UV_RUN_ONCE);
	}
}

static void run_to_fin(struct world *w)
{
	run_to(w, PAYLOAD);
	for (unsigned i = 0; !w->client.fin; i++) {
		assert_true(i < TURNS_MAX && w->client.ends == 0);
		uv_run(&w->loop, UV_RUN_ONCE);
	}
	assert_int_equal(w->client.done, PAYLOAD);
}

static void test_driver_transfer(void **state)
{
	struct world *w = *state;
	const struct mt_udp_tx_stats *stats = mt_driver_tx_stats(w->server.driver);

	run_to_fin(w);
	assert_true(w->server.socket->gso);
	assert_true(stats->messages < PAYLOAD / 1452 / 4); /* packets left in batches */
	assert_int_equal(stats->dropped, 0);
}

/* A new local address in the middle, the old socket closed at once, whatever still speaks of it. */
static void test_driver_migrates_to_another_socket(void **state)
{
	struct world *w = *state;
	struct mt_udp_socket *old = w->client.socket;

	run_to(w, HALF_WAY);
	open_socket(&w->client, "127.0.0.2:0", true);
	assert_int_equal(mt_conn_migrate(w->conn, &w->client.socket->local, w->client.socket,
				 mt_driver_now_ns(w->client.driver)),
		0);
	mt_driver_close_socket(w->client.driver, old);
	run_to_fin(w);
	assert_int_equal(mt_counter_get(&w->server.counters.migrations), 1);
}

/* Nothing is lost to a full socket, and waiting for it does not burn the CPU. */
static void test_driver_blocked_socket(void **state)
{
	struct world *w = *state;
	uint64_t begin_ns;
	unsigned turns = 0;

	run_to(w, HALF_WAY);
	/* UV_WRITABLE comes at once from a socket that is not really full, so turns are not
	 * counted against time here, only that the rest waits and then goes out.
	 */
	kernel.fd = w->server.socket->fd;
	begin_ns = mt_driver_now_ns(w->server.driver);
	while (mt_driver_now_ns(w->server.driver) - begin_ns < 50 * MS) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		turns++;
	}
	assert_true(turns > 0 && kernel.refused > 0);
	assert_true(w->server.socket->blocked);
	assert_true(w->client.done < PAYLOAD);
	kernel.fd = -1;
	run_to_fin(w);
	assert_false(w->server.socket->blocked);
	assert_true(mt_driver_tx_stats(w->server.driver)->blocked > 0);
	assert_int_equal(mt_driver_tx_stats(w->server.driver)->dropped, 0);
}

/* Who has a stream among many connections waits for a few packets of the others, not for a batch.
 */
static void test_driver_reads_few_among_many(void **state)
{
	struct world *w = *state;
	struct mt_endpoint *ep = mt_driver_endpoint(w->server.driver);

	kernel.read_fd = w->server.socket->fd;
	run_to(w, HALF_WAY);
	assert_int_equal(kernel.asked, MT_UDP_RX_MESSAGES);
	ep->count += 1000; /* as if they were there */
	kernel.asked = 0;
	run_to(w, 2 * HALF_WAY);
	assert_int_equal(kernel.asked, 4);
	ep->count -= 1000;
	run_to_fin(w);
	assert_int_equal(kernel.asked, MT_UDP_RX_MESSAGES);
}

/* The timer alone ends a connection whose peer has gone without a word, and an idle loop sleeps. */
static void test_driver_timer_ends_idle(void **state)
{
	struct world *w = *state;
	uint64_t begin_ns;
	unsigned turns = 0;

	run_to_fin(w);
	mt_driver_close_socket(w->server.driver, w->server.socket);
	begin_ns = mt_driver_now_ns(w->client.driver);
	while (w->client.ends == 0) {
		uv_run(&w->loop, UV_RUN_ONCE);
		assert_true(++turns < 200);
	}
	assert_int_equal(w->client.end.err, MT_E_TIMEOUT);
	assert_in_range(mt_driver_now_ns(w->client.driver) - begin_ns, 300 * MS, 3000 * MS);
}

/* A packet for us from another worker, whose socket means nothing here. */
static void test_driver_inject(void **state)
{
	struct world *w = *state;
	struct mt_path path = {.local = w->server.socket->local, .socket = &path};
	uint8_t packet[1200] = {0xc0, 0xba, 0xba, 0xba, 0xba, 8};
	uint64_t before;

	run_to_fin(w);
	assert_int_equal(mt_addr_parse(&path.local, "127.0.0.1:0"), 0);
	mt_addr_set_port(&path.local, mt_addr_port(&w->server.socket->local));
	path.remote = w->client.socket->local;
	assert_int_equal(mt_addr_parse(&path.remote, "127.0.0.1:0"), 0);
	mt_addr_set_port(&path.remote, mt_addr_port(&w->client.socket->local));
	before = mt_driver_tx_stats(w->server.driver)->messages;
	mt_driver_inject(w->server.driver, &path, 0, packet, sizeof(packet));
	uv_run(&w->loop, UV_RUN_NOWAIT);
	/* an unknown version is answered, by our own socket for that port */
	assert_int_equal(mt_counter_get(&w->server.counters.version_negotiations), 1);
	assert_true(mt_driver_tx_stats(w->server.driver)->messages > before);
	assert_int_equal(mt_driver_tx_stats(w->server.driver)->dropped, 0);
	mt_addr_set_port(&path.local, 1); /* a port that is not ours */
	mt_driver_inject(w->server.driver, &path, 0, packet, sizeof(packet));
	uv_run(&w->loop, UV_RUN_NOWAIT);
	assert_int_equal(mt_driver_tx_stats(w->server.driver)->dropped, 1);
}

/* The only socket is gone while the connection still wants to send by it. */
static void test_driver_close_socket_in_use(void **state)
{
	struct world *w = *state;

	run_to(w, HALF_WAY);
	mt_driver_close_socket(w->client.driver, w->client.socket);
	mt_conn_close(w->conn, 0, "a packet that cannot leave");
	while (w->client.ends == 0) {
		uv_run(&w->loop, UV_RUN_ONCE);
	}
	assert_int_equal(w->client.end.err, MT_E_CLOSED);
	assert_true(mt_driver_tx_stats(w->client.driver)->dropped > 0);
}

/* An address that is given up: what runs on it goes on, nobody new begins there. */
static void test_driver_retired_socket(void **state)
{
	struct world *w = *state;
	const struct mt_udp_socket *socket = w->server.socket;
	struct mt_path path = {.socket = w->server.socket};
	struct mt_conn *first = w->conn;
	uint64_t refused;

	run_to(w, HALF_WAY);
	path.local = socket->local;
	assert_int_equal(mt_addr_parse(&path.local, "127.0.0.1:0"), 0);
	mt_addr_set_port(&path.local, mt_addr_port(&socket->local));
	assert_false(mt_driver_needs_socket(w->server.driver, &path, socket));
	mt_driver_retire_socket(w->server.driver, w->server.socket, true);
	assert_true(mt_driver_needs_socket(w->server.driver, &path, socket));
	refused = mt_counter_get(&w->server.counters.connections_refused);
	connect_client(w);
	assert_ptr_not_equal(w->conn, first);
	while (w->client.ends == 0) {
		uv_run(&w->loop, UV_RUN_ONCE);
	}
	assert_true(w->client.end.by_peer);
	assert_string_equal(w->client.end.reason, "this address is served no longer");
	assert_int_equal(mt_counter_get(&w->server.counters.connections_refused), refused + 1);
	w->client.ends = 0;
	run_to_fin(w);
	mt_driver_retire_socket(w->server.driver, w->server.socket, false);
	assert_false(mt_driver_needs_socket(w->server.driver, &path, socket));
}

/* The same address by another socket: connections move to it without noticing. */
static void test_driver_successor(void **state)
{
	struct world *w = *state;
	struct mt_udp_socket *old = w->server.socket;
	struct mt_path path = {.socket = old};
	char text[MT_ADDR_TEXT_MAX];

	run_to(w, HALF_WAY);
	assert_int_equal(mt_addr_parse(&path.local, "127.0.0.1:0"), 0);
	mt_addr_set_port(&path.local, mt_addr_port(&old->local));
	open_socket(&w->server, mt_addr_format(&path.local, text, sizeof(text)), false);
	mt_driver_retire_socket(w->server.driver, old, true);
	assert_false(mt_driver_needs_socket(w->server.driver, &path, old));
	mt_driver_close_socket(w->server.driver, old);
	run_to_fin(w);
	assert_int_equal(mt_driver_tx_stats(w->server.driver)->dropped, 0);
}

static void test_driver_free_while_busy(void **state)
{
	struct world *w = *state;

	run_to(w, HALF_WAY); /* tear_down does the rest */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_driver_transfer),
		TEST(test_driver_migrates_to_another_socket),
		TEST(test_driver_blocked_socket),
		TEST(test_driver_reads_few_among_many),
		TEST(test_driver_timer_ends_idle),
		TEST(test_driver_inject),
		TEST(test_driver_close_socket_in_use),
		TEST(test_driver_retired_socket),
		TEST(test_driver_successor),
		TEST(test_driver_free_while_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
