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
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
