/* links: proto/io/pump.c proto/io/bucket.c proto/io/pacer.c proto/io/poller.c proto/quic/mem.c
 * tests/unit/fake_stream.c
 */
#include "proto/io/pump.h"

#include "proto/quic/mem.h"
#include "proto/wire/request.h"
#include "tests/unit/fake_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES   (256 * 1024)
#define TIMEOUT 10000000000u

struct world {
	uv_loop_t loop;
	struct mt_poller *poller;
	struct mt_pacer *pacer;
	struct mt_mem *mem;
	struct mt_stream stream;
	struct mt_bucket up;
	struct mt_bucket down;
	struct mt_pump *pump;
	struct mt_pump_result result;
	unsigned ends;
	int target;
	uint8_t got[BYTES];
	size_t got_len;
	uint8_t rx[BYTES];
	uint8_t tx[BYTES];
};

static void on_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	struct world *w = user;

	assert_ptr_equal(pump, w->pump);
	w->result = *result;
	w->ends++;
}

static int set_up(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));
	int size = 2 * BYTES;
	int fds[2];
	struct mt_pump_config config;

	assert_int_equal(uv_loop_init(&w->loop), 0);
	assert_int_equal(mt_poller_new(&w->poller, &w->loop), 0);
	assert_int_equal(mt_pacer_new(&w->pacer, &w->loop), 0);
	w->mem = mt_mem_new();
	assert_non_null(w->mem);
	w->stream.rx = w->rx;
	w->stream.tx = w->tx;
	w->stream.tx_limit = BYTES;
	for (size_t i = 0; i < BYTES; i++) {
		w->rx[i] = (uint8_t)(i * 11 + i / 253);
	}
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	w->target = fds[1];
	assert_int_equal(setsockopt(w->target, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	config = (struct mt_pump_config){.poller = w->poller,
		.stream = &w->stream,
		.fd = fds[0],
		.on_end = on_end,
		.user = w,
		.mem = w->mem,
		.to_stream = {{&w->up, NULL}},
		.to_socket = {{NULL, &w->down}},
		.pacer = w->pacer};
	assert_int_equal(mt_pump_start(&w->pump, &config), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	if (!w->stream.released) {
		mt_pump_cancel(w->pump, 0);
	}
	close(w->target);
	mt_poller_free(w->poller);
	mt_pacer_free(w->pacer);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	assert_int_equal(mt_mem_used(w->mem), 0);
	mt_mem_free(w->mem);
	test_free(w);
	return 0;
}

static void arrive(struct world *w, size_t len, bool fin)
{
	w->stream.rx_to += len;
	w->stream.rx_fin = fin;
	w->stream.handler->on_readable(&w->stream, w->stream.user);
}

static void target_writes(struct world *w, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t put = send(w->target, w->rx + done, len - done, MSG_NOSIGNAL);

		if (put > 0) {
			done += (size_t)put;
		} else {
			assert_int_equal(errno, EAGAIN);
			uv_run(&w->loop, UV_RUN_NOWAIT);
		}
	}
	assert_int_equal(shutdown(w->target, SHUT_WR), 0);
}

/* Runs the loop, and the target reads, until both directions have ended or `stop` bytes were sent
 * up. */
static void run_until(struct world *w, size_t stop)
{
	uint64_t begin_ns = uv_hrtime();
	ssize_t got;

	while (w->ends == 0 && w->stream.tx_len < stop) {
		assert_true(uv_hrtime() - begin_ns < TIMEOUT);
		uv_run(&w->loop, UV_RUN_NOWAIT);
		got = recv(w->target, w->got + w->got_len, BYTES - w->got_len, 0);
		w->got_len += got > 0 ? (size_t)got : 0;
	}
	while ((got = recv(w->target, w->got + w->got_len, BYTES - w->got_len, 0)) > 0) {
		w->got_len += (size_t)got;
	}
}

/* Both directions keep to their rates, whole and in order, with their ends behind them. */
static void test_limits(void **state)
{
	struct world *w = *state;
	uint64_t begin_ns = uv_hrtime();

	mt_bucket_set_rate(&w->up, 1000000);
	mt_bucket_set_rate(&w->down, 1000000);
	arrive(w, 200000, true);
	target_writes(w, 150000);
	run_until(w, BYTES);
	assert_true(uv_hrtime() - begin_ns >= 140000000); /* 200 kB at 1 MB/s, less a burst */
	assert_int_equal(w->stream.tx_len, 150000);
	assert_true(w->stream.fin_sent);
	assert_memory_equal(w->tx, w->rx, 150000);
	assert_int_equal(w->got_len, 200000);
	assert_memory_equal(w->got, w->rx, 200000);
	assert_int_equal(w->ends, 1);
	assert_int_equal(w->result.err, 0);
	assert_int_equal(w->result.bytes_to_stream, 150000);
	assert_int_equal(w->result.bytes_to_socket, 200000);
}

/* Lifted while the pump waits, a limit is gone with the next turn. */
static void test_limit_lifted(void **state)
{
	struct world *w = *state;

	mt_bucket_set_rate(&w->up, 1000);
	target_writes(w, 150000);
	for (int i = 0; i < 20; i++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
	}
	assert_true(w->stream.tx_len < 1000);
	mt_bucket_set_rate(&w->up, 0);
	run_until(w, 150000);
	assert_int_equal(w->stream.tx_len, 150000);
}

/* Cancelled, or cut by the peer, while it waits for a limit: nothing follows. */
static void test_end_while_limited(void **state)
{
	struct world *w = *state;

	mt_bucket_set_rate(&w->down, 1000);
	arrive(w, 50000, false);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	assert_true(mt_stream_readable(&w->stream) > 49000);
	mt_pump_cancel(w->pump, MT_APP_REVOKED);
	assert_int_equal(w->stream.release_code, MT_APP_REVOKED);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	assert_int_equal(w->ends, 0);
}

static void test_reset_while_limited(void **state)
{
	struct world *w = *state;

	mt_bucket_set_rate(&w->down, 1000);
	arrive(w, 50000, false);
	w->stream.handler->on_reset(&w->stream, 0x77, w->stream.user);
	assert_int_equal(w->ends, 1);
	assert_int_equal(w->result.err, MT_E_RESET);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	assert_int_equal(w->ends, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_limits),
		TEST(test_limit_lifted),
		TEST(test_end_while_limited),
		TEST(test_reset_while_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
