/* links: proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c proto/wire/addr.c */
#include "proto/io/udp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TIMEOUT  5000
#define GOT_MAX  (4 * 1024 * 1024)
#define SEEN_MAX 512

/* What has arrived: all bytes in order, and the facts of every message. */
struct seen {
	uint8_t *data;
	size_t len;
	size_t messages;
	struct {
		struct mt_path path;
		unsigned ecn;
		size_t len;
		size_t segment;
	} msg[SEEN_MAX];
};

/* Stands in front of the system call: a socket that is full, a device that refuses, a kernel that
 * takes less. */
static struct {
	int pass_calls; /* so many calls go through, */
	int fail_calls; /* then so many fail with `err` */
	int err;
	int fail_fd;   /* only for this descriptor; -1: any */
	bool only_gso; /* only when the first message is segmented */
	int take;      /* > 0: at most so many messages a call */
	unsigned calls;
} kernel;

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	bool gso = msgs[0].msg_hdr.msg_iov[0].iov_len > 1200;

	kernel.calls++;
	if (kernel.pass_calls > 0) {
		kernel.pass_calls--;
	} else if (kernel.fail_calls > 0 && (kernel.fail_fd < 0 || kernel.fail_fd == fd) &&
		   (!kernel.only_gso || gso)) {
		kernel.fail_calls--;
		errno = kernel.err;
		return -1;
	}
	if (kernel.take > 0 && count > (unsigned)kernel.take) {
		count = (unsigned)kernel.take;
	}
	return (int)syscall(SYS_sendmmsg, fd, msgs, count, flags);
}

struct world {
	struct mt_udp_socket a, b;
	struct mt_udp_rx *rx;
	struct mt_udp_tx *tx;
	struct seen seen;
};

static void open_pair(struct world *w, const char *bind_a, const char *bind_b)
{
	const struct mt_udp_options options = {.reuse_port = false};
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, bind_a), 0);
	assert_int_equal(mt_udp_open(&w->a, &addr, &options), 0);
	assert_int_equal(mt_addr_parse(&addr, bind_b), 0);
	assert_int_equal(mt_udp_open(&w->b, &addr, &options), 0);
	assert_int_not_equal(mt_addr_port(&w->a.local), 0);
}

static int set_up(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));

	memset(&kernel, 0, sizeof(kernel));
	kernel.fail_fd = -1;
	w->rx = mt_udp_rx_new();
	w->tx = mt_udp_tx_new();
	w->seen.data = test_malloc(GOT_MAX);
	assert_non_null(w->rx);
	assert_non_null(w->tx);
	*state = w;
	w->a.fd = w->b.fd = -1;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	mt_udp_close(&w->a);
	mt_udp_close(&w->b);
	mt_udp_close(&w->b);
	mt_udp_rx_free(w->rx);
	mt_udp_tx_free(w->tx);
	test_free(w->seen.data);
	test_free(w);
	return 0;
}

static void on_message(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
	size_t len, size_t segment)
{
	struct seen *seen = user;

	assert_true(seen->messages < SEEN_MAX && seen->len + len <= GOT_MAX);
	seen->msg[seen->messages].path = *path;
	seen->msg[seen->messages].ecn = ecn;
	seen->msg[seen->messages].len = len;
	seen->msg[seen->messages].segment = segment;
	seen->messages++;
	memcpy(seen->data + seen->len, data, len);
	seen->len += len;
}

/* Reads from `s` until `len` bytes are there. */
static void receive(struct world *w, struct mt_udp_socket *s, size_t len)
{
	while (w->seen.len < len) {
		struct pollfd fd = {.fd = s->fd, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, TIMEOUT), 1);
		assert_true(mt_udp_receive(w->rx, s, on_message, &w->seen) >= 0);
	}
	assert_int_equal(w->seen.len, len);
	assert_int_equal(mt_udp_receive(w->rx, s, on_message, &w->seen), 0);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* Queues `len` bytes of the pattern from `off` on. */
