/* links: proto/wire/reassembly.c proto/wire/extended.c proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/reassembly.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct world {
	struct mt_reassembly_pool pool;
	struct mt_reassembly r;
	uint8_t out[MT_UDP_PAYLOAD_MAX];
	size_t len;
	size_t blocks;
	bool out_of_memory;
};

static void *alloc(void *user, size_t len)
{
	struct world *w = user;

	if (w->out_of_memory) {
		return NULL;
	}
	w->blocks++;
	return malloc(len);
}

static void release(void *user, void *ptr)
{
	struct world *w = user;

	w->blocks -= ptr != NULL ? 1 : 0;
	free(ptr);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mt_allocator mem = {alloc, release, w};

	assert_non_null(w);
	mt_reassembly_pool_init(&w->pool, &mem);
	mt_reassembly_init(&w->r, &w->pool);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	mt_reassembly_clear(&w->r);
	assert_int_equal(w->pool.bytes, 0);
	assert_int_equal(w->blocks, 0);
	assert_true(LIST_EMPTY(&w->pool.busy));
	free(w);
	return 0;
}

static struct mt_extended fragment(uint32_t session, uint16_t packet, uint8_t number, uint8_t count,
	const void *payload, size_t len)
{
	return (struct mt_extended){
		.session = session,
		.packet = packet,
		.fragment = number,
		.count = count,
		.datagram = {.port = 53,
			.host = "a.example",
			.host_len = 9,
			.payload = payload,
			.payload_len = len},
	};
}

static int add(struct world *w, uint32_t session, uint16_t packet, uint8_t number, uint8_t count,
	const char *payload, uint64_t now_ms)
{
	struct mt_extended f = fragment(session, packet, number, count, payload, strlen(payload));

	return mt_reassembly_add(&w->r, &f, now_ms, w->out, &w->len);
}

static void test_add_any_order(void **state)
{
	struct world *w = *state;

	assert_int_equal(add(w, 1, 1, 2, 3, "c", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 0, 3, "aaa", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 1, 3, "bb", 0), 0);
	assert_int_equal(w->len, 6);
	assert_memory_equal(w->out, "aaabbc", 6);
	assert_int_equal(w->pool.bytes, 0);
}

static void test_add_keeps_sessions_and_packets_apart(void **state)
{
	struct world *w = *state;

	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 2, 1, 1, 2, "z", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 2, 1, 2, "y", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 1, 2, "b", 0), 0);
	assert_memory_equal(w->out, "ab", 2);
	assert_int_equal(w->r.count, 2);
}

static void test_add_duplicate_is_ignored(void **state)
{
	struct world *w = *state;

	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(w->pool.duplicates, 1);
	assert_int_equal(add(w, 1, 1, 1, 2, "b", 0), 0);
	assert_memory_equal(w->out, "ab", 2);
}

static void test_add_contradictions_drop_the_packet(void **state)
{
	struct world *w = *state;
	struct mt_extended f;

	/* another content of the same fragment, of another length or of the same */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
		assert_int_equal(add(w, 1, 1, 0, 2, i == 0 ? "x" : "aa", 0), MT_E_MALFORMED);
		assert_int_equal(w->r.count, 0);
	}
	/* another Count */
	assert_int_equal(add(w, 1, 1, 0, 3, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 1, 2, "a", 0), MT_E_MALFORMED);
	/* another target */
	for (unsigned i = 0; i < 3; i++) {
		f = fragment(1, 1, 1, 2, "b", 1);
		f.datagram.port = i == 0 ? 54 : 53;
		f.datagram.host = i == 1 ? "b.example" : "a.example";
		f.datagram.host_len = i == 2 ? 8 : 9;
		assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
		assert_int_equal(mt_reassembly_add(&w->r, &f, 0, w->out, &w->len), MT_E_MALFORMED);
		assert_int_equal(w->r.count, 0);
	}
	assert_int_equal(w->pool.dropped[MT_REASSEMBLY_MISMATCH], 6);
}

static void test_add_too_long_together(void **state)
{
	struct world *w = *state;
	uint8_t *half = calloc(1, 40000);
	struct mt_extended f = fragment(1, 1, 0, 2, half, 40000);

	assert_non_null(half);
	assert_int_equal(mt_reassembly_add(&w->r, &f, 0, w->out, &w->len), MT_E_AGAIN);
	f.fragment = 1;
	assert_int_equal(mt_reassembly_add(&w->r, &f, 0, w->out, &w->len), MT_E_TOO_LONG);
	f.fragment = 0;
	assert_int_equal(mt_reassembly_add(&w->r, &f, 0, w->out, &w->len), MT_E_AGAIN);
	f.fragment = 1;
	f.datagram.payload_len = MT_UDP_PAYLOAD_MAX - 40000;
	assert_int_equal(mt_reassembly_add(&w->r, &f, 0, w->out, &w->len), 0);
	assert_int_equal(w->len, MT_UDP_PAYLOAD_MAX);
	free(half);
}

static void test_expire_after_its_time(void **state)
{
	struct world *w = *state;

	assert_int_equal(mt_reassembly_due_ms(&w->r), UINT64_MAX);
	assert_int_equal(add(w, 1, 1, 0, 2, "a", 1000), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 2, 0, 2, "a", 2000), MT_E_AGAIN);
	assert_int_equal(mt_reassembly_due_ms(&w->r), 1000 + MT_REASSEMBLY_MS);
	mt_reassembly_expire(&w->r, 999 + MT_REASSEMBLY_MS);
	assert_int_equal(w->r.count, 2);
	/* The second half comes too late. */
	assert_int_equal(add(w, 1, 1, 1, 2, "b", 1000 + MT_REASSEMBLY_MS), MT_E_AGAIN);
	assert_int_equal(w->pool.dropped[MT_REASSEMBLY_LATE], 1);
	assert_int_equal(add(w, 1, 2, 1, 2, "b", 1000 + MT_REASSEMBLY_MS), 0);
}

