/* links: proto/io/tls_stream.c proto/io/tls_stream_calls.c proto/io/tls_loop.c
 * proto/io/tls_socket.c proto/io/ktls.c proto/io/poller.c proto/quic/stream_kind.c
 * proto/quic/mem.c proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c
 * proto/wire/encode.c proto/wire/err.c store/pki.c tests/unit/cert_maker.c tests/unit/tls_pair.c
 */
#include "proto/io/tls_stream.h"

#include "tests/unit/tls_pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS_MAX 200000

/* One side: the stream, and what it was told. */
struct side {
	struct mt_stream *s;
	struct mt_tls_stream_events events;
	bool established;
	bool failed;
	bool gone;
	bool reset;
	bool stopped;
	bool ended;
	enum mt_tls_fault fault;
	int alert;
	size_t received;
	uint32_t sum;
	bool fin;
	bool holds; /* consumes nothing */
};

struct world {
	const struct pair_fixture *f;
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_tls_loop *tls;
	struct mt_tls_server *server;
	struct mt_tls_client *client;
	struct side a; /* the server */
	struct side b;
	int refusal; /* the alert that the server's user answers with */
	int fd[2];
};

static void on_readable(struct mt_stream *s, void *user)
{
	struct side *side = user;
	struct iovec iov[64];
	size_t n, len = 0;

	if (side->holds) {
		return;
	}
	n = mt_stream_peek(s, iov, 64);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *bytes = iov[i].iov_base;

		for (size_t j = 0; j < iov[i].iov_len; j++) {
			side->sum = side->sum * 31 + bytes[j];
		}
		len += iov[i].iov_len;
	}
	side->received += len;
	mt_stream_consume(s, len);
	side->fin = mt_stream_fin_received(s) && mt_stream_readable(s) == 0;
}

static void on_reset(struct mt_stream *s, uint64_t code, void *user)
{
	(void)s;
	(void)code;
	((struct side *)user)->reset = true;
}

static void on_stop(struct mt_stream *s, uint64_t code, void *user)
{
	(void)s;
	(void)code;
	((struct side *)user)->stopped = true;
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	assert_int_equal(err, 0);
	((struct side *)user)->ended = true;
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_reset,
	.on_stop = on_stop,
	.on_end = on_end,
};

static void on_established(struct mt_stream *s, void *user)
{
	struct side *side = user;

	side->established = true;
	assert_ptr_equal(s, side->s);
}

static void on_failed(const struct mt_tls_socket *socket, void *user)
{
	struct side *side = user;

	side->failed = true;
	side->fault = socket->fault;
	side->alert = socket->alert;
	side->s = NULL;
}

static void on_gone(const struct mt_tls_socket *socket, void *user)
{
	struct side *side = user;

	side->gone = true;
	side->fault = socket->fault;
	side->alert = socket->alert;
}

static int on_authorize(void *user, const uint8_t *fingerprint)
{
	struct side *side = user;
	struct world *w = (struct world *)((char *)side - offsetof(struct world, a));

	assert_non_null(fingerprint);
	assert_memory_equal(fingerprint, w->f->client_fingerprint, MT_FINGERPRINT_LEN);
	return w->refusal;
}

static void make_pair(int fd[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd[1], (struct sockaddr *)&addr, len), 0);
	fd[0] = accept(listener, NULL, NULL);
	assert_true(fd[0] >= 0);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	(void)close(listener);
}

static void world_open(struct world *w, void **state)
{
	memset(w, 0, sizeof(*w));
	w->f = *state;
	assert_int_equal(uv_loop_init(&w->loop), 0);
	w->mem = mt_mem_new();
	assert_int_equal(mt_poller_new(&w->poller, &w->loop), 0);
	assert_int_equal(mt_tls_loop_new(&w->tls, &w->loop, w->poller, w->mem), 0);
	mt_tls_loop_set_kernel(w->tls, true); /* where there is one */
	w->server = pair_make_server(w->f, true);
	w->client = pair_make_client(w->f, true);
	make_pair(w->fd);
	w->a.events = (struct mt_tls_stream_events){on_established, on_failed, on_gone, &w->a};
	w->b.events = (struct mt_tls_stream_events){on_established, on_failed, on_gone, &w->b};
	assert_int_equal(mt_tls_stream_accept(
				 &w->a.s, w->tls, w->fd[0], w->server, on_authorize, &w->a.events),
		0);
	mt_stream_set_handler(w->a.s, &handler, &w->a);
}

