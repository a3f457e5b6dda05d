/* links: daemon/account.c daemon/accounts.c proto/io/bucket.c store/store.c store/store_db.c
 * store/store_schema.c store/store_settings.c store/store_clients.c store/store_usage.c
 * store/store_certs.c store/store_secrets.c store/store_backup.c store/store_audit.c
 * proto/wire/err.c proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c
 * proto/wire/profile.c proto/wire/encode.c proto/wire/bytes.c store/store_column.c
 * tests/unit/store_folder.c
 */
#include "daemon/accounts.h"
#include "tests/unit/store_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MANY 300

static struct mt_store_client client_of(unsigned number)
{
	struct mt_store_client client = {.id = number + 1};

	client.fingerprint[0] = 7; /* in the same slot of any small table */
	client.fingerprint[8] = (uint8_t)number;
	client.fingerprint[9] = (uint8_t)(number >> 8);
	return client;
}

/* Publishes one client; the account is the table's. */
static struct mt_account *publish(struct mt_accounts *t, const struct mt_store_client *client)
{
	struct mt_account *a = NULL;

	mt_accounts_begin(t);
	assert_int_equal(mt_accounts_take(t, client, &a), 0);
	mt_accounts_commit(t);
	mt_account_unref(a);
	return a;
}

static void test_connections(void **state)
{
	struct mt_account *a = mt_account_new();
	struct mt_addr from;

	(void)state;
	assert_non_null(a);
	assert_int_equal(mt_addr_parse(&from, "192.0.2.1:4000"), 0);
	for (int i = 0; i < 100; i++) {
		assert_true(mt_account_enter(a, &from));
	}
	atomic_store(&a->max_connections, 100);
	assert_false(mt_account_enter(a, &from));
	mt_account_leave(a);
	assert_true(mt_account_enter(a, &from));
	/* A lower limit ends nobody, and lets nobody in. */
	atomic_store(&a->max_connections, 1);
	mt_account_leave(a);
	assert_false(mt_account_enter(a, &from));
	assert_int_equal(atomic_load(&a->connections), 99);
	assert_true(atomic_load(&a->last_seen) > 1700000000);
	mt_account_unref(a);
	mt_account_unref(NULL);
}

static void *count_on(void *arg)
{
	for (int i = 0; i < 10000; i++) {
		mt_account_count(arg, 3, 2);
	}
	return NULL;
}

static void test_count_threads(void **state)
{
	struct mt_account *a = mt_account_new();
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, count_on, a), 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	assert_int_equal(atomic_load(&a->bytes_received), 120000);
	assert_int_equal(atomic_load(&a->bytes_sent), 80000);
	mt_account_unref(a);
}

/* Many accounts, published again and again: the same ones stay, those that are gone go. */
static void test_publications(void **state)
{
	struct mt_accounts t = {.slots = NULL};
	struct mt_account *kept[MANY];
	struct mt_store_client client;

	(void)state;
	client = client_of(0);
	assert_null(mt_accounts_find(&t, client.fingerprint));
	mt_accounts_begin(&t);
	for (unsigned i = 0; i < MANY; i++) {
		client = client_of(i);
		assert_int_equal(mt_accounts_take(&t, &client, &kept[i]), 0);
	}
	mt_accounts_commit(&t);
	assert_int_equal(t.count, MANY);
	mt_account_count(kept[5], 10, 20);
	mt_accounts_begin(&t);
	for (unsigned i = 1; i < MANY; i += 2) {
		struct mt_account *again = NULL;

		client = client_of(i);
		client.limits.rate_bits = 8000;
		assert_int_equal(mt_accounts_take(&t, &client, &again), 0);
		assert_ptr_equal(again, kept[i]);
		mt_account_unref(again);
	}
	mt_accounts_commit(&t);
	assert_int_equal(t.count, MANY / 2);
	for (unsigned i = 0; i < MANY; i++) {
		client = client_of(i);
		assert_ptr_equal(
			mt_accounts_find(&t, client.fingerprint), i % 2 == 1 ? kept[i] : NULL);
		assert_int_equal(atomic_load(&kept[i]->to_client.rate), i % 2 == 1 ? 1000 : 0);
		mt_account_unref(kept[i]);
	}
	/* A publication that does not come to its end forgets nothing. */
	mt_accounts_begin(&t);
	assert_int_equal(t.count, MANY / 2);
	mt_accounts_deinit(&t);
}

static void on_reached(struct mt_account *account, void *user)
{
	(void)account;
	++*(int *)user;
}