static void queue(struct world *w, const struct mt_path *path, unsigned ecn, size_t off, size_t len,
	size_t segment)
{
	uint8_t *room = mt_udp_tx_reserve(w->tx);

	assert_non_null(room);
	for (size_t i = 0; i < len; i++) {
		room[i] = pattern(off + i);
	}
	mt_udp_tx_commit(w->tx, path, ecn, len, segment);
}

static void check_pattern(const struct world *w, size_t len)
{
	assert_int_equal(w->seen.len, len);
	for (size_t i = 0; i < len; i++) {
		if (w->seen.data[i] != pattern(i)) {
			fail_msg("byte %zu differs", i);
		}
	}
}

static struct mt_path from_a_to_b(struct world *w)
{
	return (struct mt_path){.local = w->a.local, .remote = w->b.local, .socket = &w->a};
}

static void round_trip(struct world *w, size_t len, size_t segment)
{
	struct mt_path path = from_a_to_b(w);

	w->seen.len = 0;
	w->seen.messages = 0;
	queue(w, &path, 0, 0, len, segment);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, len);
	check_pattern(w, len);
	for (size_t i = 0; i < w->seen.messages; i++) {
		size_t got = w->seen.msg[i].segment;

		assert_true(got == segment || (got == 0 && w->seen.msg[i].len <= segment));
		assert_true(mt_addr_equal(&w->seen.msg[i].path.remote, &w->a.local));
		assert_true(mt_addr_equal(&w->seen.msg[i].path.local, &w->b.local));
		assert_ptr_equal(w->seen.msg[i].path.socket, &w->b);
	}
}

static void test_udp_round_trip_segments(void **state)
{
	struct world *w = *state;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	assert_true(w->a.gso);
	round_trip(w, 1200, 1200);
	assert_int_equal(w->seen.messages, 1);
	round_trip(w, 1201, 1200);
	round_trip(w, 45 * 1452, 1452);
	assert_true(w->seen.messages < 45); /* GRO or a loopback device that never segmented */
	round_trip(w, 44 * 1452 + 1, 1452);
	round_trip(w, 100, 1452);
	round_trip(w, 37, 0);
	/* beyond one UDP payload, and beyond 64 segments: split */
	round_trip(w, 65536, 1200);
	round_trip(w, 20000, 50);
	round_trip(w, 65507, 65507);
}

static void test_udp_round_trip_v6(void **state)
{
	struct world *w = *state;

	open_pair(w, "[::1]:0", "[::1]:0");
	round_trip(w, 45 * 1452, 1452);
	round_trip(w, 64, 1452);
}

static void check_ecn(struct world *w)
{
	struct mt_path path = from_a_to_b(w);

	for (unsigned ecn = 0; ecn < 4; ecn++) {
		w->seen.len = 0;
		w->seen.messages = 0;
		queue(w, &path, ecn, 0, 3000, 1200);
		queue(w, &path, ecn, 3000, 100, 100);
		assert_int_equal(mt_udp_tx_flush(w->tx), 0);
		receive(w, &w->b, 3100);
		check_pattern(w, 3100);
		for (size_t i = 0; i < w->seen.messages; i++) {
			assert_int_equal(w->seen.msg[i].ecn, ecn);
		}
	}
}

static void test_udp_ecn_v4(void **state)
{
	struct world *w = *state;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	check_ecn(w);
}

static void test_udp_ecn_v6(void **state)
{
	struct world *w = *state;

	open_pair(w, "[::1]:0", "[::1]:0");
	check_ecn(w);
}

/* `b` is bound to any address; what was sent to `at` must be answered from there. */
static void check_wildcard(struct world *w, const char *at)
{
	struct mt_addr addressed;
	struct mt_path path, answer;

	assert_true(w->b.wildcard);
	assert_int_equal(mt_addr_parse(&addressed, at), 0);
	mt_addr_set_port(&addressed, mt_addr_port(&w->b.local));
	path = (struct mt_path){.local = w->a.local, .remote = addressed, .socket = &w->a};
	w->seen.len = w->seen.messages = 0;
	queue(w, &path, 0, 0, 3000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 3000);
	answer = w->seen.msg[0].path;
	assert_true(mt_addr_equal(&answer.local, &addressed));
	w->seen.len = w->seen.messages = 0;
	queue(w, &answer, 1, 0, 5000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->a, 5000);
	check_pattern(w, 5000);
	assert_true(mt_addr_equal(&w->seen.msg[0].path.remote, &addressed));
	assert_int_equal(w->seen.msg[0].ecn, 1);
}

