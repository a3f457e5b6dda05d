/* links: proto/quic/cid.c proto/quic/mem.c */
#include "proto/quic/cid.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const uint8_t key[16] = {1, 2, 3};

static void id_of(uint8_t out[10], unsigned n)
{
	memset(out, 0, 10);
	memcpy(out, &n, sizeof(n));
}

static void test_add_find_remove(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_cid_table *t = mt_cid_table_new(mem, key);
	struct mt_cid_owner a = {0}, b = {0};

	(void)state;
	assert_int_equal(mt_cid_add(t, &a, (const uint8_t *)"abc", 3), 0);
	assert_int_equal(mt_cid_add(t, &b, (const uint8_t *)"abc", 3), MT_E_EXISTS);
	assert_int_equal(mt_cid_add(t, &b, (const uint8_t *)"abcd", 4), 0);
	assert_int_equal(mt_cid_add(t, &b, (const uint8_t *)"", 0), 0);
	assert_ptr_equal(mt_cid_find(t, (const uint8_t *)"abc", 3), &a);
	assert_ptr_equal(mt_cid_find(t, (const uint8_t *)"abcd", 4), &b);
	assert_ptr_equal(mt_cid_find(t, (const uint8_t *)"", 0), &b);
	assert_null(mt_cid_find(t, (const uint8_t *)"ab", 2));
	assert_ptr_equal(mt_cid_find(t, (const uint8_t *)"abcd", 4), &b);
	mt_cid_remove(t, &b, (const uint8_t *)"abcd", 4);
	mt_cid_remove(t, &b, (const uint8_t *)"abcd", 4);
	assert_null(mt_cid_find(t, (const uint8_t *)"abcd", 4));
	assert_int_equal(b.count, 1);
	mt_cid_remove_all(t, &a);
	mt_cid_remove_all(t, &b);
	assert_int_equal(mt_cid_count(t), 0);
	mt_cid_table_free(t);
	mt_mem_free(mem);
}

static void test_overlong_id(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_cid_table *t = mt_cid_table_new(mem, key);
	struct mt_cid_owner a = {0};
	uint8_t id[255] = {0};

	(void)state;
	for (size_t len = NGTCP2_MAX_CIDLEN + 1; len <= sizeof(id); len++) {
		assert_int_equal(mt_cid_add(t, &a, id, len), MT_E_TOO_LONG);
		assert_null(mt_cid_find(t, id, len));
	}
	mt_cid_table_free(t);
	mt_mem_free(mem);
}

/* Through several enlargements; one owner's ids move to another at once. */
static void test_many_ids(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_cid_table *t = mt_cid_table_new(mem, key);
	struct mt_cid_owner even = {0}, odd = {0}, heir = {0};
	uint8_t id[10];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		id_of(id, i);
		assert_int_equal(mt_cid_add(t, i % 2 ? &odd : &even, id, sizeof(id)), 0);
	}
	mt_cid_move_all(&odd, &heir);
	assert_int_equal(odd.count, 0);
	assert_int_equal(heir.count, 10000);
	for (unsigned i = 0; i < 20000; i++) {
		id_of(id, i);
		assert_ptr_equal(mt_cid_find(t, id, sizeof(id)), i % 2 ? &heir : &even);
	}
	mt_cid_remove_all(t, &even);
	assert_int_equal(mt_cid_count(t), 10000);
	mt_cid_remove_all(t, &heir);
	mt_cid_table_free(t);
	assert_int_equal(mt_mem_used(mem), 0);
	mt_mem_free(mem);
}

/* At every moment of an enlargement each id is found, and can be taken out. */
static void test_ids_while_growing(void **state)
{
	struct mt_mem *mem = mt_mem_new();
	struct mt_cid_table *t = mt_cid_table_new(mem, key);
	struct mt_cid_owner owner = {0};
	uint8_t id[10];

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		id_of(id, i);
		assert_int_equal(mt_cid_add(t, &owner, id, sizeof(id)), 0);
		assert_int_equal(mt_cid_add(t, &owner, id, sizeof(id)), MT_E_EXISTS);
		for (unsigned k = i % 7; k <= i; k += 7) {
			id_of(id, k);
			assert_true((mt_cid_find(t, id, sizeof(id)) != NULL) ==
				    (k % 5 != 0 || k + 700 >= i));
		}
		if (i >= 700 && (i - 700) % 5 == 0) {
			id_of(id, i - 700);
			mt_cid_remove(t, &owner, id, sizeof(id));
			assert_null(mt_cid_find(t, id, sizeof(id)));
		}
	}
	mt_cid_remove_all(t, &owner);
	assert_int_equal(mt_cid_count(t), 0);
	mt_cid_table_free(t);
	mt_mem_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_find_remove),
		cmocka_unit_test(test_overlong_id),
		cmocka_unit_test(test_many_ids),
		cmocka_unit_test(test_ids_while_growing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