static void start_client(struct world *w)
{
	assert_int_equal(
		mt_tls_stream_connect(&w->b.s, w->tls, w->fd[1], w->client, &w->b.events), 0);
	mt_stream_set_handler(w->b.s, &handler, &w->b);
}

/* Runs the loop until the flag is set. */
static void until(struct world *w, const bool *flag)
{
	for (unsigned turns = 0; !*flag; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
}

static void connect_both(struct world *w, void **state)
{
	world_open(w, state);
	start_client(w);
	until(w, &w->a.established);
	until(w, &w->b.established);
	assert_memory_equal(mt_tls_stream_socket(w->a.s)->tls.fingerprint, w->f->client_fingerprint,
		MT_FINGERPRINT_LEN);
}

static void world_close(struct world *w)
{
	if (w->a.s != NULL) {
		mt_stream_release(w->a.s, 0);
	}
	if (w->b.s != NULL) {
		mt_stream_release(w->b.s, 0);
	}
	mt_tls_loop_free(w->tls);
	mt_poller_free(w->poller);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	mt_tls_server_unref(w->server);
	mt_tls_client_unref(w->client);
	mt_mem_free(w->mem);
}

/* Sends `len` bytes of a pattern as room comes up; returns the sum that the receiver must get. */
static uint32_t send_all(struct world *w, struct side *from, const struct side *to, size_t len)
{
	uint32_t sum = to->sum, x = 1;
	size_t done = 0, target = to->received + len;
	struct iovec iov[8];

	while (done < len) {
		size_t n = mt_stream_reserve(from->s, iov, 8), filled = 0;

		for (size_t i = 0; i < n && done < len; i++) {
			uint8_t *bytes = iov[i].iov_base;

			for (size_t j = 0; j < iov[i].iov_len && done < len; j++, done++) {
				x = x * 1103515245 + 12345;
				bytes[j] = (uint8_t)(x >> 16);
				sum = sum * 31 + bytes[j];
				filled++;
			}
		}
		mt_stream_commit(from->s, filled);
		(void)uv_run(&w->loop, UV_RUN_NOWAIT);
	}
	for (unsigned turns = 0; to->received < target; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
	return sum;
}

static void test_stream_carries_both_ways(void **state)
{
	struct world w;
	uint32_t sum;

	connect_both(&w, state);
	sum = send_all(&w, &w.b, &w.a, 5000001);
	assert_int_equal(w.a.sum, sum);
	sum = send_all(&w, &w.a, &w.b, 5000001);
	assert_int_equal(w.b.sum, sum);
	world_close(&w);
}

static void test_stream_half_close(void **state)
{
	struct world w;
	uint32_t sum;

	connect_both(&w, state);
	mt_stream_send_fin(w.b.s);
	until(&w, &w.a.fin);
	sum = send_all(&w, &w.a, &w.b, 700000);
	assert_int_equal(w.b.sum, sum);
	assert_false(w.b.fin);
	mt_stream_send_fin(w.a.s);
	until(&w, &w.b.fin);
	until(&w, &w.a.ended);
	until(&w, &w.b.ended);
	assert_false(w.a.reset || w.b.reset || w.a.stopped || w.b.stopped);
	mt_stream_release(w.a.s, 0);
	mt_stream_release(w.b.s, 0);
	w.a.s = w.b.s = NULL;
	until(&w, &w.a.gone);
	until(&w, &w.b.gone);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_NONE);
	world_close(&w);
}

static void test_stream_early_bytes_wait_for_the_handshake(void **state)
{
	struct world w;

	world_open(&w, state);
	start_client(&w);
	assert_int_equal(mt_stream_send(w.b.s, "early", 5), 0);
	mt_stream_send_fin(w.b.s);
	until(&w, &w.a.fin);
	assert_int_equal(w.a.received, 5);
	world_close(&w);
}

static void test_stream_release_is_a_reset(void **state)
{
	struct world w;

	connect_both(&w, state);
	mt_stream_release(w.b.s, 0);
	w.b.s = NULL;
	until(&w, &w.a.reset);
	assert_true(mt_stream_is_detached(w.a.s));
	assert_int_equal(mt_stream_send(w.a.s, "x", 1), MT_E_CLOSED);
	mt_stream_release(w.a.s, 0);
	w.a.s = NULL;
	until(&w, &w.a.gone);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_RESET);
	world_close(&w);
}

