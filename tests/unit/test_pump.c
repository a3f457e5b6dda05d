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
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER  (8 * 1024 * 1024)
#define TIMEOUT 10000

struct world {
	uv_loop_t loop;
	struct mt_poller *poller;
	struct mt_mem *mem;
	struct mt_stream stream;
	struct mt_pump *pump;
	struct mt_pump_result result;
	unsigned ends;
	int fd;     /* the pump's side */
	int target; /* the other one */
};

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 11 + i / 253);
}

static void open_tcp(int *a, int *b)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	*a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*a, (struct sockaddr *)&addr, len), 0);
	*b = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(*b >= 0);
	assert_int_equal(fcntl(*a, F_SETFL, O_NONBLOCK), 0);
	close(listener);
}

static int set_up(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));

	assert_int_equal(uv_loop_init(&w->loop), 0);
	assert_int_equal(mt_poller_new(&w->poller, &w->loop), 0);
	w->mem = mt_mem_new();
	assert_non_null(w->mem);
	w->stream.rx = test_malloc(BUFFER);
	w->stream.tx = test_malloc(BUFFER);
	w->stream.tx_limit = 256 * 1024;
	for (size_t i = 0; i < BUFFER; i++) {
		w->stream.rx[i] = pattern(i);
	}
	open_tcp(&w->fd, &w->target);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	if (w->target >= 0) {
		close(w->target);
	}
	if (!w->stream.released && w->pump != NULL) {
		mt_pump_cancel(w->pump, 0);
	}
	mt_poller_free(w->poller);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	assert_int_equal(mt_mem_used(w->mem), 0);
	mt_mem_free(w->mem);
	test_free(w->stream.rx);
	test_free(w->stream.tx);
	test_free(w);
	return 0;
}

static void on_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	struct world *w = user;

	assert_ptr_equal(pump, w->pump);
	assert_true(w->stream.released);
	assert_int_equal(fcntl(w->fd, F_GETFD), -1);
	w->result = *result;
	w->ends++;
}

static int try_start(struct world *w)
{
	const struct mt_pump_config config = {.poller = w->poller,
		.stream = &w->stream,
		.fd = w->fd,
		.on_end = on_end,
		.user = w,
		.mem = w->mem};

	return mt_pump_start(&w->pump, &config);
}

static void start(struct world *w)
{
	assert_int_equal(try_start(w), 0);
	assert_int_equal(w->ends, 0); /* never from within */
}

static void turn(struct world *w)
{
	uv_run(&w->loop, UV_RUN_NOWAIT);
}

/* Runs the loop until the socket `fd` shows `events`, or `done` says so. */
static void run_until(struct world *w, bool (*done)(const struct world *w))
{
	int left = TIMEOUT;

	while (turn(w), !done(w)) {
		struct pollfd none = {.fd = -1};

		assert_true(left-- > 0);
		poll(&none, 1, 1);
	}
}

static bool has_ended(const struct world *w)
{
	return w->ends > 0;
}

static bool is_up_over(const struct world *w)
{
	return w->ends > 0 || w->stream.fin_sent;
}

static bool is_drained(const struct world *w)
{
	return w->ends > 0 || mt_stream_readable(&w->stream) == 0;
}

static bool is_full(const struct world *w)
{
	return w->stream.tx_len == w->stream.tx_limit;
}

static void target_writes(struct world *w, size_t off, size_t len)
{
	uint8_t buf[4096];

	for (size_t done = 0; done < len;) {
		size_t n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		ssize_t put;

		for (size_t i = 0; i < n; i++) {
			buf[i] = pattern(off + done + i);
		}
		put = send(w->target, buf, n, MSG_NOSIGNAL);
		if (put > 0) {
			done += (size_t)put;
		} else {
			assert_int_equal(errno, EAGAIN);
			turn(w);
		}
	}
}

/* Reads until the end and compares; returns 0 for a clean one, or the errno. `bytes` are all that
 * came before. */
