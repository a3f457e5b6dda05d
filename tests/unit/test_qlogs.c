/* links: daemon/qlogs.c proto/quic/qlog.c proto/quic/mem.c */
#include "daemon/qlogs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void put(struct mt_qlogs *q, uint64_t number, const char *text, bool wanted)
{
	struct mt_qlog_part part = {.data = text, .len = strlen(text)};

	assert_int_equal(mt_qlogs_put(q, number, 7, &part), wanted);
}

static uint64_t start(struct mt_qlogs *q, const char *client)
{
	uint64_t number = 0;

	assert_int_equal(mt_qlogs_start(q, client, 1, 0, &number), 0);
	assert_true(number > 0);
	return number;
}

static void test_check_version(void **state)
{
	static const struct {
		int version;
		const char *text;
		bool safe;
	} rows[] = {{0x010b00, "1.11.0", false}, {0x011600, "1.22.0", false},
		{0x011601, "1.22.1", true}, {0x011700, "1.23.0", true}, {0x020000, "2.0.0", true},
		{0, "0", false}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char why[512] = "";

		assert_int_equal(
			mt_qlogs_check(rows[i].version, rows[i].text, why, sizeof(why)) == 0,
			rows[i].safe);
		assert_int_equal(strstr(why, rows[i].text) != NULL, !rows[i].safe);
		assert_int_equal(strstr(why, "CVE-2026-40170") != NULL, !rows[i].safe);
	}
}

static void test_put_take(void **state)
{
	struct mt_qlogs_record r;
	struct mt_qlogs_batch b;
	struct mt_qlogs q;
	bool ready = true;
	uint64_t number;

	(void)state;
	mt_qlogs_init(&q);
	assert_false(mt_qlogs_wanted(&q));
	assert_int_equal(mt_qlogs_find(&q, "a"), 0);
	number = start(&q, "a");
	assert_true(mt_qlogs_wanted(&q));
	assert_int_equal(mt_qlogs_find(&q, "a"), number);
	assert_int_equal(mt_qlogs_find(&q, "b"), 0);
	assert_int_equal(mt_qlogs_ready(&q, number, &ready), 0);
	assert_false(ready);
	put(&q, number, "one", true);
	put(&q, number + 1, "none's", false);
	assert_true(mt_qlogs_put(&q, number, 8, &(struct mt_qlog_part){.lost = 3, .end = true}));
	assert_int_equal(mt_qlogs_ready(&q, number, &ready), 0);
	assert_true(ready);
	assert_int_equal(mt_qlogs_take(&q, number, 5, &b), 0);
	assert_int_equal(b.lost, 3);
	assert_true(mt_qlogs_next(&b, &r));
	assert_int_equal(r.connection, 7);
	assert_int_equal(r.len, 3);
	assert_memory_equal(r.data, "one", 3);
	assert_false(r.end);
	assert_true(mt_qlogs_next(&b, &r));
	assert_int_equal(r.connection, 8);
	assert_int_equal(r.len, 0);
	assert_true(r.end);
	assert_false(mt_qlogs_next(&b, &r));
	free(b.queue);
	assert_int_equal(mt_qlogs_take(&q, number, 5, &b), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.lost, 0);
	assert_int_equal(mt_qlogs_take(&q, number + 1, 5, &b), MT_E_NOT_FOUND);
	mt_qlogs_deinit(&q);
}

/* The queue has its bound; what does not fit is counted, and told once. */
static void test_put_full(void **state)
{
	static char text[64 * 1024 + 1];
	struct mt_qlogs_trace seen;
	struct mt_qlogs_batch b;
	struct mt_qlogs q;
	uint64_t number;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	mt_qlogs_init(&q);
	number = start(&q, "a");
	for (unsigned i = 0; i < 20; i++) {
		put(&q, number, text, true);
	}
	assert_true(mt_qlogs_get(&q, 0, &seen));
	assert_int_equal(seen.records, 15); /* heads need room too */
	assert_int_equal(seen.lost, 5);
	assert_null(seen.queue);
	assert_int_equal(mt_qlogs_take(&q, number, 0, &b), 0);
	assert_true(b.len <= MT_QLOGS_QUEUE_BYTES);
	assert_int_equal(b.lost, 5);
	free(b.queue);
	put(&q, number, text, true);
	assert_int_equal(mt_qlogs_take(&q, number, 0, &b), 0);
	assert_int_equal(b.lost, 0);
	free(b.queue);
	mt_qlogs_deinit(&q);
}

static void test_stop(void **state)
{
	struct mt_qlogs_batch b;
	struct mt_qlogs q;
	bool ready = false;
	uint64_t number;
	uint64_t other;

	(void)state;
	mt_qlogs_init(&q);
	number = start(&q, "a");
	assert_int_equal(mt_qlogs_start(&q, "a", 1, 0, &other), MT_E_EXISTS);
	other = start(&q, "b");
	put(&q, number, "one", true);
	assert_int_equal(mt_qlogs_stop(&q, "c", 0), 0);
	assert_int_equal(mt_qlogs_stop(&q, "a", 0), 1);
	assert_int_equal(mt_qlogs_stop(&q, "a", 0), 0);
	put(&q, number, "two", false);
	assert_true(mt_qlogs_wanted(&q));
	assert_int_equal(mt_qlogs_find(&q, "a"), 0);
	assert_int_equal(mt_qlogs_stop(&q, NULL, other), 1);
	assert_false(mt_qlogs_wanted(&q));
	assert_int_equal(mt_qlogs_ready(&q, other, &ready), 0);
	assert_true(ready);
	assert_int_equal(mt_qlogs_take(&q, number, 0, &b), 0);
	assert_true(b.stopped && b.len > 0);
	free(b.queue);
	assert_int_equal(mt_qlogs_take(&q, number, 0, &b), MT_E_NOT_FOUND);
	(void)start(&q, "a");
	mt_qlogs_deinit(&q);
}

/* A reader that is gone leaves nothing behind. */
static void test_expire(void **state)
{
	struct mt_qlogs_batch b;
	struct mt_qlogs q;
	char name[2] = "a";
	uint64_t number;

	(void)state;
	mt_qlogs_init(&q);
	number = start(&q, "x");
	for (unsigned i = 1; i < MT_QLOGS_MAX; i++, name[0]++) {
		(void)start(&q, name);
	}
	assert_int_equal(mt_qlogs_start(&q, "one more", 1, 0, &(uint64_t){0}), MT_E_LIMIT);
	assert_int_equal(mt_qlogs_expire(&q, MT_QLOGS_LEASE_MS - 1), MT_QLOGS_MAX);
	put(&q, number, "one", true);
	assert_int_equal(mt_qlogs_take(&q, number, 1000, &b), 0);
	free(b.queue);
	put(&q, number, "two", true);
	assert_int_equal(mt_qlogs_expire(&q, MT_QLOGS_LEASE_MS), 1);
	assert_int_equal(mt_qlogs_expire(&q, 1000 + MT_QLOGS_LEASE_MS), 0);
	assert_false(mt_qlogs_wanted(&q));
	put(&q, number, "three", false);
	mt_qlogs_deinit(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_version),
		cmocka_unit_test(test_put_take),
		cmocka_unit_test(test_put_full),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_expire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
