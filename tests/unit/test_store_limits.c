/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_clients.c store/store_usage.c store/store_certs.c store/store_secrets.c
 * store/store_backup.c store/store_audit.c proto/wire/err.c
 * proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c store/store_column.c
 * tests/unit/store_folder.c
 */
#include "store/store_private.h"
#include "tests/unit/store_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t key[32] = {1};

static const struct mt_store_limits some = {
	.expires_at = 2000000000,
	.rate_bits = 50000000,
	.quota_bytes = 100000000000,
	.quota_period = MT_QUOTA_MONTH,
	.max_connections = 4,
	.note = "her laptop, 'the' old one",
};

static void assert_limits(const struct mt_store_limits *a, const struct mt_store_limits *b)
{
	assert_int_equal(a->expires_at, b->expires_at);
	assert_int_equal(a->rate_bits, b->rate_bits);
	assert_int_equal(a->quota_bytes, b->quota_bytes);
	assert_int_equal(a->quota_period, b->quota_period);
	assert_int_equal(a->max_connections, b->max_connections);
	assert_string_equal(a->note, b->note);
}

static void test_limits_kept(void **state)
{
	static const struct mt_store_limits none = {.note = ""};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	struct mt_store_limits limits = some;

	assert_int_equal(mt_store_client_add(store, "plain", key, NULL, &client), 0);
	assert_limits(&client.limits, &none);
	assert_int_equal(
		mt_store_client_add(store, "full", (const uint8_t[32]){2}, &some, &client), 0);
	assert_limits(&client.limits, &some);
	limits.rate_bits = 1000;
	limits.quota_period = MT_QUOTA_DAY;
	assert_int_equal(mt_store_client_limit(store, "nobody", &limits, &client), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_limit(store, "a b", &limits, &client), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_limit(store, "full", &limits, &client), 0);
	assert_limits(&client.limits, &limits);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "full", &client), 0);
	assert_limits(&client.limits, &limits);
	assert_int_equal(mt_store_client_limit(store, "full", &none, &client), 0);
	assert_limits(&client.limits, &none);
	assert_int_equal(mt_store_client_get(store, "plain", &client), 0);
	assert_limits(&client.limits, &none);
	mt_store_close(store);
}

static void test_enable(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	int64_t since;

	assert_int_equal(mt_store_client_enable(store, "x", false, &client), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_add(store, "x", key, NULL, &client), 0);
	assert_int_equal(client.disabled_at, 0);
	assert_int_equal(mt_store_client_enable(store, "x", false, &client), 0);
	since = client.disabled_at;
	assert_true(since > 1700000000);
	assert_int_equal(mt_store_client_enable(store, "x", false, &client), 0);
	assert_int_equal(client.disabled_at, since);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "x", &client), 0);
	assert_int_equal(client.disabled_at, since);
	assert_int_equal(mt_store_client_enable(store, "x", true, &client), 0);
	assert_int_equal(client.disabled_at, 0);
	mt_store_close(store);
}

static void test_usage_replaces(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	struct mt_store_client other;
	struct mt_store_usage_row rows[3];
	int64_t count = -1;

	assert_int_equal(mt_store_client_add(store, "x", key, NULL, &client), 0);
	assert_int_equal(mt_store_client_add(store, "y", (const uint8_t[32]){2}, NULL, &other), 0);
	assert_int_equal(client.usage.bytes_received, 0);
	rows[0] = (struct mt_store_usage_row){
		client.id, {10, 20, 1700000000, 30, 1700000001, "192.0.2.1:4000"}};
	rows[1] = (struct mt_store_usage_row){999999, {1, 1, 1, 1, 1, "gone"}};
	rows[2] = (struct mt_store_usage_row){other.id, {INT64_MAX, 0, 0, 0, 0, ""}};
	assert_int_equal(mt_store_usage_write(store, rows, 3), 0);
	assert_int_equal(mt_store_usage_write(store, rows, 3), 0);
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM client_usage", &count), 0);
	assert_int_equal(count, 2);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "x", &client), 0);
	assert_int_equal(client.usage.bytes_received, 10);
	assert_int_equal(client.usage.bytes_sent, 20);
	assert_int_equal(client.usage.period_start, 1700000000);
	assert_int_equal(client.usage.period_bytes, 30);
	assert_int_equal(client.usage.last_seen, 1700000001);
	assert_string_equal(client.usage.last_address, "192.0.2.1:4000");
	assert_int_equal(mt_store_client_get(store, "y", &other), 0);
	assert_true(other.usage.bytes_received == INT64_MAX);
	/* What a client has used goes with it. */
	assert_int_equal(mt_store_client_remove(store, "x", &client), 0);
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM client_usage", &count), 0);
	assert_int_equal(count, 1);
	mt_store_close(store);
}

