/* links: proto/io/splice.c proto/io/pipes.c proto/io/tls_stream.c proto/io/tls_stream_calls.c
 * proto/io/tls_loop.c proto/io/tls_socket.c proto/io/ktls.c proto/io/poller.c proto/io/pacer.c
 * proto/io/bucket.c proto/quic/stream_kind.c proto/quic/mem.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/quic/identity.c proto/wire/encode.c proto/wire/err.c
 * -Wl,--wrap=splice -Wl,--wrap=mt_ktls_recv -Wl,--wrap=mt_ktls_send_alert
 * tests/unit/splice_world.c
 */
#include "proto/io/splice.h"

#include "proto/wire/request.h"
#include "tests/unit/splice_world.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define BULK 3000001u

static void finish_clean(struct world *w, uint64_t up, uint64_t down)
{
	world_until(w, &w->over);
	world_until(w, &w->gone);
	assert_int_equal(w->result.err, 0);
	assert_int_equal(w->result.bytes_to_stream, up);
	assert_int_equal(w->result.bytes_to_socket, down);
	assert_int_equal(w->fault, MT_TLS_FAULT_NONE);
	assert_int_equal(world_kernel.sent_alerts, 1);
	assert_int_equal(world_kernel.sent[1], GNUTLS_A_CLOSE_NOTIFY);
	world_close(w);
}

static void test_splice_both_ways(void **state)
{
	static const size_t most[] = {0, 1, 1000, 70001};
	struct world w;

	(void)state;
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
		size_t size = most[i] == 1 ? 5000 : BULK;

		world_start(&w);
		world_kernel.most = most[i];
		world_exchange(&w, size);
		assert_int_equal(mt_splice_bytes_to_stream(w.splice), size);
		assert_int_equal(mt_splice_bytes_to_socket(w.splice), size);
		/* Nothing is under way: no pipe is held. */
		assert_int_equal(mt_pipes_in_use(w.pipes), 0);
		world_say_close_notify(&w);
		world_expect_end(&w, w.target, 0);
		assert_int_equal(shutdown(w.target, SHUT_WR), 0);
		world_expect_end(&w, w.client, 0);
		finish_clean(&w, size, size);
	}
}

static void test_splice_target_ends_first(void **state)
{
	struct world w;
	size_t down = 0;

	(void)state;
	world_start(&w);
	world_kernel.refusals = 1; /* the close_notify does not fit at once */
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	while (world_kernel.refusals > 0) {
		world_turns(&w, 1);
	}
	assert_int_equal(world_kernel.sent_alerts, 0);
	w.s->on_raw(w.s->raw_user, MT_POLL_OUT);
	world_expect_end(&w, w.client, 0);
	assert_false(w.over);
	for (size_t at = 0; down < BULK;) {
		at += world_put(w.client, at, BULK);
		world_turns(&w, 1);
		down += world_take(w.target, down);
	}
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	finish_clean(&w, 0, BULK);
}

static void test_splice_client_ends_first(void **state)
{
	struct world w;
	size_t up = 0;

	(void)state;
	world_start(&w);
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	for (size_t at = 0; up < BULK;) {
		at += world_put(w.target, at, BULK);
		world_turns(&w, 1);
		up += world_take(w.client, up);
	}
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	world_expect_end(&w, w.client, 0);
	finish_clean(&w, BULK, 0);
}

/* What had been read before the target was there goes first. */
static void test_splice_early_bytes(void **state)
{
	struct world w;
	size_t at = 0, down = 0;

	(void)state;
	world_open(&w);
	while (mt_stream_readable(&w.s->base) < 100000) {
		at += world_put(w.client, at, BULK);
		world_turns(&w, 1);
	}
	world_join(&w);
	while (down < BULK) {
		at += world_put(w.client, at, BULK);
		world_turns(&w, 1);
		down += world_take(w.target, down);
	}
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	world_expect_end(&w, w.client, 0);
	finish_clean(&w, 0, BULK);
}