/* One that is dropped changes nothing: no limit, no id, no quota that starts anew, no account. */
static void test_publication_dropped(void **state)
{
	struct mt_accounts t = {.slots = NULL};
	struct mt_store_client client = client_of(1);
	struct mt_store_client other = client_of(2);
	struct mt_store_client changed;
	struct mt_account *taken = NULL;
	struct mt_account *a;
	int told = 0;

	(void)state;
	client.limits.quota_bytes = 3000;
	a = publish(&t, &client);
	mt_account_count(a, 3000, 0);
	changed = client;
	changed.id = 77;
	changed.limits.quota_period = MT_QUOTA_DAY;
	changed.limits.rate_bits = 8000;
	other.usage.bytes_sent = 5;
	mt_accounts_begin(&t);
	assert_int_equal(mt_accounts_take(&t, &changed, &taken), 0);
	assert_ptr_equal(taken, a);
	mt_account_unref(taken);
	assert_int_equal(mt_accounts_take(&t, &other, &taken), 0);
	mt_account_unref(taken);
	assert_true(mt_account_is_exhausted(a));
	assert_int_equal(a->client_id, client.id);
	assert_int_equal(atomic_load(&a->to_client.rate), 0);
	assert_null(mt_accounts_find(&t, other.fingerprint));
	mt_accounts_tick(&t, (int64_t)time(NULL), on_reached, &told);
	assert_int_equal(told, 1);
	/* A publication that knows neither, and is dropped as well. */
	mt_accounts_begin(&t);
	assert_ptr_equal(mt_accounts_find(&t, client.fingerprint), a);
	/* What the dropped one read is not what holds when the client comes for good. */
	other.usage.bytes_sent = 9;
	assert_int_equal(mt_accounts_take(&t, &client, &taken), 0);
	mt_account_unref(taken);
	assert_int_equal(mt_accounts_take(&t, &other, &taken), 0);
	mt_accounts_commit(&t);
	assert_int_equal(atomic_load(&taken->bytes_sent), 9);
	assert_ptr_equal(mt_accounts_find(&t, other.fingerprint), taken);
	mt_account_unref(taken);
	assert_true(mt_account_is_exhausted(a));
	mt_accounts_deinit(&t);
}

static void test_period_start(void **state)
{
	(void)state;
	/* 2026-11-23T05:37:00Z */
	assert_int_equal(mt_quota_period_start(MT_QUOTA_TOTAL, 1795412220), 1795412220);
	assert_int_equal(mt_quota_period_start(MT_QUOTA_DAY, 1795412220), 1795392000);
	assert_int_equal(mt_quota_period_start(MT_QUOTA_MONTH, 1795412220), 1793491200);
	assert_int_equal(mt_quota_period_start(MT_QUOTA_MONTH, 1793491200), 1793491200);
}

static void test_quota(void **state)
{
	struct mt_accounts t = {.slots = NULL};
	struct mt_store_client client = client_of(1);
	int64_t now = (int64_t)time(NULL);
	struct mt_store_usage usage;
	struct mt_account *a;
	int told = 0;

	(void)state;
	client.usage.bytes_received = 5000;
	a = publish(&t, &client);
	mt_account_count(a, 1000, 1000);
	assert_false(mt_account_is_exhausted(a));
	/* What passed before the quota was set is not held against it. */
	client.limits.quota_bytes = 3000;
	client.limits.quota_period = MT_QUOTA_DAY;
	assert_ptr_equal(publish(&t, &client), a);
	mt_account_count(a, 1000, 1999);
	assert_false(mt_account_is_exhausted(a));
	mt_accounts_tick(&t, now, on_reached, &told);
	assert_int_equal(told, 0);
	mt_account_count(a, 1, 0);
	assert_true(mt_account_is_exhausted(a));
	mt_accounts_tick(&t, now, on_reached, &told);
	mt_accounts_tick(&t, now - 86400 * 3, on_reached, &told); /* the clock was set back */
	assert_int_equal(told, 1);
	mt_account_usage(a, &usage);
	assert_int_equal(usage.period_bytes, 3000);
	assert_int_equal(usage.bytes_received, 7001);
	/* Raised, it goes on from where it was. */
	client.limits.quota_bytes = 3001;
	publish(&t, &client);
	assert_false(mt_account_is_exhausted(a));
	mt_account_count(a, 1, 0);
	mt_accounts_tick(&t, now, on_reached, &told);
	assert_int_equal(told, 2);
	/* The next day all of it is there again. */
	mt_accounts_tick(&t, now + 86400, on_reached, &told);
	assert_false(mt_account_is_exhausted(a));
	mt_account_usage(a, &usage);
	assert_int_equal(usage.period_bytes, 0);
	assert_int_equal(usage.period_start, mt_quota_period_start(MT_QUOTA_DAY, now + 86400));
	mt_account_count(a, 0, 3001);
	mt_accounts_tick(&t, now + 86400, on_reached, &told);
	assert_int_equal(told, 3);
	/* A clock that was years ahead for a moment began a period that must not last for years,
	 * and what it has counted stays. */
	mt_accounts_tick(&t, now + 3650ll * 86400, on_reached, &told);
	mt_account_count(a, 0, 3001);
	mt_accounts_tick(&t, now + 86400, on_reached, &told);
	assert_true(mt_account_is_exhausted(a));
	assert_int_equal(told, 4);
	mt_accounts_tick(&t, now + 2 * 86400, on_reached, &told);
	assert_false(mt_account_is_exhausted(a));
	client.limits.quota_bytes = 0;
	publish(&t, &client);
	assert_false(mt_account_is_exhausted(a));
	mt_accounts_deinit(&t);
}