static int target_reads(struct world *w, size_t *bytes)
{
	static uint8_t buf[65536];
	int left = TIMEOUT;

	for (*bytes = 0;;) {
		ssize_t got = recv(w->target, buf, sizeof(buf), 0);

		if (got == 0) {
			return 0;
		}
		if (got < 0 && errno != EAGAIN) {
			return errno;
		}
		for (ssize_t i = 0; i < got; i++) {
			assert_int_equal(buf[i], pattern((*bytes)++));
		}
		if (got < 0) {
			struct pollfd fd = {.fd = w->target, .events = POLLIN};

			assert_true(left-- > 0);
			turn(w);
			poll(&fd, 1, 1);
		}
	}
}

static void target_closes_by_reset(struct world *w)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	assert_int_equal(setsockopt(w->target, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(w->target);
	w->target = -1;
}

static void arrive(struct world *w, size_t len, bool fin)
{
	w->stream.rx_to += len;
	w->stream.rx_fin = fin;
	if (w->stream.handler != NULL) {
		w->stream.handler->on_readable(&w->stream, w->stream.user);
	}
}

/* One step of a story: the target's FIN or RST in small letters, the stream's FIN, RESET_STREAM,
 * STOP_SENDING and the loss of the connection in capitals.
 */
static void step(struct world *w, char what)
{
	struct mt_stream *s = &w->stream;

	if (s->released) {
		return;
	}
	switch (what) {
	case 'f':
		assert_int_equal(shutdown(w->target, SHUT_WR), 0);
		if (!s->tx_over) {
			run_until(w, is_up_over);
		}
		break;
	case 'r':
		target_closes_by_reset(w);
		run_until(w, has_ended);
		break;
	case 'F': arrive(w, 0, true); break;
	case 'R':
		s->rx_over = true;
		s->rx_from = s->rx_to;
		s->handler->on_reset(s, 0x77, s->user);
		break;
	case 'S':
		s->tx_over = true;
		s->handler->on_stop(s, 0x88, s->user);
		break;
	case 'L':
		s->detached = true;
		s->handler->on_end(s, MT_E_TIMEOUT, s->user);
		break;
	default: fail();
	}
}

struct story {
	const char *steps;
	int err;    /* of the result; 1: any errno */
	int target; /* what the target reads at the end: 0 clean, else ECONNRESET; -1: it is gone */
	bool fin_sent;
	uint64_t code;     /* of the release, when something was cut */
	uint64_t app_code; /* of the result */
};

static const struct story stories[] = {
	{"fF", 0, 0, true, MT_APP_NONE, 0},
	{"Ff", 0, 0, true, MT_APP_NONE, 0},
	{"R", MT_E_RESET, ECONNRESET, false, MT_APP_CANCELLED, 0x77},
	{"fR", MT_E_RESET, ECONNRESET, true, MT_APP_CANCELLED, 0x77},
	{"SR", MT_E_RESET, ECONNRESET, false, MT_APP_CANCELLED, 0x77},
	{"SF", MT_E_RESET, 0, false, MT_APP_NONE, 0x88},
	{"FS", MT_E_RESET, 0, false, MT_APP_NONE, 0x88},
	{"SfF", MT_E_RESET, 0, false, MT_APP_NONE, 0x88},
	{"fSF", MT_E_RESET, 0, true, MT_APP_NONE, 0x88},
	{"L", MT_E_RESET, ECONNRESET, false, MT_APP_CANCELLED, 0},
	{"fL", MT_E_RESET, ECONNRESET, true, MT_APP_CANCELLED, 0},
	{"SL", MT_E_RESET, ECONNRESET, false, MT_APP_CANCELLED, 0x88},
	{"FL", MT_E_RESET, 0, false, MT_APP_CANCELLED, 0}, /* its end of file came before */
	{"r", 1, -1, false, MT_APP_TARGET_RESET, 0},
	{"fr", 1, -1, true, MT_APP_TARGET_RESET, 0},
	{"Fr", 1, -1, false, MT_APP_TARGET_RESET, 0},
	{"Sr", 1, -1, false, MT_APP_TARGET_RESET, 0x88},
};

/* With and without payload in both directions, all of which must have arrived where the end is
 * clean. */
static void tell(struct world *w, const struct story *story, size_t payload)
{
	size_t bytes = 0;

	start(w);
	turn(w);
	if (payload > 0) {
		target_writes(w, 0, payload);
		w->stream.tx_limit = BUFFER;
		arrive(w, payload, false);
		run_until(w, is_drained);
		while (w->stream.tx_len < payload) {
			turn(w);
		}
	}
	for (const char *at = story->steps; *at != '\0'; at++) {
		step(w, *at);
	}
	if (story->target >= 0) {
		int end = target_reads(w, &bytes);

		assert_int_equal(end, story->target);
		if (end == 0) {
			assert_int_equal(bytes, payload);
		}
	}
	run_until(w, has_ended);
	assert_int_equal(w->ends, 1);
	if (story->err == 1) {
		assert_in_range(-w->result.err, 1, 4095);
	} else {
		assert_int_equal(w->result.err, story->err);
	}
	assert_int_equal(w->stream.fin_sent, story->fin_sent);
	assert_int_equal(w->stream.release_code, story->code);
	assert_int_equal(w->result.app_code, story->app_code);
	assert_int_equal(w->result.bytes_to_stream, payload);
	assert_int_equal(w->result.bytes_to_socket, payload);
	for (size_t i = 0; i < payload; i++) {
		assert_int_equal(w->stream.tx[i], pattern(i));
	}
}

static void test_pump_all_orders(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		for (size_t payload = 0; payload <= 50000; payload += 50000) {
			void *w = NULL;

			print_message("story %s, %zu bytes\n", stories[i].steps, payload);
			set_up(&w);
			tell(w, &stories[i], payload);
			tear_down(&w);
		}
	}
}

