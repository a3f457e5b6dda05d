/* links: client/tls_pool.c client/tls_dial.c client/resolve.c client/reason.c
 * proto/io/tls_stream.c proto/io/tls_stream_calls.c proto/io/tls_loop.c
 * proto/io/tls_socket.c proto/io/ktls.c proto/io/poller.c proto/quic/stream_kind.c
 * proto/quic/mem.c proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c
 * proto/wire/encode.c proto/wire/err.c proto/wire/addr.c proto/wire/request.c proto/wire/bytes.c
 * store/pki.c tests/unit/cert_maker.c tests/unit/tls_pair.c
 */
#include "client/tls_pool.h"

#include "proto/io/tls_stream.h"
#include "tests/unit/tls_pair.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS_MAX  200000
#define ACCEPT_MAX 64

struct world {
	const struct pair_fixture *f;
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_tls_server *server;
	struct mt_tls_client *client;
	struct mt_tls_loop *accepted; /* the server's side */
	struct mt_tls_pool *pool;
	uv_poll_t listening;
	int listener;
	uint16_t port;
	struct mt_stream *streams[ACCEPT_MAX];
	size_t accepts;
	int refusal;

	unsigned ready;
	unsigned failures;
	unsigned words;
	struct mt_reason reason;
};

static void on_ready(void *user)
{
	((struct world *)user)->ready++;
}

static void on_failed(const struct mt_reason *reason, void *user)
{
	struct world *w = user;

	w->failures++;
	w->reason = *reason;
}

static void on_word(const struct mt_reason *reason, void *user)
{
	struct world *w = user;

	w->words++;
	w->reason = *reason;
}

static int on_authorize(void *user, const uint8_t *fingerprint)
{
	struct world *w = user;

	(void)fingerprint;
	return w->refusal;
}

static void on_server_failed(const struct mt_tls_socket *socket, void *user)
{
	struct world *w = user;

	for (size_t i = 0; i < w->accepts; i++) {
		if (w->streams[i] != NULL && mt_tls_stream_socket(w->streams[i]) == socket) {
			w->streams[i] = NULL;
		}
	}
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct world *w = poll->data;
	struct mt_tls_stream_events mine = {.on_failed = on_server_failed, .user = w};
	int fd;

	assert_int_equal(status, 0);
	(void)events;
	while ((fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		assert_true(w->accepts < ACCEPT_MAX);
		assert_int_equal(mt_tls_stream_accept(&w->streams[w->accepts], w->accepted, fd,
					 w->server, on_authorize, &mine),
			0);
		w->accepts++;
	}
}

static void open_listener(struct world *w)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(w->listener, ACCEPT_MAX), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&addr, &len), 0);
	w->port = ntohs(addr.sin_port);
	assert_int_equal(uv_poll_init(&w->loop, &w->listening, w->listener), 0);
	w->listening.data = w;
	assert_int_equal(uv_poll_start(&w->listening, UV_READABLE, on_connection), 0);
}

static void open_pool(struct world *w, const char *host)
{
	struct mt_tls_pool_config config = {
		.loop = &w->loop,
		.poller = w->poller,
		.mem = w->mem,
		.tls = w->client,
		.host = host,
		.port = w->port,
		.on_ready = on_ready,
		.on_failed = on_failed,
		.on_word = on_word,
		.user = w,
	};

	assert_int_equal(mt_tls_pool_new(&w->pool, &config), 0);
}

static void world_open(struct world *w, void **state)
{
	memset(w, 0, sizeof(*w));
	w->f = *state;
	assert_int_equal(uv_loop_init(&w->loop), 0);
	w->mem = mt_mem_new();
	assert_int_equal(mt_poller_new(&w->poller, &w->loop), 0);
	assert_int_equal(mt_tls_loop_new(&w->accepted, &w->loop, w->poller, w->mem), 0);
	w->server = pair_make_server(w->f, true);
	w->client = pair_make_client(w->f, true);
	open_listener(w);
}

