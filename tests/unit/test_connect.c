/* links: daemon/connect.c daemon/connect_order.c daemon/access.c daemon/rules.c daemon/deadline.c
 * daemon/snapshot.c daemon/account.c proto/io/poller.c proto/quic/mem.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/quic/identity.c proto/wire/addr.c proto/wire/net.c
 * proto/wire/rule.c proto/wire/profile.c proto/wire/err.c proto/wire/encode.c proto/wire/bytes.c
 */
#include "daemon/connect.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	uv_loop_t loop;
	struct mt_env env;
	struct mt_snapshot snapshot;
	struct mt_worker_counters counters;
	unsigned done;
	int err;
	int fd;
	struct mt_addr addr;
};

static int setup(void **state)
{
	struct fixture *f = aligned_alloc(64, (sizeof(*f) + 63) / 64 * 64);

	if (f == NULL) {
		return -1;
	}
	*f = (struct fixture){.snapshot = {.allow_private = true}, .fd = -1};
	f->env.snapshot = &f->snapshot;
	f->env.counters = &f->counters;
	f->env.mem = mt_mem_new();
	*state = f;
	if (f->env.mem == NULL || uv_loop_init(&f->loop) < 0 ||
		mt_deadlines_init(&f->env.deadlines, &f->loop) < 0) {
		return -1;
	}
	return mt_poller_new(&f->env.poller, &f->loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rv;

	mt_poller_free(f->env.poller);
	mt_deadlines_close(&f->env.deadlines);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT); /* closes the handles */
	rv = uv_loop_close(&f->loop);
	mt_mem_free(f->env.mem);
	free(f);
	return rv;
}

static void on_done(void *user, int err, int fd, const struct mt_addr *addr)
{
	struct fixture *f = user;

	f->done++;
	f->err = err;
	f->fd = fd;
	f->addr = *addr;
	uv_stop(&f->loop);
}

static int listen_on(const char *text, int backlog, struct mt_addr *out)
{
	socklen_t len = sizeof(out->v6);
	int fd;

	assert_int_equal(mt_addr_parse(out, text), 0);
	fd = socket(out->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &out->sa, out->len), 0);
	if (backlog >= 0) {
		assert_int_equal(listen(fd, backlog), 0);
	}
	assert_int_equal(getsockname(fd, &out->sa, &len), 0);
	return fd;
}

static int start(struct fixture *f, const struct mt_addr *addrs, size_t count, uint16_t port,
	struct mt_connect **out)
{
	const struct mt_connect_config config = {.env = &f->env,
		.addrs = addrs,
		.count = count,
		.request = {.client = "", .protocol = MT_RULE_TCP, .port = port},
		.on_done = on_done,
		.user = f};

	return mt_connect_start(out, &config);
}

static void test_start_connects(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addr;
	int nodelay = 0;
	socklen_t len = sizeof(nodelay);
	int listener = listen_on("127.0.0.1:0", 8, &addr);

	assert_int_equal(start(f, &addr, 1, mt_addr_port(&addr), &c), 0);
	assert_int_equal(f->done, 0);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->done, 1);
	assert_int_equal(f->err, 0);
	assert_true(mt_addr_equal(&f->addr, &addr));
	assert_int_equal(getsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len), 0);
	assert_int_not_equal(nodelay, 0);
	mt_poller_close_fd(f->env.poller, f->fd);
	(void)close(listener);
}

/* The second address is tried right after the first one has failed. */
static void test_start_goes_on_after_a_refusal(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addrs[2];
	uint64_t begin_ns = uv_hrtime();
	int listener = listen_on("127.0.0.2:0", 8, &addrs[1]);

	assert_int_equal(mt_addr_parse(&addrs[0], "127.0.0.3:0"), 0);
	assert_int_equal(start(f, addrs, 2, mt_addr_port(&addrs[1]), &c), 0);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->err, 0);
	assert_true(mt_addr_equal(&f->addr, &addrs[1]));
	assert_true(uv_hrtime() - begin_ns < 200000000u);
	mt_poller_close_fd(f->env.poller, f->fd);
	(void)close(listener);
}

/* A target that is silent (its queue of connections is full) does not hold up the next one. */
static void test_start_overtakes_a_silent_target(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addrs[2];
	int filler[3];
	int listener;
	int silent = listen_on("127.0.0.3:0", 0, &addrs[0]);
	uint16_t port = mt_addr_port(&addrs[0]);

	for (size_t i = 0; i < 3; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(filler[i], &addrs[0].sa, addrs[0].len); /* in progress, for ever */
	}
	assert_int_equal(mt_addr_parse(&addrs[1], "127.0.0.2:0"), 0);
	mt_addr_set_port(&addrs[1], port);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, &addrs[1].sa, addrs[1].len), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(start(f, addrs, 2, port, &c), 0);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->err, 0);
	assert_true(mt_addr_equal(&f->addr, &addrs[1]));
	for (size_t i = 0; i < 3; i++) {
		(void)close(filler[i]);
	}
	mt_poller_close_fd(f->env.poller, f->fd);
	(void)close(listener);
	(void)close(silent);
}

static void test_start_refused(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addr;
	int bound = listen_on("127.0.0.1:0", -1, &addr);
	int rv = start(f, &addr, 1, mt_addr_port(&addr), &c);

	if (rv == 0) {
		(void)uv_run(&f->loop, UV_RUN_DEFAULT);
		assert_int_equal(f->done, 1);
		rv = f->err;
	}
	assert_int_equal(rv, -ECONNREFUSED);
	assert_int_equal(f->fd, -1);
	(void)close(bound);
}

/* Addresses that the rules refuse are not connected to; when there is no other, that is the reason.
 */
static void test_start_denied(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addrs[2];
	int listener = listen_on("127.0.0.1:0", 8, &addrs[0]);

	f->snapshot.allow_private = false;
	assert_int_equal(mt_addr_parse(&addrs[1], "[::1]:0"), 0);
	assert_int_equal(start(f, addrs, 2, mt_addr_port(&addrs[0]), &c), MT_E_DENIED);
	assert_int_equal(f->done, 0);
	(void)close(listener);
}

static void test_start_without_descriptors(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addr;
	struct rlimit before;
	struct rlimit none;
	int listener = listen_on("127.0.0.1:0", 8, &addr);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(start(f, &addr, 1, mt_addr_port(&addr), &c), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(mt_counter_get(&f->counters.errors), 1);
	(void)close(listener);
}

static void test_cancel_is_silent(void **state)
{
	struct fixture *f = *state;
	struct mt_connect *c = NULL;
	struct mt_addr addr;
	int listener = listen_on("127.0.0.1:0", 8, &addr);

	assert_int_equal(start(f, &addr, 1, mt_addr_port(&addr), &c), 0);
	mt_connect_cancel(c);
	for (unsigned i = 0; i < 3; i++) {
		(void)uv_run(&f->loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(f->done, 0);
	(void)close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_start_goes_on_after_a_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_start_overtakes_a_silent_target, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_denied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_without_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_is_silent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