static void test_udp_wildcard_answers_from_addressed(void **state)
{
	struct world *w = *state;

	open_pair(w, "127.0.0.1:0", "0.0.0.0:0");
	check_wildcard(w, "127.0.0.1:0");
	check_wildcard(w, "127.0.0.77:0");
}

static void test_udp_wildcard_v6(void **state)
{
	struct world *w = *state;

	open_pair(w, "[::1]:0", "[::]:0");
	check_wildcard(w, "[::1]:0");
}

static void test_udp_connect_ok_keeps_wildcard_path(void **state)
{
	const struct mt_udp_options options = {.connect_ok = true};
	struct world *w = *state;
	struct mt_addr addr;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	mt_udp_close(&w->b);
	assert_int_equal(mt_addr_parse(&addr, "0.0.0.0:0"), 0);
	assert_int_equal(mt_udp_open(&w->b, &addr, &options), 0);
	assert_false(w->b.wildcard);
	path = (struct mt_path){.local = w->b.local, .remote = w->a.local, .socket = &w->b};
	queue(w, &path, 0, 0, 100, 100);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->a, 100);
	path = w->seen.msg[0].path;
	w->seen.len = w->seen.messages = 0;
	queue(w, &path, 0, 0, 100, 100);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 100);
	assert_true(mt_addr_equal(&w->seen.msg[0].path.local, &w->b.local));
}

static void test_udp_open_unmaps(void **state)
{
	const struct mt_udp_options options = {.reuse_port = false};
	struct world *w = *state;
	struct mt_addr addr = {.v6 = {.sin6_family = AF_INET6}, .len = sizeof(addr.v6)};

	addr.v6.sin6_addr.s6_addr[10] = 0xff;
	addr.v6.sin6_addr.s6_addr[11] = 0xff;
	addr.v6.sin6_addr.s6_addr[12] = 127;
	addr.v6.sin6_addr.s6_addr[15] = 1;
	assert_int_equal(mt_udp_open(&w->a, &addr, &options), 0);
	assert_int_equal(w->a.local.sa.sa_family, AF_INET);
	assert_true(mt_addr_is_loopback(&w->a.local));
}

static void test_udp_open_fails_in_use(void **state)
{
	const struct mt_udp_options options = {.reuse_port = false};
	struct world *w = *state;
	struct mt_udp_socket s = {.fd = -7};

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	assert_int_equal(mt_udp_open(&s, &w->a.local, &options), -EADDRINUSE);
	assert_int_equal(s.fd, -7); /* left alone */
}

static void test_udp_open_sets_df(void **state)
{
	struct world *w = *state;
	int value = 0;
	socklen_t len = sizeof(value);

	open_pair(w, "127.0.0.1:0", "[::1]:0");
	assert_int_equal(getsockopt(w->a.fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, &len), 0);
	assert_int_equal(value, IP_PMTUDISC_PROBE);
	assert_int_equal(getsockopt(w->b.fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &value, &len), 0);
	assert_int_equal(value, IPV6_PMTUDISC_PROBE);
	assert_int_equal(getsockopt(w->b.fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len), 0);
	assert_int_equal(value, 1);
}

static void test_udp_many_batches_one_call(void **state)
{
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	for (size_t i = 0; i < 40; i++) {
		queue(w, &path, 0, i * 50, 50, 50);
	}
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	assert_int_equal(mt_udp_tx_stats(w->tx)->calls, 1);
	assert_int_equal(mt_udp_tx_stats(w->tx)->messages, 40);
	receive(w, &w->b, 2000);
	check_pattern(w, 2000);
}