/* Written while they run, read at the next start: the same numbers, the quota where it was. */
static void test_save(void **state)
{
	static const uint8_t key[32] = {1};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	const struct mt_store_limits limits = {.quota_bytes = 1000, .quota_period = MT_QUOTA_MONTH};
	struct mt_accounts t = {.slots = NULL};
	struct mt_store_client client;
	struct mt_store_usage usage;
	struct mt_addr from;
	struct mt_account *a;

	assert_int_equal(mt_store_client_add(store, "x", key, &limits, &client), 0);
	a = publish(&t, &client);
	assert_int_equal(mt_addr_parse(&from, "192.0.2.1:4000"), 0);
	assert_true(mt_account_enter(a, &from));
	mt_account_count(a, 400, 200);
	assert_int_equal(mt_accounts_save(&t, store), 0);
	mt_account_count(a, 100, 0);
	assert_int_equal(mt_accounts_save(&t, store), 0);
	assert_int_equal(mt_accounts_save(&t, store), 0);
	mt_accounts_deinit(&t);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "x", &client), 0);
	a = publish(&t, &client);
	mt_account_usage(a, &usage);
	assert_int_equal(usage.bytes_received, 500);
	assert_int_equal(usage.bytes_sent, 200);
	assert_int_equal(usage.period_bytes, 700);
	assert_string_equal(usage.last_address, "192.0.2.1:4000");
	assert_true(usage.last_seen > 1700000000);
	assert_int_equal(atomic_load(&a->connections), 0);
	assert_false(mt_account_is_exhausted(a));
	mt_account_count(a, 300, 0);
	assert_true(mt_account_is_exhausted(a));
	/* A client that is gone meanwhile is no reason to fail. */
	assert_int_equal(mt_store_client_remove(store, "x", &client), 0);
	assert_int_equal(mt_accounts_save(&t, store), 0);
	mt_accounts_deinit(&t);
	mt_store_close(store);
}

/* Into the store of a restore: under its ids, before it is in force. */
static void test_carry(void **state)
{
	static const uint8_t key[32] = {1};
	static const uint8_t new_key[32] = {2};
	struct mt_store *store = store_must_open(*state);
	struct mt_accounts t = {.slots = NULL};
	const struct mt_store_limits day = {.quota_bytes = 900, .quota_period = MT_QUOTA_DAY};
	struct mt_store_client gone = client_of(3);
	struct mt_store_client client;
	struct mt_store_client fresh;
	struct mt_account *taken = NULL;
	struct mt_account *a;

	assert_int_equal(mt_store_client_add(store, "new", new_key, NULL, &fresh), 0);
	assert_int_equal(mt_store_client_add(store, "x", key, &day, &client), 0);
	client.id = 40; /* as it was in the live store */
	client.limits.quota_period = MT_QUOTA_TOTAL;
	mt_accounts_begin(&t);
	assert_int_equal(mt_accounts_take(&t, &gone, &taken), 0);
	mt_account_unref(taken);
	assert_int_equal(mt_accounts_take(&t, &client, &a), 0);
	mt_accounts_commit(&t);
	mt_account_unref(a);
	mt_account_count(a, 300, 40);
	mt_accounts_begin(&t);
	assert_int_equal(mt_store_client_get(store, "x", &client), 0);
	assert_int_equal(mt_accounts_take(&t, &client, &taken), 0);
	mt_account_unref(taken);
	assert_int_equal(mt_accounts_take(&t, &fresh, &taken), 0);
	mt_account_unref(taken);
	assert_int_equal(mt_accounts_carry(&t, store), 0);
	assert_int_equal(mt_store_client_get(store, "x", &client), 0);
	assert_int_equal(client.usage.bytes_received, 300);
	assert_int_equal(client.usage.bytes_sent, 40);
	assert_int_equal(client.usage.period_bytes, 0); /* another kind of quota */
	assert_int_equal(client.usage.period_start,
		mt_quota_period_start(MT_QUOTA_DAY, (int64_t)time(NULL)));
	assert_int_equal(mt_store_client_get(store, "new", &client), 0);
	assert_int_equal(client.usage.last_seen, 0);
	assert_int_equal(a->client_id, 40);
	mt_accounts_deinit(&t);
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_count_threads),
		cmocka_unit_test(test_publications),
		cmocka_unit_test(test_publication_dropped),
		cmocka_unit_test(test_period_start),
		cmocka_unit_test(test_quota),
		cmocka_unit_test_setup_teardown(test_save, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_carry, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