static void test_add_overtaken_number_comes_again(void **state)
{
	struct world *w = *state;

	assert_int_equal(add(w, 1, 65000, 0, 2, "old", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, (uint16_t)(65000 + 1023), 0, 2, "x", 0), MT_E_AGAIN);
	assert_int_equal(w->r.count, 2);
	assert_int_equal(add(w, 1, (uint16_t)(65000 + 1024), 0, 2, "x", 0), MT_E_AGAIN);
	assert_int_equal(w->r.count, 2);
	assert_int_equal(w->pool.dropped[MT_REASSEMBLY_LATE], 1);
	/* A late fragment of before does not end what is newer. */
	assert_int_equal(add(w, 1, 65000, 1, 2, "b", 0), MT_E_AGAIN);
	assert_int_equal(w->r.count, 3);
}

static void test_add_session_has_a_cap(void **state)
{
	struct world *w = *state;

	for (uint16_t i = 0; i < 2 * MT_REASSEMBLY_SESSION_PACKETS; i++) {
		assert_int_equal(add(w, 1, i, 0, 2, "a", i), MT_E_AGAIN);
	}
	assert_int_equal(w->r.count, MT_REASSEMBLY_SESSION_PACKETS);
	assert_int_equal(w->pool.dropped[MT_REASSEMBLY_FULL], MT_REASSEMBLY_SESSION_PACKETS);
	/* The newest ones are there. */
	assert_int_equal(add(w, 1, 2 * MT_REASSEMBLY_SESSION_PACKETS - 1, 1, 2, "b", 0), 0);
}

/* Fragments that never complete, from as many sessions as one likes. */
static void test_add_connection_has_a_cap(void **state)
{
	static const uint8_t payload[1200];
	struct world *w = *state;

	for (uint32_t i = 0; i < 20000; i++) {
		struct mt_extended f = fragment(
			i / 8, (uint16_t)i, (uint8_t)(i % 200), 201, payload, sizeof(payload));

		assert_int_equal(
			mt_reassembly_add(&w->r, &f, i / 100, w->out, &w->len), MT_E_AGAIN);
		assert_true(w->r.count <= MT_REASSEMBLY_PACKETS);
		assert_true(w->r.bytes <= MT_REASSEMBLY_BYTES);
		assert_int_equal(w->r.bytes, w->pool.bytes);
	}
	/* The same with ever more fragments of the same packets. */
	for (uint32_t i = 0; i < 20000; i++) {
		struct mt_extended f =
			fragment(i % 64, 1, (uint8_t)(i / 64 % 50), 51, payload, sizeof(payload));

		int err = mt_reassembly_add(&w->r, &f, 0, w->out, &w->len);

		assert_true(err == MT_E_AGAIN || err == MT_E_LIMIT);
		assert_true(w->r.bytes <= MT_REASSEMBLY_BYTES);
	}
}

/* All connections together: the heaviest gives way, a light one is served. */
static void test_add_pool_has_a_cap(void **state)
{
	enum { CONNS = 20 };
	static const uint8_t payload[1200];
	struct world *w = *state;
	struct mt_reassembly *conns = calloc(CONNS, sizeof(*conns));

	assert_non_null(conns);
	for (size_t c = 0; c < CONNS; c++) {
		mt_reassembly_init(&conns[c], &w->pool);
		for (uint32_t i = 0; i < 2000; i++) {
			struct mt_extended f = fragment(
				i / 40, 1, (uint8_t)(i % 40), 41, payload, sizeof(payload));

			int err = mt_reassembly_add(&conns[c], &f, 0, w->out, &w->len);

			assert_true(err == MT_E_AGAIN || err == MT_E_LIMIT);
			assert_true(w->pool.bytes <= MT_REASSEMBLY_POOL_BYTES);
		}
	}
	assert_true(w->pool.bytes > MT_REASSEMBLY_POOL_BYTES - 100000);
	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 1, 1, 2, "b", 0), 0);
	for (size_t c = 0; c < CONNS; c++) {
		mt_reassembly_clear(&conns[c]);
	}
	free(conns);
}

static void test_add_without_memory(void **state)
{
	struct world *w = *state;

	w->out_of_memory = true;
	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_LIMIT);
	w->out_of_memory = false;
	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	w->out_of_memory = true;
	assert_int_equal(add(w, 1, 1, 1, 2, "b", 0), -ENOMEM);
	assert_int_equal(w->pool.dropped[MT_REASSEMBLY_MEMORY], 2);
	assert_int_equal(w->r.count, 0);
}

static void test_forget_only_that_session(void **state)
{
	struct world *w = *state;

	assert_int_equal(add(w, 1, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 2, 1, 0, 2, "a", 0), MT_E_AGAIN);
	assert_int_equal(add(w, 1, 2, 0, 2, "a", 0), MT_E_AGAIN);
	mt_reassembly_forget(&w->r, 1);
	assert_int_equal(w->r.count, 1);
	assert_int_equal(add(w, 2, 1, 1, 2, "b", 0), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_add_any_order),
		CASE(test_add_keeps_sessions_and_packets_apart),
		CASE(test_add_duplicate_is_ignored),
		CASE(test_add_contradictions_drop_the_packet),
		CASE(test_add_too_long_together),
		CASE(test_expire_after_its_time),
		CASE(test_add_overtaken_number_comes_again),
		CASE(test_add_session_has_a_cap),
		CASE(test_add_connection_has_a_cap),
		CASE(test_add_pool_has_a_cap),
		CASE(test_add_without_memory),
		CASE(test_forget_only_that_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