/* The arena wraps around by itself while nothing blocks. */
static void test_udp_more_than_the_arena(void **state)
{
	struct world *w = *state;
	struct mt_path path;
	size_t done = 0;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	for (size_t i = 0; i < 20; i++) {
		queue(w, &path, 0, done, 40 * 1452, 1452);
		done += 40 * 1452;
	}
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, done);
	check_pattern(w, done);
}

static void test_udp_partial_sends(void **state)
{
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	kernel.take = 3;
	w->a.gso = false;
	queue(w, &path, 0, 0, 10100, 1200);
	queue(w, &path, 0, 10100, 20000, 1000);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 30100);
	check_pattern(w, 30100);
	assert_int_equal(mt_udp_tx_stats(w->tx)->messages, 29);
	assert_true(mt_udp_tx_stats(w->tx)->calls >= 10);
}

static void test_udp_blocked_tails_stay_in_order(void **state)
{
	struct world *w = *state;
	struct mt_path path, back;
	size_t queued = 12000;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	back = (struct mt_path){.local = w->b.local, .remote = w->a.local, .socket = &w->b};
	kernel.fail_fd = w->a.fd;
	kernel.err = EAGAIN;
	kernel.fail_calls = 1000;
	queue(w, &path, 0, 0, queued, 1200);
	queue(w, &back, 0, 0, 777, 777);
	assert_int_equal(mt_udp_tx_flush(w->tx), MT_E_AGAIN);
	assert_true(w->a.blocked);
	assert_false(w->b.blocked);
	receive(w, &w->a, 777); /* the other socket is not held up */
	w->seen.len = w->seen.messages = 0;
	while (mt_udp_tx_reserve(w->tx) != NULL) {
		queue(w, &path, 0, queued, 60000, 1200);
		queued += 60000;
		assert_true(queued < 8 * 65536);
	}
	assert_true(queued > 6 * 60000);
	kernel.fail_calls = 0;
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	assert_false(w->a.blocked);
	receive(w, &w->b, queued);
	check_pattern(w, queued);
	assert_non_null(mt_udp_tx_reserve(w->tx));
}

static void blocked_in_the_middle(struct world *w, bool gso)
{
	struct mt_path path;
	size_t queued = 0;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	w->a.gso = gso;
	kernel.take = gso ? 1 : 7;
	kernel.err = EAGAIN;
	for (int i = 0; i < 5; i++) {
		kernel.pass_calls = gso ? 1 : 2;
		kernel.fail_calls = 1;
		for (int j = 0; j < 2; j++) {
			queue(w, &path, 0, queued, 30011, 1200);
			queued += 30011;
		}
		assert_int_equal(mt_udp_tx_flush(w->tx), MT_E_AGAIN);
		kernel.fail_calls = 0;
	}
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, queued);
	check_pattern(w, queued);
}

static void test_udp_blocked_in_the_middle_gso(void **state)
{
	blocked_in_the_middle(*state, true);
}

static void test_udp_blocked_in_the_middle_singly(void **state)
{
	blocked_in_the_middle(*state, false);
}

static void test_udp_forget(void **state)
{
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	kernel.fail_calls = 1;
	kernel.err = EAGAIN;
	queue(w, &path, 0, 0, 5000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), MT_E_AGAIN);
	mt_udp_tx_forget(w->tx, &w->a);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	path.socket = NULL;
	queue(w, &path, 0, 0, 5000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	assert_int_equal(mt_udp_tx_stats(w->tx)->messages, 0);
	assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, 1);
}

static void test_udp_gso_refused_by_device(void **state)
{
	struct world *w = *state;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	kernel.fail_calls = 1;
	kernel.err = EIO;
	kernel.only_gso = true;
	round_trip(w, 30 * 1200 + 7, 1200);
	assert_false(w->a.gso);
	assert_int_equal(mt_udp_tx_stats(w->tx)->gso_fallbacks, 1);
	assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, 0);
	round_trip(w, 30 * 1200 + 7, 1200);
}