/* Ends by a reset at both ends, and says so. */
static void finish_cut(struct world *w, int err, enum mt_tls_fault fault)
{
	world_until(w, &w->over);
	world_until(w, &w->gone);
	assert_int_equal(w->result.err, err);
	assert_int_equal(w->fault, fault);
	world_close(w);
}

static void test_splice_truncation(void **state)
{
	uint8_t bytes[8192];
	struct world w;

	(void)state;
	world_start(&w);
	assert_int_equal(world_put(w.client, 0, 5000), 5000);
	assert_int_equal(shutdown(w.client, SHUT_WR), 0);
	world_until(&w, &w.over);
	/* The reset may have overtaken the bytes. */
	while (recv(w.target, bytes, sizeof(bytes), 0) > 0) {
	}
	assert_int_equal(errno, ECONNRESET);
	finish_cut(&w, MT_E_RESET, MT_TLS_FAULT_RESET);
}

static void test_splice_client_resets(void **state)
{
	struct world w;

	(void)state;
	world_start(&w);
	world_reset(&w.client);
	world_expect_end(&w, w.target, ECONNRESET);
	finish_cut(&w, MT_E_RESET, MT_TLS_FAULT_RESET);
}

static void test_splice_target_resets(void **state)
{
	struct world w;

	(void)state;
	world_start(&w);
	world_reset(&w.target);
	world_expect_end(&w, w.client, ECONNRESET);
	finish_cut(&w, -ECONNRESET, MT_TLS_FAULT_NONE);
	assert_int_equal(world_kernel.sent_alerts, 0); /* a cut transfer has no end of its own */
}

/* Behind the client's end its bytes are whole: only the other direction is cut. */
static void test_splice_client_resets_behind_its_end(void **state)
{
	struct world w;

	(void)state;
	world_start(&w);
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	world_reset(&w.client);
	while (!w.over) {
		(void)world_put(w.target, 0, 100000);
		world_turns(&w, 1);
	}
	finish_cut(&w, MT_E_RESET, MT_TLS_FAULT_RESET);
}

static void check_control(
	uint8_t type, uint8_t first, uint8_t second, int alert, enum mt_tls_fault fault)
{
	struct world w;

	world_start(&w);
	world_exchange(&w, 50000);
	world_kernel.control[0] = first;
	world_kernel.control[1] = second;
	world_kernel.type = type;
	w.s->on_raw(w.s->raw_user, MT_POLL_IN);
	world_expect_end(&w, w.target, ECONNRESET);
	assert_int_equal(world_kernel.sent_alerts, alert >= 0);
	if (alert >= 0) {
		assert_int_equal(world_kernel.sent[0], 2);
		assert_int_equal(world_kernel.sent[1], alert);
	}
	finish_cut(&w, MT_E_RESET, fault);
}

static void test_splice_control_records(void **state)
{
	(void)state;
	check_control(MT_RECORD_HANDSHAKE, 24, 0, GNUTLS_A_UNEXPECTED_MESSAGE, MT_TLS_FAULT_REKEY);
	check_control(
		MT_RECORD_HANDSHAKE, 4, 0, GNUTLS_A_UNEXPECTED_MESSAGE, MT_TLS_FAULT_PROTOCOL);
	check_control(20, 1, 1, GNUTLS_A_UNEXPECTED_MESSAGE, MT_TLS_FAULT_PROTOCOL);
	check_control(MT_RECORD_ALERT, 2, GNUTLS_A_BAD_RECORD_MAC, -1, MT_TLS_FAULT_ALERT);
}

/* Warnings without meaning pass. */
static void test_splice_user_canceled(void **state)
{
	struct world w;

	(void)state;
	world_start(&w);
	world_kernel.control[0] = 1;
	world_kernel.control[1] = GNUTLS_A_USER_CANCELED;
	world_kernel.type = MT_RECORD_ALERT;
	w.s->on_raw(w.s->raw_user, MT_POLL_IN);
	world_exchange(&w, 50000);
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	world_expect_end(&w, w.client, 0);
	finish_clean(&w, 50000, 50000);
}

