/* links: proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c proto/wire/addr.c
 * tests/unit/udp_world.c
 */
#include "proto/io/udp.h"

#include "tests/unit/udp_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* Opens a pair and sends so many pieces from `a` to `b`; how many bytes these were. */
static size_t send_pieces(struct world *w, size_t count, size_t len, size_t segment)
{
	struct mt_path path;

	open_pair(w, "127.0.0.1:0", "127.0.0.1:0");
	path = from_a_to_b(w);
	for (size_t i = 0; i < count; i++) {
		queue(w, &path, 0, i * len, len, segment);
	}
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	return count * len;
}

static void test_udp_many_batches_one_call(void **state)
{
	struct world *w = *state;
	size_t sent = send_pieces(w, 40, 50, 50);

	assert_int_equal(mt_udp_tx_stats(w->tx)->calls, 1);
	assert_int_equal(mt_udp_tx_stats(w->tx)->messages, 40);
	receive(w, &w->b, sent);
	check_pattern(w, sent);
}

static void count_message(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
	size_t len, size_t segment)
{
	size_t *count = user;

	(void)path;
	(void)ecn;
	(void)data;
	(void)len;
	(void)segment;
	++*count;
}

/* What a smaller batch leaves stays in the socket, for the next one. */
static void test_udp_rx_set_most_bounds_batches(void **state)
{
	struct world *w = *state;
	size_t count = 0;

	(void)send_pieces(w, 10, 50, 50);
	mt_udp_rx_set_most(w->rx, 4);
	assert_int_equal(mt_udp_receive(w->rx, &w->b, count_message, &count), 4);
	assert_int_equal(mt_udp_receive(w->rx, &w->b, count_message, &count), 4);
	mt_udp_rx_set_most(w->rx, UINT_MAX);
	assert_int_equal(mt_udp_receive(w->rx, &w->b, count_message, &count), 2);
	assert_int_equal(count, 10);
}

/* The arena wraps around by itself while nothing blocks. */
static void test_udp_more_than_the_arena(void **state)
{
	struct world *w = *state;
	size_t sent = send_pieces(w, 20, 40 * 1452, 1452);

	receive(w, &w->b, sent);
	check_pattern(w, sent);
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
		TEST(test_udp_rx_set_most_bounds_batches),
		TEST(test_udp_more_than_the_arena),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