static int pass(const struct mt_store_client *client, void *user)
{
	(void)client;
	(void)user;
	return 0;
}

/* A limit that is damaged is not the same as none. */
static void test_damaged_rows(void **state)
{
	static const struct {
		const char *set;
		const char *named;
	} cases[] = {
		{"client SET rate_bits = 'fast'", "rate_bits"},
		{"client SET rate_bits = 1.5", "rate_bits"},
		{"client SET rate_bits = -1", "rate_bits"},
		{"client SET rate_bits = 100000000001", "rate_bits"},
		{"client SET quota_bytes = x'41'", "quota_bytes"},
		{"client SET quota_bytes = -9223372036854775807", "quota_bytes"},
		{"client SET quota_bytes = 9223372036854775807", "quota_bytes"},
		{"client SET max_connections = ''", "max_connections"},
		{"client SET max_connections = 1000001", "max_connections"},
		{"client SET expires_at = 'never'", "expires_at"},
		{"client SET expires_at = -5", "expires_at"},
		{"client SET disabled_at = 'yes'", "disabled_at"},
		{"client SET disabled_at = -1", "disabled_at"},
		{"client SET note = x'41'", "note"},
		{"client SET note = char(27) || '[2J'", "note"},
		{"client SET note = 'a' || char(0) || 'b'", "note"},
		{"client SET note = cast(x'c328' AS TEXT)", "note"},
		{"client SET name = 'x' || char(0)", "name"},
		{"client_usage SET bytes_sent = 'many'", "bytes_sent"},
		{"client_usage SET bytes_received = -1", "bytes_received"},
		{"client_usage SET period_bytes = -1", "period_bytes"},
		{"client_usage SET period_start = 0.5", "period_start"},
		{"client_usage SET last_address = x'00'", "last_address"},
	};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	struct mt_store_usage_row row = {.usage = {1, 2, 3, 4, 5, "192.0.2.1:4000"}};
	char sql[256];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(mt_store_client_add(store, "x", key, &some, &client), 0);
		row.client_id = client.id;
		assert_int_equal(mt_store_usage_write(store, &row, 1), 0);
		assert_int_equal(mt_store_client_get(store, "x", &client), 0);
		(void)snprintf(sql, sizeof(sql), "UPDATE %s", cases[i].set);
		assert_int_equal(mt_store_exec(store, sql, "damage it"), 0);
		if (mt_store_client_each(store, pass, NULL) != MT_E_CORRUPT) {
			fail_msg("'%s' was read", cases[i].set);
		}
		assert_non_null(strstr(mt_store_error(store), f->db));
		assert_non_null(strstr(mt_store_error(store), cases[i].named));
		assert_non_null(strstr(mt_store_error(store), "put a backup in its place"));
		assert_int_equal(mt_store_exec(store, "DELETE FROM client", "remove it"), 0);
	}
	mt_store_close(store);
}

static void drop_all(const struct store_folder *f)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *tables = NULL;
	char sql[4096] = "";

	assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db,
				 "SELECT name FROM sqlite_schema WHERE type = 'table' "
				 "AND name NOT LIKE 'sqlite_%'",
				 -1, &tables, NULL),
		SQLITE_OK);
	while (sqlite3_step(tables) == SQLITE_ROW) {
		size_t used = strlen(sql);

		(void)snprintf(sql + used, sizeof(sql) - used, "DROP TABLE %s;",
			(const char *)sqlite3_column_text(tables, 0));
	}
	assert_int_equal(sqlite3_finalize(tables), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* A database of the first schema keeps its clients, without limits. */
static void test_migrate_from_first(void **state)
{
	const struct store_folder *f = *state;
	const struct mt_store_migration *first = &mt_store_schema[0];
	struct mt_store_client client;
	struct mt_store *store = NULL;
	char sql[8192];

	mt_store_close(store_must_open(f));
	drop_all(f);
	(void)snprintf(sql, sizeof(sql),
		"%s PRAGMA user_version = 1;"
		"INSERT INTO client (name, fingerprint, created_at, revoked_at) VALUES ('old', "
		"x'0100000000000000000000000000000000000000000000000000000000000000', "
		"1700000000, 1700000005);",
		first->sql);
	store_sql(f, sql);
	store = store_must_open(f);
	assert_int_equal(mt_store_version(store), mt_store_schema_version);
	assert_int_equal(mt_store_client_get(store, "old", &client), 0);
	assert_memory_equal(client.fingerprint, key, sizeof(key));
	assert_int_equal(client.revoked_at, 1700000005);
	assert_int_equal(client.disabled_at, 0);
	assert_int_equal(client.limits.rate_bits, 0);
	assert_int_equal(mt_store_client_limit(store, "old", &some, &client), 0);
	assert_limits(&client.limits, &some);
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limits_kept, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_enable, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_usage_replaces, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_rows, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_migrate_from_first, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