/* A key is not used for more records than it is good for, in either direction. */
static void test_splice_record_limit(void **state)
{
	struct world w;

	(void)state;
	for (int upwards = 0; upwards < 2; upwards++) {
		world_start(&w);
		world_exchange(&w, 1000);
		*(upwards ? &w.s->sock.records_out : &w.s->sock.records_in) =
			MT_TLS_RECORDS_MAX - 1;
		(void)world_put(upwards ? w.target : w.client, 0, 100);
		world_until(&w, &w.over);
		assert_int_equal(world_kernel.sent[1], GNUTLS_A_INTERNAL_ERROR);
		finish_cut(&w, MT_E_RESET, MT_TLS_FAULT_RECORDS);
	}
}

/* Bytes that nobody took stay with nobody: their pipe is not used again. */
static void test_splice_cancel_with_bytes(void **state)
{
	struct world w;
	struct mt_pipe *pipe[3];
	int waiting = 0;
	size_t at = 0;

	(void)state;
	world_start(&w);
	for (unsigned idle = 0; idle < 1000; idle++) {
		size_t n = world_put(w.client, at, SIZE_MAX);

		at += n;
		idle = n > 0 ? 0 : idle;
		world_turns(&w, 1);
	}
	assert_int_equal(mt_pipes_in_use(w.pipes), 1);
	mt_splice_cancel(w.splice, MT_APP_KICKED);
	assert_int_equal(mt_pipes_in_use(w.pipes), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(mt_pipes_get(w.pipes, &pipe[i]), 0);
		assert_int_equal(pipe[i]->held, 0);
		assert_int_equal(ioctl(pipe[i]->read_fd, FIONREAD, &waiting), 0);
		assert_int_equal(waiting, 0);
		assert_true((fcntl(pipe[i]->read_fd, F_GETFL) & O_NONBLOCK) != 0);
		assert_true((fcntl(pipe[i]->write_fd, F_GETFL) & O_NONBLOCK) != 0);
	}
	for (size_t i = 0; i < 3; i++) {
		mt_pipes_put(w.pipes, pipe[i]);
	}
	world_until(&w, &w.gone);
	world_close(&w);
}

/* A record that the kernel cannot open: the client is told why, the target gets a reset. */
static void test_splice_bad_records(void **state)
{
	static const struct {
		int err;
		int alert;
	} cases[] = {{EBADMSG, GNUTLS_A_BAD_RECORD_MAC}, {EMSGSIZE, GNUTLS_A_RECORD_OVERFLOW}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		world_start(&w);
		world_exchange(&w, 50000);
		world_kernel.broken = cases[i].err;
		assert_int_equal(world_put(w.client, 0, 100), 100);
		world_expect_end(&w, w.target, ECONNRESET);
		assert_int_equal(world_kernel.sent_alerts, 1);
		assert_int_equal(world_kernel.sent[0], 2);
		assert_int_equal(world_kernel.sent[1], cases[i].alert);
		finish_cut(&w, MT_E_RESET, MT_TLS_FAULT_PROTOCOL);
	}
}