static void test_pump_delivers_what_was_queued(void **state)
{
	struct world *w = *state;
	size_t bytes;

	arrive(w, 100000, true);
	start(w);
	assert_int_equal(target_reads(w, &bytes), 0);
	assert_int_equal(bytes, 100000);
	assert_int_equal(w->ends, 0);
	step(w, 'f');
	run_until(w, has_ended);
	assert_int_equal(w->result.err, 0);
}

/* Payload and FIN told by one event: a short read is not the last one. */
static void test_pump_data_and_end_in_one_event(void **state)
{
	struct world *w = *state;

	target_writes(w, 0, 10);
	assert_int_equal(shutdown(w->target, SHUT_WR), 0);
	start(w);
	run_until(w, is_up_over);
	assert_int_equal(w->stream.tx_len, 10);
}

static void test_pump_lost_connection_still_delivers(void **state)
{
	struct world *w = *state;
	size_t bytes;

	start(w);
	step(w, 'f');
	arrive(w, BUFFER, true); /* more than the socket takes at once */
	assert_true(mt_stream_readable(&w->stream) > 0);
	step(w, 'L');
	assert_false(w->stream.released);
	assert_int_equal(target_reads(w, &bytes), 0);
	assert_int_equal(bytes, BUFFER);
	run_until(w, has_ended);
	assert_int_equal(w->result.err, 0);
}

static void test_pump_lost_connection_cuts_queued(void **state)
{
	struct world *w = *state;
	size_t bytes;

	start(w);
	arrive(w, BUFFER, true); /* complete, but the other direction is not */
	step(w, 'L');
	assert_int_equal(target_reads(w, &bytes), ECONNRESET);
	assert_true(bytes < BUFFER);
	assert_int_equal(w->result.err, MT_E_RESET);
}

static void test_pump_backpressure_to_socket(void **state)
{
	struct world *w = *state;
	size_t bytes;

	start(w);
	arrive(w, BUFFER, false);
	for (int i = 0; i < 100; i++) {
		turn(w);
	}
	assert_true(mt_stream_readable(&w->stream) > 0); /* credit only for what is written */
	arrive(w, 0, true);
	assert_int_equal(target_reads(w, &bytes), 0);
	assert_int_equal(bytes, BUFFER);
	assert_int_equal(mt_pump_bytes_to_socket(w->pump), BUFFER);
}

