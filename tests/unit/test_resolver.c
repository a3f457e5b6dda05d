/* links: daemon/resolver.c daemon/resolver_cache.c daemon/deadline.c proto/quic/mem.c
 * proto/wire/addr.c proto/wire/err.c -Wl,--wrap=ares_getaddrinfo
 */
#include "daemon/resolver.h"

#include <ares.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ASKERS 8

struct asker {
	struct mt_resolve request;
	struct fixture *owner;
	unsigned done;
	int err;
	size_t count;
	char first[MT_ADDR_TEXT_MAX];
	bool cancels_next;
	const char *asks_next; /* another name, from on_done */
};

/* A name server on loopback in the very same loop. Names: "black..." gets no answer, "none..." does
 * not exist, "long..." is answered over TCP only, all others have 192.0.2.7 and 2001:db8::7.
 */
struct fixture {
	uv_loop_t loop;
	uv_udp_t server;
	uv_tcp_t listener;
	uv_tcp_t streams[4];
	unsigned stream_count;
	unsigned tcp_queries;
	uint8_t reply[602];
	char packet[1500];
	unsigned queries;
	struct mt_env env;
	struct mt_worker_counters counters;
	struct mt_resolver *resolver;
	struct asker askers[ASKERS];
	unsigned done;
	unsigned wanted;
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct fixture *f = handle->data;

	(void)suggested;
	*buf = uv_buf_init(f->packet, sizeof(f->packet));
}