/* The last word arrives although nobody reads what the peer goes on sending. */
static void test_stream_release_behind_fin_delivers(void **state)
{
	struct world w;

	connect_both(&w, state);
	assert_int_equal(mt_stream_send(w.b.s, "request", 7), 0);
	assert_int_equal(mt_stream_send(w.a.s, "\x05", 1), 0);
	mt_stream_send_fin(w.a.s);
	mt_stream_release(w.a.s, 0);
	w.a.s = NULL;
	until(&w, &w.b.fin);
	assert_int_equal(w.b.received, 1);
	mt_stream_send_fin(w.b.s);
	mt_stream_release(w.b.s, 0);
	w.b.s = NULL;
	until(&w, &w.a.gone);
	world_close(&w);
}

/* Our end has arrived, and nobody wants what the peer still sends: it learns of that at once. */
static void test_stream_release_behind_fin_stops_the_peer(void **state)
{
	static const uint8_t more[1000];
	struct world w;
	uint64_t begin;

	connect_both(&w, state);
	mt_stream_send_fin(w.a.s);
	mt_stream_release(w.a.s, 0);
	w.a.s = NULL;
	until(&w, &w.b.fin);
	begin = uv_now(&w.loop);
	while (!w.b.stopped) {
		int err = mt_stream_send(w.b.s, more, sizeof(more));

		assert_true(err == 0 || err == MT_E_CLOSED || err == MT_E_AGAIN);
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	assert_true(uv_now(&w.loop) - begin < MT_TLS_LINGER_MS / 2);
	world_close(&w);
}

static void test_stream_fin_without_close_notify_is_a_reset(void **state)
{
	struct world w;

	connect_both(&w, state);
	assert_int_equal(mt_stream_send(w.b.s, "cut", 3), 0);
	while (w.a.received < 3) {
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	assert_int_equal(shutdown(w.fd[1], SHUT_WR), 0);
	until(&w, &w.a.reset);
	assert_false(w.a.fin);
	world_close(&w);
}

/* The end comes with the rest of what has come of a record: the poller tells of both at once. */
static void test_stream_fin_within_a_record_is_a_reset(void **state)
{
	static const uint8_t part[] = {23, 3, 3, 0x40, 0, 1, 2, 3, 4, 5, 6, 7, 8};
	struct world w;

	connect_both(&w, state);
	assert_int_equal(write(w.fd[1], part, sizeof(part)), sizeof(part));
	assert_int_equal(shutdown(w.fd[1], SHUT_WR), 0);
	until(&w, &w.a.reset);
	world_close(&w);
}

static void expect_reset_behind_a_byte(struct world *w, size_t received)
{
	assert_int_equal(mt_stream_send(w->a.s, "\5", 1), 0);
	mt_stream_release(w->a.s, 1);
	w->a.s = NULL;
	until(w, &w->b.reset);
	assert_int_equal(w->b.received, received);
	assert_int_equal(mt_stream_readable(w->b.s), 0);
}

/* What came right before a reset says why, perhaps: it is read first. */
static void test_stream_bytes_before_a_reset(void **state)
{
	struct world w;

	connect_both(&w, state);
	expect_reset_behind_a_byte(&w, 1);
	assert_false(w.b.fin);
	world_close(&w);
}

/* Nor is it kept from the reset by somebody who does not take it. */
static void test_stream_reset_behind_unread_bytes(void **state)
{
	struct world w;

	connect_both(&w, state);
	w.b.holds = true;
	expect_reset_behind_a_byte(&w, 0);
	world_close(&w);
}

/* All of the peer's bytes are here: only our direction is cut. */
static void test_stream_reset_behind_fin_is_a_stop(void **state)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct world w;

	connect_both(&w, state);
	w.a.holds = true;
	assert_int_equal(mt_stream_send(w.b.s, "whole", 5), 0);
	mt_stream_send_fin(w.b.s);
	while (!mt_stream_fin_received(w.a.s)) {
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	assert_int_equal(setsockopt(w.fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	mt_stream_reset(w.b.s, 0);
	until(&w, &w.a.stopped);
	assert_false(w.a.reset);
	assert_int_equal(mt_stream_readable(w.a.s), 5);
	assert_true(mt_stream_fin_received(w.a.s));
	world_close(&w);
}

static void test_stream_backpressure(void **state)
{
	static uint8_t block[65536];
	struct world w;
	size_t sent = 0;

	connect_both(&w, state);
	w.a.holds = true;
	for (unsigned idle = 0; idle < 200;) {
		if (mt_stream_send_space(w.b.s) >= sizeof(block)) {
			assert_int_equal(mt_stream_send(w.b.s, block, sizeof(block)), 0);
			sent += sizeof(block);
			idle = 0;
		} else {
			idle++;
		}
		(void)uv_run(&w.loop, UV_RUN_NOWAIT);
	}
	/* What the kernel holds comes on top of the two queues. */
	assert_true(mt_stream_readable(w.a.s) <= 256 * 1024 + 16384);
	w.a.holds = false;
	on_readable(w.a.s, &w.a);
	while (w.a.received < sent) {
		(void)uv_run(&w.loop, UV_RUN_ONCE);
	}
	assert_int_equal(w.a.received, sent);
	world_close(&w);
}

static void test_handshake_refused(void **state)
{
	struct world w;

	world_open(&w, state);
	w.refusal = GNUTLS_A_CERTIFICATE_REVOKED;
	start_client(&w);
	until(&w, &w.a.failed);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_REFUSED);
	/* The client has finished its own part and hears of it with the first record. */
	until(&w, &w.b.reset);
	mt_stream_release(w.b.s, 0);
	w.b.s = NULL;
	until(&w, &w.b.gone);
	assert_int_equal(w.b.fault, MT_TLS_FAULT_ALERT);
	assert_int_equal(w.b.alert, GNUTLS_A_CERTIFICATE_REVOKED);
	until(&w, &w.a.gone);
	world_close(&w);
}

static void test_handshake_of_junk(void **state)
{
	struct world w;

	world_open(&w, state);
	assert_int_equal(send(w.fd[1], "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	until(&w, &w.a.failed);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_REFUSED);
	(void)close(w.fd[1]);
	until(&w, &w.a.gone);
	world_close(&w);
}

static void test_handshake_timeout(void **state)
{
	struct world w;

	world_open(&w, state);
	assert_int_equal(mt_tls_loop_half_open(w.tls), 1);
	until(&w, &w.a.failed);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_TRANSPORT);
	assert_int_equal(mt_tls_loop_half_open(w.tls), 0);
	(void)close(w.fd[1]);
	world_close(&w);
}

static void test_loop_shed_ends_the_oldest_handshake(void **state)
{
	struct world w;

	world_open(&w, state);
	mt_tls_loop_shed(w.tls);
	assert_true(w.a.failed);
	assert_int_equal(w.a.fault, MT_TLS_FAULT_TRANSPORT);
	assert_int_equal(mt_tls_loop_half_open(w.tls), 0);
	mt_tls_loop_shed(w.tls); /* there is none */
	(void)close(w.fd[1]);
	world_close(&w);
}

static void test_loop_free_ends_everything(void **state)
{
	struct world w;

	connect_both(&w, state);
	assert_int_equal(mt_stream_send(w.a.s, "x", 1), 0);
	w.a.s = w.b.s = NULL;
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream_carries_both_ways),
		cmocka_unit_test(test_stream_half_close),
		cmocka_unit_test(test_stream_early_bytes_wait_for_the_handshake),
		cmocka_unit_test(test_stream_release_is_a_reset),
		cmocka_unit_test(test_stream_release_behind_fin_delivers),
		cmocka_unit_test(test_stream_release_behind_fin_stops_the_peer),
		cmocka_unit_test(test_stream_fin_without_close_notify_is_a_reset),
		cmocka_unit_test(test_stream_fin_within_a_record_is_a_reset),
		cmocka_unit_test(test_stream_bytes_before_a_reset),
		cmocka_unit_test(test_stream_reset_behind_unread_bytes),
		cmocka_unit_test(test_stream_reset_behind_fin_is_a_stop),
		cmocka_unit_test(test_stream_backpressure),
		cmocka_unit_test(test_handshake_refused),
		cmocka_unit_test(test_handshake_of_junk),
		cmocka_unit_test(test_handshake_timeout),
		cmocka_unit_test(test_loop_shed_ends_the_oldest_handshake),
		cmocka_unit_test(test_loop_free_ends_everything),
	};

	return cmocka_run_group_tests(tests, pair_setup, pair_teardown);
}