static void test_pump_backpressure_to_stream(void **state)
{
	struct world *w = *state;
	size_t sent = 1024 * 1024;

	w->stream.tx_limit = 10000;
	start(w);
	/* from here on the target writes more than the stream takes; what is left waits in the
	 * socket */
	for (size_t done = 0; done < sent; done += 65536) {
		target_writes(w, done, 65536);
		while (w->stream.tx_limit < done + 65536) {
			run_until(w, is_full);
			turn(w);
			assert_int_equal(w->stream.tx_len, w->stream.tx_limit);
			w->stream.tx_limit += 10000;
			w->stream.handler->on_writable(&w->stream, w->stream.user);
		}
	}
	w->stream.tx_limit = BUFFER;
	w->stream.handler->on_writable(&w->stream, w->stream.user);
	step(w, 'f');
	assert_int_equal(w->stream.tx_len, sent);
	for (size_t i = 0; i < sent; i++) {
		assert_int_equal(w->stream.tx[i], pattern(i));
	}
}

/* One busy socket reads its share of a turn, then the others come, and it goes on without a new
 * event. */
static void test_pump_budget_of_a_turn(void **state)
{
	struct world *w = *state;
	static uint8_t zeros[65536];
	int size = 4 * 1024 * 1024;
	size_t sent = 0, before = 0;
	unsigned turns = 0;

	setsockopt(w->target, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(w->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	while (sent < BUFFER / 2) {
		ssize_t put = send(w->target, zeros, sizeof(zeros), MSG_NOSIGNAL);

		if (put < 0) {
			break;
		}
		sent += (size_t)put;
	}
	assert_true(sent > 1024 * 1024);
	w->stream.tx_limit = BUFFER;
	start(w);
	while (w->stream.tx_len < sent) {
		before = w->stream.tx_len;
		turn(w);
		assert_true(w->stream.tx_len - before <= 2 * 256 * 1024);
		turns++;
	}
	assert_true(turns >= 3);
}

static void test_pump_write_error_within_start(void **state)
{
	struct world *w = *state;
	struct pollfd fd = {.fd = w->fd, .events = POLLIN};

	target_closes_by_reset(w);
	assert_int_equal(poll(&fd, 1, TIMEOUT), 1);
	arrive(w, 1000, false);
	start(w);
	assert_true(w->stream.released);
	assert_int_equal(w->stream.release_code, MT_APP_TARGET_RESET);
	run_until(w, has_ended);
	assert_true(w->result.err == -ECONNRESET || w->result.err == -EPIPE);
}

static void test_pump_cancel(void **state)
{
	struct world *w = *state;
	size_t bytes;

	start(w);
	turn(w);
	mt_pump_cancel(w->pump, MT_APP_QUOTA);
	assert_true(w->stream.released);
	assert_int_equal(w->stream.release_code, MT_APP_QUOTA);
	assert_int_equal(target_reads(w, &bytes), ECONNRESET);
	turn(w);
	assert_int_equal(w->ends, 0);
}

static void test_pump_cancel_before_end_is_told(void **state)
{
	struct world *w = *state;

	w->stream.detached = true;
	start(w);
	assert_true(w->stream.released);
	mt_pump_cancel(w->pump, MT_APP_QUOTA);
	turn(w);
	assert_int_equal(w->ends, 0);
}

static void test_pump_start_fails(void **state)
{
	struct world *w = *state;

	close(w->fd);
	assert_int_equal(try_start(w), -EBADF);
	assert_null(w->stream.handler);
	assert_false(w->stream.released);
	w->pump = NULL;
}

static void test_pump_without_memory(void **state)
{
	struct world *w = *state;

	w->stream.no_memory = true;
	start(w);
	target_writes(w, 0, 10);
	run_until(w, has_ended);
	assert_int_equal(w->result.err, -ENOMEM);
	assert_int_equal(w->stream.release_code, MT_APP_LIMIT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pump_all_orders),
		TEST(test_pump_delivers_what_was_queued),
		TEST(test_pump_data_and_end_in_one_event),
		TEST(test_pump_lost_connection_still_delivers),
		TEST(test_pump_lost_connection_cuts_queued),
		TEST(test_pump_backpressure_to_socket),
		TEST(test_pump_backpressure_to_stream),
		TEST(test_pump_budget_of_a_turn),
		TEST(test_pump_write_error_within_start),
		TEST(test_pump_cancel),
		TEST(test_pump_cancel_before_end_is_told),
		TEST(test_pump_start_fails),
		TEST(test_pump_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