/* A socket without checksums: the kernel itself says EINVAL to segmentation, and takes single
 * packets. */
static void test_udp_gso_refused_by_kernel(void **state)
{
	struct world *w = *state;
	int on = 1;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	assert_int_equal(setsockopt(w->a.fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
	round_trip(w, 30 * 1200 + 7, 1200);
	assert_false(w->a.gso);
	assert_int_equal(mt_udp_tx_stats(w->tx)->gso_fallbacks, 1);
}

/* A source address that is not ours any more is the path's fault, not that of segmentation. */
static void test_udp_vanished_source_drops_batch(void **state)
{
	struct world *w = *state;
	struct mt_path gone, good;

	open_pair(w, "0.0.0.0:0", "127.0.0.1:0");
	good = from_a_to_b(w);
	assert_int_equal(mt_addr_parse(&good.local, "127.0.0.1:1"), 0);
	gone = good;
	assert_int_equal(mt_addr_parse(&gone.local, "192.0.2.55:1"), 0);
	queue(w, &good, 0, 0, 5000, 1200);
	queue(w, &gone, 0, 0, 5000, 1200);
	queue(w, &gone, 0, 0, 100, 100);
	queue(w, &good, 0, 5000, 5000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 10000);
	check_pattern(w, 10000);
	assert_true(w->a.gso);
	assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, 2);
}

static void test_udp_refused_singly_too_keeps_gso(void **state)
{
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	kernel.fail_calls = 2;
	kernel.err = EINVAL;
	queue(w, &path, 0, 9000, 3000, 1200);
	queue(w, &path, 0, 0, 3000, 1200);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 3000);
	check_pattern(w, 3000);
	assert_true(w->a.gso);
	assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, 1);
}

/* A probe for a larger MTU in front of other packets: those go out. */
static void test_udp_too_large_drops_one_packet(void **state)
{
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	queue(w, &path, 0, 0, 1500, 1000);
	kernel.fail_calls = 1;
	kernel.err = EMSGSIZE;
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, 500);
	assert_int_equal(w->seen.data[0], pattern(1000));
	assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, 1);
	assert_true(w->a.gso);
}

static void test_udp_other_errors_drop_batch(void **state)
{
	static const int errors[] = {ECONNREFUSED, ENETUNREACH, EPERM, ENOBUFS, EHOSTUNREACH};
	struct world *w = *state;
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		w->seen.len = w->seen.messages = 0;
		kernel.fail_calls = 1;
		kernel.err = errors[i];
		queue(w, &path, 0, 9000, 3000, 1200);
		queue(w, &path, 0, 0, 3000, 1200);
		assert_int_equal(mt_udp_tx_flush(w->tx), 0);
		receive(w, &w->b, 3000);
		check_pattern(w, 3000);
		assert_int_equal(mt_udp_tx_stats(w->tx)->dropped, i + 1);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_udp_round_trip_segments),
		TEST(test_udp_round_trip_v6),
		TEST(test_udp_ecn_v4),
		TEST(test_udp_ecn_v6),
		TEST(test_udp_wildcard_answers_from_addressed),
		TEST(test_udp_wildcard_v6),
		TEST(test_udp_connect_ok_keeps_wildcard_path),
		TEST(test_udp_open_unmaps),
		TEST(test_udp_open_fails_in_use),
		TEST(test_udp_open_sets_df),
		TEST(test_udp_many_batches_one_call),
		TEST(test_udp_more_than_the_arena),
		TEST(test_udp_partial_sends),
		TEST(test_udp_blocked_tails_stay_in_order),
		TEST(test_udp_blocked_in_the_middle_gso),
		TEST(test_udp_blocked_in_the_middle_singly),
		TEST(test_udp_forget),
		TEST(test_udp_gso_refused_by_device),
		TEST(test_udp_gso_refused_by_kernel),
		TEST(test_udp_vanished_source_drops_batch),
		TEST(test_udp_refused_singly_too_keeps_gso),
		TEST(test_udp_too_large_drops_one_packet),
		TEST(test_udp_other_errors_drop_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
