/* links: daemon/relay_targets.c proto/quic/mem.c proto/wire/addr.c proto/wire/err.c */
#include "daemon/relay_targets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MANY 1024

#include <cmocka.h>

struct fixture {
	struct mt_mem *mem;
	struct mt_relay_targets t;
};

static int setup(void **state)
{
	static struct fixture f;

	f.mem = mt_mem_new();
	if (f.mem == NULL) {
		return -1;
	}
	mt_relay_targets_init(&f.t, f.mem, 99);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mt_relay_targets_clear(&f->t);
	mt_mem_free(f->mem);
	return 0;
}

static struct mt_relay_target *add(
	struct mt_relay_targets *t, const char *host, const char *addr, uint64_t now_ms)
{
	struct mt_relay_target *x =
		mt_relay_targets_add(t, 53, host, (uint8_t)strlen(host), now_ms);

	assert_non_null(x);
	if (addr != NULL) {
		assert_int_equal(mt_addr_parse(&x->addr, addr), 0);
	}
	mt_relay_targets_use(t, x, now_ms);
	return x;
}

static struct mt_relay_target *by_addr(struct mt_relay_targets *t, const char *text)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, text), 0);
	return mt_relay_targets_by_addr(t, &addr);
}

static void test_by_text_is_exact(void **state)
{
	struct fixture *f = *state;
	struct mt_relay_target *x;

	assert_null(mt_relay_targets_by_text(&f->t, 53, "dns", 3));
	x = add(&f->t, "dns", NULL, 0);
	assert_ptr_equal(mt_relay_targets_by_text(&f->t, 53, "dns", 3), x);
	assert_null(mt_relay_targets_by_text(&f->t, 54, "dns", 3));
	assert_null(mt_relay_targets_by_text(&f->t, 53, "DNS", 3));
	assert_null(mt_relay_targets_by_text(&f->t, 53, "dn", 2));
}

/* An answer carries the text that the client last used for its source. */
static void test_use_decides_the_text_of_answers(void **state)
{
	struct fixture *f = *state;
	struct mt_relay_target *name = add(&f->t, "dns.example", "192.0.2.1:53", 1);
	struct mt_relay_target *literal = add(&f->t, "192.0.2.1", "192.0.2.1:53", 2);

	assert_ptr_equal(by_addr(&f->t, "192.0.2.1:53"), literal);
	assert_null(by_addr(&f->t, "192.0.2.1:54"));
	assert_null(by_addr(&f->t, "192.0.2.2:53"));
	mt_relay_targets_use(&f->t, name, 3);
	assert_ptr_equal(by_addr(&f->t, "192.0.2.1:53"), name);
	mt_relay_targets_drop(&f->t, name);
	assert_null(by_addr(&f->t, "192.0.2.1:53"));
	mt_relay_targets_use(&f->t, literal, 4);
	assert_ptr_equal(by_addr(&f->t, "192.0.2.1:53"), literal);
}

/* A name that is looked up is in no answer's way, and found by its address afterwards. */
static void test_use_without_address(void **state)
{
	struct fixture *f = *state;
	struct mt_relay_target *x = add(&f->t, "dns.example", NULL, 1);

	assert_false(x->answers);
	assert_int_equal(mt_addr_parse(&x->addr, "[2001:db8::1]:53"), 0);
	mt_relay_targets_use(&f->t, x, 2);
	assert_ptr_equal(by_addr(&f->t, "[2001:db8::1]:53"), x);
}

static void test_oldest_follows_use(void **state)
{
	struct fixture *f = *state;
	struct mt_relay_target *a = add(&f->t, "a", "192.0.2.1:53", 1);
	struct mt_relay_target *b = add(&f->t, "b", "192.0.2.2:53", 2);

	assert_ptr_equal(mt_relay_targets_oldest(&f->t), a);
	mt_relay_targets_use(&f->t, a, 3);
	assert_ptr_equal(mt_relay_targets_oldest(&f->t), b);
	mt_relay_targets_drop(&f->t, b);
	mt_relay_targets_drop(&f->t, a);
	assert_null(mt_relay_targets_oldest(&f->t));
	assert_int_equal(f->t.count, 0);
}

static void test_add_many(void **state)
{
	struct fixture *f = *state;
	char host[16], addr[32];

	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(host, sizeof(host), "h%u", i);
		(void)snprintf(addr, sizeof(addr), "192.0.2.1:%u", i + 1);
		(void)add(&f->t, host, addr, i);
	}
	for (unsigned i = 0; i < MANY; i++) {
		struct mt_relay_target *x;

		(void)snprintf(host, sizeof(host), "h%u", i);
		(void)snprintf(addr, sizeof(addr), "192.0.2.1:%u", i + 1);
		x = by_addr(&f->t, addr);
		assert_non_null(x);
		assert_int_equal(x->host_len, strlen(host));
		assert_memory_equal(x->host, host, strlen(host));
		assert_ptr_equal(
			mt_relay_targets_by_text(&f->t, 53, host, (uint8_t)strlen(host)), x);
	}
	mt_relay_targets_clear(&f->t);
	assert_null(by_addr(&f->t, "192.0.2.1:1"));
	(void)add(&f->t, "again", "192.0.2.1:1", 0);
	assert_int_equal(f->t.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_by_text_is_exact, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_use_decides_the_text_of_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_use_without_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oldest_follows_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