/* Without descriptors for a pipe a tunnel waits until there are some, in both directions. */
static void test_splice_without_pipes(void **state)
{
	struct rlimit before, none;
	struct mt_pipe *idle[2];
	struct world w;

	(void)state;
	world_start(&w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(mt_pipes_get(w.pipes, &idle[i]), 0);
	}
	assert_int_equal(world_put(w.client, 0, 100), 100);
	assert_int_equal(world_put(w.target, 0, 100), 100);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (unsigned n = 0; n < 20; n++) {
		(void)uv_run(&w.loop, UV_RUN_ONCE); /* the pacer's turns, and nothing in between */
	}
	assert_false(w.over);
	assert_true(mt_counter_get(&w.pipes_missing) > 0);
	assert_int_equal(recv(w.target, &(char){0}, 1, 0), -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (size_t up = 0, down = 0; up < 100 || down < 100;) {
		(void)uv_run(&w.loop, UV_RUN_ONCE);
		up += up < 100 ? world_take(w.client, up) : 0;
		down += down < 100 ? world_take(w.target, down) : 0;
	}
	for (size_t i = 0; i < 2; i++) {
		mt_pipes_put(w.pipes, idle[i]);
	}
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	world_expect_end(&w, w.client, 0);
	finish_clean(&w, 100, 100);
}

/* Pipes that the system keeps small are full before a socket is empty. */
static void test_splice_small_pipes(void **state)
{
	enum { SIZE = 50000 };
	struct mt_pipe *small[2] = {NULL};
	struct world w;

	(void)state;
	world_start(&w);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(mt_pipes_get(w.pipes, &small[i]), 0);
		assert_true(fcntl(small[i]->write_fd, F_SETPIPE_SZ, 1) > 0);
	}
	for (size_t i = 0; i < 2; i++) {
		mt_pipes_put(w.pipes, small[i]);
	}
	/* All of it before the first turn: no later byte tells of the others. */
	for (size_t put = 0; put < SIZE;) {
		put += world_put(w.client, put, SIZE);
	}
	for (size_t put = 0; put < SIZE;) {
		put += world_put(w.target, put, SIZE);
	}
	for (size_t up = 0, down = 0, n = 0; up < SIZE || down < SIZE; n++) {
		assert_true(n < TURNS_MAX);
		(void)uv_run(&w.loop, UV_RUN_NOWAIT);
		up += up < SIZE ? world_take(w.client, up) : 0;
		down += down < SIZE ? world_take(w.target, down) : 0;
	}
	world_say_close_notify(&w);
	world_expect_end(&w, w.target, 0);
	assert_int_equal(shutdown(w.target, SHUT_WR), 0);
	world_expect_end(&w, w.client, 0);
	finish_clean(&w, SIZE, SIZE);
}

static void test_pipes_are_kept_up_to_a_cap(void **state)
{
	mt_counter missing = 0;
	struct mt_pipes *pipes = mt_pipes_new(&missing);
	struct mt_pipe *taken[MT_PIPES_IDLE + 1];
	int fd;

	(void)state;
	for (size_t i = 0; i <= MT_PIPES_IDLE; i++) {
		assert_int_equal(mt_pipes_get(pipes, &taken[i]), 0);
	}
	assert_int_equal(mt_pipes_in_use(pipes), MT_PIPES_IDLE + 1);
	fd = taken[MT_PIPES_IDLE]->read_fd;
	for (size_t i = 0; i <= MT_PIPES_IDLE; i++) {
		mt_pipes_put(pipes, taken[i]);
	}
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(mt_pipes_in_use(pipes), 0);
	mt_pipes_free(pipes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splice_both_ways),
		cmocka_unit_test(test_splice_target_ends_first),
		cmocka_unit_test(test_splice_client_ends_first),
		cmocka_unit_test(test_splice_early_bytes),
		cmocka_unit_test(test_splice_truncation),
		cmocka_unit_test(test_splice_client_resets),
		cmocka_unit_test(test_splice_target_resets),
		cmocka_unit_test(test_splice_client_resets_behind_its_end),
		cmocka_unit_test(test_splice_control_records),
		cmocka_unit_test(test_splice_user_canceled),
		cmocka_unit_test(test_splice_record_limit),
		cmocka_unit_test(test_splice_cancel_with_bytes),
		cmocka_unit_test(test_splice_bad_records),
		cmocka_unit_test(test_splice_without_pipes),
		cmocka_unit_test(test_splice_small_pipes),
		cmocka_unit_test(test_pipes_are_kept_up_to_a_cap),
	};

	/* splice() knows no MSG_NOSIGNAL; the programs do the same. */
	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