/* Writes the answer to a query of `n` bytes, at most 600; 0: there is none. */
static size_t make_answer(uint8_t *answer, const char *query, size_t n, bool tcp)
{
	static const uint8_t v4[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7};
	static const uint8_t v6[] = {0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 0x01, 0x0d,
		0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
	size_t end = 12;
	size_t len;

	if (n < 17 || n > 500) {
		return 0;
	}
	memcpy(answer, query, n);
	while (answer[end] != 0) {
		end += answer[end] + 1u;
	}
	end += 5; /* the root, type and class */
	if (memcmp(answer + 13, "black", 5) == 0) {
		return 0;
	}
	answer[2] = 0x81;
	answer[3] = 0x80;
	memset(answer + 6, 0, 6);
	len = end;
	if (memcmp(answer + 13, "none", 4) == 0) {
		answer[3] = 0x83;
	} else if (memcmp(answer + 13, "long", 4) == 0 && !tcp) {
		answer[2] |= 0x02; /* truncated */
	} else if (answer[end - 3] == 1) {
		answer[7] = 1;
		memcpy(answer + end, v4, sizeof(v4));
		len += sizeof(v4);
	} else if (answer[end - 3] == 28) {
		answer[7] = 1;
		memcpy(answer + end, v6, sizeof(v6));
		len += sizeof(v6);
	}
	return len;
}

static void on_query(uv_udp_t *server, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
	unsigned flags)
{
	struct fixture *f = server->data;
	uint8_t answer[600];
	size_t len;
	uv_buf_t out;

	(void)flags;
	if (n <= 0 || from == NULL) {
		return;
	}
	f->queries++;
	len = make_answer(answer, buf->base, (size_t)n, false);
	if (len == 0) {
		return;
	}
	out = uv_buf_init((char *)answer, (unsigned)len);
	assert_int_equal(uv_udp_try_send(server, &out, 1, from), (int)len);
}

/* Both queries of a name may come in one piece. */
static void on_stream_query(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct fixture *f = stream->data;
	const char *at = buf->base;

	while (n > 2) {
		size_t len = (size_t)(uint8_t)at[0] << 8 | (uint8_t)at[1];
		size_t answer = make_answer(f->reply + 2, at + 2, len, true);
		uv_buf_t out = uv_buf_init((char *)f->reply, (unsigned)answer + 2);

		assert_true(len + 2 <= (size_t)n && answer > 0);
		f->tcp_queries++;
		f->reply[0] = (uint8_t)(answer >> 8);
		f->reply[1] = (uint8_t)answer;
		assert_int_equal(uv_try_write(stream, &out, 1), (int)answer + 2);
		at += len + 2;
		n -= (ssize_t)len + 2;
	}
}

static void on_stream(uv_stream_t *listener, int status)
{
	struct fixture *f = listener->data;
	uv_tcp_t *stream = &f->streams[f->stream_count++];

	assert_int_equal(status, 0);
	assert_true(f->stream_count <= 4);
	assert_int_equal(uv_tcp_init(&f->loop, stream), 0);
	stream->data = f;
	assert_int_equal(uv_accept(listener, (uv_stream_t *)stream), 0);
	assert_int_equal(uv_read_start((uv_stream_t *)stream, on_room, on_stream_query), 0);
}

/* Names that begin with "held" are never asked for: the test answers. */
static struct {
	ares_addrinfo_callback callback;
	void *arg;
} held[MT_RESOLVE_ASKER_MAX];
static unsigned held_count;
static bool held_answers; /* the next query brings the held ones' answers along */

static void answer_held(void)
{
	for (; held_count > 0; held_count--) {
		held[held_count - 1].callback(held[held_count - 1].arg, ARES_ECONNREFUSED, 0, NULL);
	}
}

void __real_ares_getaddrinfo(ares_channel channel, const char *node, const char *service,
	const struct ares_addrinfo_hints *hints, ares_addrinfo_callback callback, void *arg);
void __wrap_ares_getaddrinfo(ares_channel channel, const char *node, const char *service,
	const struct ares_addrinfo_hints *hints, ares_addrinfo_callback callback, void *arg);

void __wrap_ares_getaddrinfo(ares_channel channel, const char *node, const char *service,
	const struct ares_addrinfo_hints *hints, ares_addrinfo_callback callback, void *arg)
{
	if (strncmp(node, "held", 4) == 0) {
		assert_true(held_count < MT_RESOLVE_ASKER_MAX);
		held[held_count].callback = callback;
		held[held_count++].arg = arg;
		return;
	}
	if (held_answers) {
		held_answers = false;
		answer_held();
	}
	__real_ares_getaddrinfo(channel, node, service, hints, callback, arg);
}

/* The same port for both; libuv tells of one that is taken when it listens. */
static int open_server(struct fixture *f, struct mt_addr *addr)
{
	int rv = UV_EADDRINUSE;

	for (int i = 0; i < 20 && rv == UV_EADDRINUSE; i++) {
		int len = sizeof(addr->v6);

		if (i > 0) {
			uv_close((uv_handle_t *)&f->server, NULL);
			uv_close((uv_handle_t *)&f->listener, NULL);
			(void)uv_run(&f->loop, UV_RUN_NOWAIT);
		}
		if (mt_addr_parse(addr, "127.0.0.1:0") != 0 ||
			uv_udp_init(&f->loop, &f->server) != 0 ||
			uv_tcp_init(&f->loop, &f->listener) != 0 ||
			uv_udp_bind(&f->server, &addr->sa, 0) != 0 ||
			uv_udp_getsockname(&f->server, &addr->sa, &len) != 0) {
			return -1;
		}
		rv = uv_tcp_bind(&f->listener, &addr->sa, 0);
		if (rv == 0) {
			f->listener.data = f;
			rv = uv_listen((uv_stream_t *)&f->listener, 4, on_stream);
		}
	}
	return rv;
}

static int setup(void **state)
{
	struct fixture *f = aligned_alloc(64, (sizeof(*f) + 63) / 64 * 64);
	struct mt_addr addr;
	char text[MT_ADDR_TEXT_MAX];

	if (f == NULL || ares_library_init(ARES_LIB_INIT_ALL) != 0) {
		return -1;
	}
	memset(f, 0, sizeof(*f));
	f->env.counters = &f->counters;
	f->env.seed = 5;
	f->env.mem = mt_mem_new();
	*state = f;
	if (f->env.mem == NULL || uv_loop_init(&f->loop) < 0 ||
		mt_deadlines_init(&f->env.deadlines, &f->loop) < 0 || open_server(f, &addr) < 0) {
		return -1;
	}
	f->server.data = f;
	if (uv_udp_recv_start(&f->server, on_room, on_query) < 0) {
		return -1;
	}
	return mt_resolver_new(
		&f->resolver, &f->loop, &f->env, mt_addr_format(&addr, text, sizeof(text)));
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rv;

	for (size_t i = 0; i < ASKERS; i++) {
		mt_resolve_cancel(&f->askers[i].request);
	}
	mt_resolver_free(f->resolver);
	mt_deadlines_close(&f->env.deadlines);
	uv_close((uv_handle_t *)&f->server, NULL);
	uv_close((uv_handle_t *)&f->listener, NULL);
	for (unsigned i = 0; i < f->stream_count; i++) {
		uv_close((uv_handle_t *)&f->streams[i], NULL);
	}
	(void)uv_run(&f->loop, UV_RUN_DEFAULT); /* closes the handles */
	rv = uv_loop_close(&f->loop);
	mt_mem_free(f->env.mem);
	ares_library_cleanup();
	free(f);
	return rv;
}

static int ask(struct fixture *f, unsigned i, const char *name);

static void on_done(struct mt_resolve *request, int err, const struct mt_addr *addrs, size_t count)
{
	struct asker *a = (struct asker *)request;
	struct fixture *f = a->owner;

	a->done++;
	a->err = err;
	a->count = count;
	if (count > 0) {
		(void)mt_addr_format_host(&addrs[0], a->first, sizeof(a->first));
	}
	if (a->cancels_next) {
		mt_resolve_cancel(&a[1].request);
	}
	if (a->asks_next != NULL) {
		assert_int_equal(ask(f, (unsigned)(a - f->askers) + 1, a->asks_next), MT_E_AGAIN);
	}
	if (++f->done == f->wanted) {
		uv_stop(&f->loop);
	}
}

static int ask(struct fixture *f, unsigned i, const char *name)
{
	const struct mt_addr *addrs = NULL;
	size_t count = 0;
	int rv;

	f->askers[i].owner = f;
	f->askers[i].request.on_done = on_done;
	rv = mt_resolver_lookup(
		f->resolver, &f->askers[i].request, name, strlen(name), &addrs, &count);
	if (rv == 0) {
		f->askers[i].count = count;
	}
	return rv;
}

static void run(struct fixture *f, unsigned wanted)
{
	f->wanted = f->done + wanted;
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->done, f->wanted);
}

