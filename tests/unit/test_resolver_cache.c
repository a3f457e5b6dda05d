/* links: daemon/resolver_cache.c proto/quic/mem.c proto/wire/addr.c proto/wire/err.c */
#include "daemon/resolver.h"
#include "daemon/resolver_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct mt_mem *mem;
	struct mt_resolver_cache *cache;
};

static int setup(void **state)
{
	static struct fixture f;

	f.mem = mt_mem_new();
	f.cache = f.mem != NULL ? mt_resolver_cache_new(f.mem, 42) : NULL;
	*state = &f;
	return f.cache != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mt_resolver_cache_free(f->cache);
	mt_mem_free(f->mem);
	return 0;
}

static void *dropped;

static void on_drop(void *query)
{
	dropped = query;
}

static struct mt_name *add(struct mt_resolver_cache *cache, const char *name)
{
	struct mt_name *n = NULL;

	assert_int_equal(mt_resolver_cache_add(cache, &n, name, strlen(name), on_drop), 0);
	return n;
}

static struct mt_name *find(struct mt_resolver_cache *cache, const char *name, uint64_t now_ms)
{
	return mt_resolver_cache_find(cache, name, strlen(name), now_ms);
}

static void answer(
	struct mt_resolver_cache *cache, struct mt_name *n, uint64_t ttl_ms, uint64_t now_ms)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, "192.0.2.1:0"), 0);
	mt_resolver_cache_set(cache, n, 0, &addr, 1, ttl_ms, now_ms);
}

static void test_find_ignores_case(void **state)
{
	struct fixture *f = *state;
	struct mt_name *n = add(f->cache, "Example.COM");

	assert_string_equal(n->text, "example.com");
	assert_ptr_equal(find(f->cache, "eXample.com", 0), n);
	assert_null(find(f->cache, "example.co", 0));
	assert_null(find(f->cache, "example.org", 0));
}

static void test_set_clamps_the_ttl(void **state)
{
	struct fixture *f = *state;

	answer(f->cache, add(f->cache, "short"), 0, 1000);
	assert_non_null(find(f->cache, "short", 1000 + MT_RESOLVE_TTL_MIN_MS - 1));
	assert_null(find(f->cache, "short", 1000 + MT_RESOLVE_TTL_MIN_MS));
	answer(f->cache, add(f->cache, "long"), UINT64_MAX, 1000);
	assert_non_null(find(f->cache, "long", 1000 + MT_RESOLVE_TTL_MAX_MS - 1));
	assert_null(find(f->cache, "long", 1000 + MT_RESOLVE_TTL_MAX_MS));
	assert_int_equal(mt_resolver_cache_count(f->cache), 0);
}

static void test_set_remembers_failures(void **state)
{
	struct fixture *f = *state;
	struct mt_name *n = add(f->cache, "nowhere");

	mt_resolver_cache_set(f->cache, n, MT_E_DNS, NULL, 0, MT_RESOLVE_UNKNOWN_MS, 0);
	n = find(f->cache, "nowhere", 1);
	assert_non_null(n);
	assert_int_equal(n->state, MT_NAME_UNKNOWN);
	assert_int_equal(n->err, MT_E_DNS);
	assert_null(find(f->cache, "nowhere", MT_RESOLVE_UNKNOWN_MS));
}

static void test_set_caps_addresses(void **state)
{
	struct fixture *f = *state;
	struct mt_name *n = add(f->cache, "many");
	struct mt_addr addrs[MT_RESOLVE_ADDRS_MAX + 4];

	for (size_t i = 0; i < MT_RESOLVE_ADDRS_MAX + 4; i++) {
		assert_int_equal(mt_addr_parse(&addrs[i], "192.0.2.1:0"), 0);
	}
	mt_resolver_cache_set(f->cache, n, 0, addrs, MT_RESOLVE_ADDRS_MAX + 4, 1000, 0);
	assert_int_equal(n->count, MT_RESOLVE_ADDRS_MAX);
}

static void test_add_evicts_the_least_used(void **state)
{
	struct fixture *f = *state;
	char name[32];

	for (unsigned i = 0; i < MT_RESOLVE_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "host%u", i);
		answer(f->cache, add(f->cache, name), 60000, 0);
	}
	assert_non_null(find(f->cache, "host0", 1)); /* used: host1 is the oldest now */
	(void)add(f->cache, "another");              /* pending */
	assert_int_equal(mt_resolver_cache_count(f->cache), MT_RESOLVE_NAMES_MAX);
	assert_non_null(find(f->cache, "host0", 1));
	assert_null(find(f->cache, "host1", 1));
	assert_non_null(find(f->cache, "host2", 1));
}

static void test_add_refuses_when_all_wait(void **state)
{
	struct fixture *f = *state;
	struct mt_resolve request = {.name = NULL};
	struct mt_name *n = NULL;
	struct mt_name *first = NULL;
	char name[32];

	for (unsigned i = 0; i < MT_RESOLVE_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "host%u", i);
		n = add(f->cache, name);
		first = first != NULL ? first : n;
	}
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, "another", 7, on_drop), MT_E_LIMIT);
	/* An answer that somebody is yet to be told stays too. */
	LIST_INSERT_HEAD(&first->waiting, &request, link);
	answer(f->cache, first, 60000, 0);
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, "another", 7, on_drop), MT_E_LIMIT);
	LIST_REMOVE(&request, link);
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, "another", 7, on_drop), 0);
	assert_null(find(f->cache, "host0", 1));
	/* A pending one that nobody waits for any more goes, and its query is told; one that
	 * somebody waits for again does not. */
	first = find(f->cache, "host7", 1);
	first->query = &request;
	mt_resolver_cache_abandon(f->cache, first, true);
	mt_resolver_cache_abandon(f->cache, find(f->cache, "host6", 1), true);
	mt_resolver_cache_abandon(f->cache, find(f->cache, "host6", 1), false);
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, "more", 4, on_drop), 0);
	assert_ptr_equal(dropped, &request);
	assert_null(find(f->cache, "host7", 1));
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, "most", 4, on_drop), MT_E_LIMIT);
	mt_resolver_cache_abandon(f->cache, find(f->cache, "host8", 1), true);
	answer(f->cache, find(f->cache, "host8", 1), 60000, 0); /* it is worth keeping */
	assert_non_null(find(f->cache, "host8", 1));
}

static void test_add_refuses_long_names(void **state)
{
	struct fixture *f = *state;
	struct mt_name *n = NULL;
	char name[300];

	memset(name, 'a', sizeof(name));
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, name, 0, on_drop), MT_E_MALFORMED);
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, name, 256, on_drop), MT_E_MALFORMED);
	assert_int_equal(mt_resolver_cache_add(f->cache, &n, name, 255, on_drop), 0);
	assert_null(n->addrs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find_ignores_case, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_clamps_the_ttl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_remembers_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_caps_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_evicts_the_least_used, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_refuses_when_all_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_refuses_long_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