static void world_close(struct world *w)
{
	for (size_t i = 0; i < w->accepts; i++) {
		if (w->streams[i] != NULL) {
			mt_stream_release(w->streams[i], 0);
		}
	}
	mt_tls_pool_free(w->pool);
	mt_tls_loop_free(w->accepted);
	mt_poller_free(w->poller);
	uv_close((uv_handle_t *)&w->listening, NULL);
	assert_int_equal(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	(void)close(w->listener);
	mt_mem_free(w->mem);
	mt_tls_server_unref(w->server);
	mt_tls_client_unref(w->client);
}

/* Runs the loop until `*count` is as large. */
static void until(struct world *w, const unsigned *count, unsigned wanted)
{
	for (unsigned turns = 0; *count < wanted; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
}

static void until_size(struct world *w, const size_t *count, size_t wanted)
{
	for (unsigned turns = 0; *count < wanted; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
}

static void test_want_and_take(void **state)
{
	struct world w;
	struct mt_stream *first;
	struct mt_stream *second;
	struct iovec iov;

	world_open(&w, state);
	open_pool(&w, "127.0.0.1");
	assert_null(mt_tls_pool_take(w.pool));
	mt_tls_pool_want(w.pool, 2);
	mt_tls_pool_want(w.pool, 2); /* the same two */
	until(&w, &w.ready, 2);
	assert_int_equal(w.accepts, 2);
	assert_int_equal(mt_addr_port(mt_tls_pool_remote(w.pool)), w.port);
	first = mt_tls_pool_take(w.pool);
	second = mt_tls_pool_take(w.pool);
	assert_non_null(first);
	assert_non_null(second);
	assert_null(mt_tls_pool_take(w.pool));
	/* It carries bytes. */
	assert_int_equal(mt_stream_send(first, "hello", 5), 0);
	for (unsigned turns = 0;
		mt_stream_readable(w.streams[0]) + mt_stream_readable(w.streams[1]) < 5; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	assert_int_equal(
		mt_stream_peek(mt_stream_readable(w.streams[0]) == 5 ? w.streams[0] : w.streams[1],
			&iov, 1),
		1);
	assert_memory_equal(iov.iov_base, "hello", 5);
	mt_stream_release(first, 0);
	mt_stream_release(second, 0);
	world_close(&w);
}

static void test_want_is_bounded(void **state)
{
	struct world w;

	world_open(&w, state);
	open_pool(&w, "127.0.0.1");
	mt_tls_pool_want(w.pool, 1000);
	until(&w, &w.ready, MT_TLS_DIALS_MAX);
	mt_tls_pool_want(w.pool, 1000);
	until(&w, &w.ready, MT_TLS_READY_MAX);
	mt_tls_pool_want(w.pool, 1000);
	(void)uv_run(&w.loop, UV_RUN_NOWAIT);
	assert_int_equal(w.accepts, MT_TLS_READY_MAX);
	world_close(&w);
}

static void test_a_name_is_resolved(void **state)
{
	struct addrinfo *found = NULL;
	struct world w;
	struct mt_stream *s;

	/* A bare system, without /etc/hosts, does not know it. */
	if (getaddrinfo("localhost", NULL, NULL, &found) != 0) {
		skip();
	}
	freeaddrinfo(found);
	world_open(&w, state);
	open_pool(&w, "localhost"); /* perhaps ::1 first, where nobody listens */
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.ready, 1);
	s = mt_tls_pool_take(w.pool);
	assert_non_null(s);
	mt_stream_release(s, 0);
	world_close(&w);
}

static void test_nobody_listens(void **state)
{
	struct world w;

	world_open(&w, state);
	open_pool(&w, "127.0.0.1");
	assert_int_equal(uv_poll_stop(&w.listening), 0);
	assert_int_equal(shutdown(w.listener, SHUT_RDWR), 0);
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.failures, 1);
	assert_false(w.reason.permanent);
	assert_non_null(strstr(w.reason.text, "over TCP"));
	assert_null(mt_tls_pool_take(w.pool));
	/* It may be asked again. */
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.failures, 2);
	world_close(&w);
}

static void test_wrong_pin(void **state)
{
	struct world w;
	struct mt_tls_client_config config = {.has_key = true, .host = "x", .pin_count = 1};

	world_open(&w, state);
	mt_tls_client_unref(w.client);
	memcpy(config.key, w.f->client_key, sizeof(config.key));
	assert_int_equal(mt_tls_client_new(&w.client, &config), 0);
	open_pool(&w, "127.0.0.1");
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.failures, 1);
	assert_true(w.reason.permanent);
	assert_non_null(strstr(w.reason.text, "pin"));
	world_close(&w);
}

/* The server judges the client when the client's handshake is over already. */
static void test_refused_identity(void **state)
{
	struct world w;

	world_open(&w, state);
	w.refusal = GNUTLS_A_CERTIFICATE_REVOKED;
	open_pool(&w, "127.0.0.1");
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.words, 1);
	assert_true(w.reason.permanent);
	assert_non_null(strstr(w.reason.text, "revoked"));
	assert_null(mt_tls_pool_take(w.pool));
	world_close(&w);
}

static void test_server_ends_a_ready_one(void **state)
{
	struct world w;

	world_open(&w, state);
	open_pool(&w, "127.0.0.1");
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.ready, 1);
	until_size(&w, &w.accepts, 1);
	mt_stream_release(w.streams[0], 0);
	w.streams[0] = NULL;
	/* It is replaced once it has been noticed. */
	for (unsigned turns = 0; w.accepts < 2; turns++) {
		assert_true(turns < TURNS_MAX);
		mt_tls_pool_want(w.pool, 1);
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	until(&w, &w.ready, 2);
	world_close(&w);
}

static void test_clear(void **state)
{
	struct world w;

	world_open(&w, state);
	open_pool(&w, "127.0.0.1");
	mt_tls_pool_want(w.pool, 1);
	until(&w, &w.ready, 1);
	mt_tls_pool_clear(w.pool);
	assert_null(mt_tls_pool_take(w.pool));
	for (unsigned turns = 0; w.streams[0] != NULL && !mt_stream_is_detached(w.streams[0]);
		turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	/* Also what is under way. */
	mt_tls_pool_want(w.pool, 4);
	mt_tls_pool_clear(w.pool);
	(void)uv_run(&w.loop, UV_RUN_NOWAIT);
	assert_int_equal(w.ready, 1);
	assert_int_equal(w.failures, 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_want_and_take),
		cmocka_unit_test(test_want_is_bounded),
		cmocka_unit_test(test_a_name_is_resolved),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_wrong_pin),
		cmocka_unit_test(test_refused_identity),
		cmocka_unit_test(test_server_ends_a_ready_one),
		cmocka_unit_test(test_clear),
	};

	return cmocka_run_group_tests(tests, pair_setup, pair_teardown);
}