static void test_lookup_both_families_then_cached(void **state)
{
	struct fixture *f = *state;
	unsigned queries;

	assert_int_equal(ask(f, 0, "www.example"), MT_E_AGAIN);
	assert_int_equal(f->done, 0);
	run(f, 1);
	assert_int_equal(f->askers[0].err, 0);
	assert_int_equal(f->askers[0].count, 2);
	queries = f->queries;
	assert_int_equal(ask(f, 1, "WWW.Example"), 0);
	assert_int_equal(f->askers[1].count, 2);
	assert_int_equal(f->askers[1].done, 0);
	assert_int_equal(f->queries, queries);
	assert_int_equal(mt_counter_get(&f->counters.dns_queries), 1);
}

static void test_lookup_shares_a_query(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < ASKERS; i++) {
		assert_int_equal(ask(f, i, "www.example"), MT_E_AGAIN);
	}
	mt_resolve_cancel(&f->askers[3].request);
	run(f, ASKERS - 1);
	assert_int_equal(mt_counter_get(&f->counters.dns_queries), 1);
	for (unsigned i = 0; i < ASKERS; i++) {
		assert_int_equal(f->askers[i].done, i == 3 ? 0 : 1);
	}
}

static void test_lookup_localhost_asks_nobody(void **state)
{
	static const char *const names[] = {
		"localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST."};
	static const char *const others[] = {"notlocalhost", "localhost.example"};
	struct fixture *f = *state;
	const struct mt_addr *addrs = NULL;
	size_t count = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(mt_resolver_lookup(f->resolver, &f->askers[0].request, names[i],
					 strlen(names[i]), &addrs, &count),
			0);
		assert_int_equal(count, 2);
		assert_true(mt_addr_is_loopback(&addrs[0]) && mt_addr_is_loopback(&addrs[1]));
		assert_int_not_equal(addrs[0].sa.sa_family, addrs[1].sa.sa_family);
	}
	assert_int_equal(f->queries, 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(mt_resolver_lookup(f->resolver, &f->askers[i].request, others[i],
					 strlen(others[i]), &addrs, &count),
			MT_E_AGAIN);
		mt_resolve_cancel(&f->askers[i].request);
	}
}

static void test_lookup_unknown_name(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, 0, "none.example"), MT_E_AGAIN);
	run(f, 1);
	assert_int_equal(f->askers[0].err, MT_E_DNS);
	assert_int_equal(f->askers[0].count, 0);
	assert_int_equal(ask(f, 1, "none.example"), MT_E_DNS);
	assert_int_equal(mt_counter_get(&f->counters.dns_failures), 1);
}

/* Names without an answer hold up nobody else's. */
static void test_lookup_beside_black_holes(void **state)
{
	struct fixture *f = *state;
	char name[32];
	uint64_t begin_ns;

	for (unsigned i = 0; i < ASKERS - 1; i++) {
		(void)snprintf(name, sizeof(name), "black%u.example", i);
		assert_int_equal(ask(f, i, name), MT_E_AGAIN);
	}
	begin_ns = uv_hrtime();
	assert_int_equal(ask(f, ASKERS - 1, "www.example"), MT_E_AGAIN);
	run(f, 1);
	assert_true(uv_hrtime() - begin_ns < 200000000u);
	assert_int_equal(f->askers[ASKERS - 1].count, 2);
	for (unsigned i = 0; i < ASKERS - 1; i++) {
		assert_int_equal(f->askers[i].done, 0);
	}
}

/* Requests are told in some order; one may cancel another of the same name meanwhile. */
static void test_cancel_from_on_done(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, 1, "www.example"), MT_E_AGAIN);
	assert_int_equal(ask(f, 0, "www.example"), MT_E_AGAIN); /* told first */
	f->askers[0].cancels_next = true;
	run(f, 1);
	(void)uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_int_equal(f->askers[0].done, 1);
	assert_int_equal(f->askers[1].done, 0);
}

/* What does not fit a datagram is asked for again over TCP. */
static void test_truncated_answer(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, 0, "long.example"), MT_E_AGAIN);
	run(f, 1);
	assert_int_equal(f->askers[0].err, 0);
	assert_int_equal(f->askers[0].count, 2);
	assert_true(f->tcp_queries >= 2);
}

/* An answer that comes while another one is being told is told as well. */
static void test_answer_from_on_done(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, 0, "held.example"), MT_E_AGAIN);
	assert_int_equal(ask(f, 1, "www.example"), MT_E_AGAIN);
	f->askers[1].asks_next = "more.example";
	held_answers = true;
	run(f, 3);
	assert_int_equal(f->askers[0].err, MT_E_DNS);
	assert_int_equal(f->askers[1].count, 2);
	assert_int_equal(f->askers[2].count, 2);
}

/* One asker has so many queries under way and no more, cancelled ones too; others have their own.
 */
static void test_budget(void **state)
{
	struct fixture *f = *state;
	char name[32];

	f->askers[0].request.asker = mt_resolve_asker("ann", 1);
	f->askers[1].request.asker = mt_resolve_asker("bob", 1);
	f->askers[2].request.asker = mt_resolve_asker("", 7);
	assert_int_equal(mt_resolve_asker("ann", 2), f->askers[0].request.asker);
	assert_int_not_equal(f->askers[0].request.asker, f->askers[1].request.asker);
	assert_int_equal(f->askers[2].request.asker, 7);
	for (unsigned i = 0; i < MT_RESOLVE_ASKER_MAX; i++) {
		(void)snprintf(name, sizeof(name), "held%u.example", i);
		assert_int_equal(ask(f, 0, name), MT_E_AGAIN);
		mt_resolve_cancel(&f->askers[0].request);
	}
	assert_int_equal(ask(f, 0, "one.more"), MT_E_LIMIT);
	assert_int_equal(mt_counter_get(&f->counters.dns_refused), 1);
	/* What is asked for already costs nothing, and others are not concerned. */
	assert_int_equal(ask(f, 0, "held7.example"), MT_E_AGAIN);
	assert_int_equal(ask(f, 1, "one.more"), MT_E_AGAIN);
	assert_int_equal(ask(f, 2, "two.more"), MT_E_AGAIN);
	run(f, 2);
	assert_int_equal(f->askers[1].count, 2);
	assert_int_equal(f->askers[2].count, 2);
	/* Once they are over, they are forgotten. */
	answer_held();
	assert_int_equal(ask(f, 3, "three.more"), MT_E_AGAIN);
	run(f, 2);
	assert_int_equal(f->askers[0].err, MT_E_DNS);
	assert_int_equal(ask(f, 0, "one.more.now"), MT_E_AGAIN);
	run(f, 1);
	assert_int_equal(f->askers[0].count, 2);
}

/* The table is full of names that nobody waits for: they make room for those that somebody does. */
static void test_cancelled_make_room(void **state)
{
	struct fixture *f = *state;
	char name[32];

	for (unsigned i = 0; i < MT_RESOLVE_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "black%u.example", i);
		f->askers[0].request.asker = i;
		assert_int_equal(ask(f, 0, name), MT_E_AGAIN);
		mt_resolve_cancel(&f->askers[0].request);
		if (i % 8 == 0) {
			(void)uv_run(&f->loop, UV_RUN_NOWAIT); /* the server reads along */
		}
	}
	assert_int_equal(ask(f, 1, "www.example"), MT_E_AGAIN);
	run(f, 1);
	assert_int_equal(f->askers[1].count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_lookup_both_families_then_cached, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookup_shares_a_query, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookup_localhost_asks_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookup_unknown_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookup_beside_black_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_from_on_done, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_from_on_done, setup, teardown),
		cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled_make_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
