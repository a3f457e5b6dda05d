/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_clients.c store/store_usage.c store/store_certs.c store/store_secrets.c
 * store/store_backup.c store/store_audit.c proto/wire/err.c
 * proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c store/store_column.c
 * tests/unit/store_folder.c
 */
#include "store/store.h"

#include "store/store_private.h"
#include "tests/unit/store_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CANARY "canary-7f3a"

static void test_settings_roundtrip(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_settings settings;
	const struct mt_store_change set[] = {
		{MT_SET_QUIC_IDLE_TIMEOUT_SECS, "45"},
		{MT_SET_ACCESS_ALLOW_PRIVATE, "on"},
		{MT_SET_SERVER_BIND_ADDR, "127.0.0.1:0"},
	};
	const struct mt_store_change back[] = {{MT_SET_QUIC_IDLE_TIMEOUT_SECS, NULL}};

	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 30);
	assert_int_equal(mt_store_settings_write(store, set, 3), 0);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 45);
	assert_true(mt_settings_bool(&settings, MT_SET_ACCESS_ALLOW_PRIVATE));
	assert_string_equal(mt_settings_text(&settings, MT_SET_SERVER_BIND_ADDR), "127.0.0.1:0");
	assert_int_equal(mt_store_settings_write(store, back, 1), 0);
	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 30);
	mt_store_close(store);
}

static void test_settings_all_or_none(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_settings settings;
	const struct mt_store_change bad_value[] = {
		{MT_SET_QUIC_IDLE_TIMEOUT_SECS, "45"},
		{MT_SET_QUIC_MAX_CONNECTIONS, "many"},
	};
	const struct mt_store_change bad_id[] = {
		{MT_SET_QUIC_IDLE_TIMEOUT_SECS, "45"},
		{MT_SETTING_COUNT, "1"},
	};
	const struct mt_store_change good[] = {{MT_SET_QUIC_IDLE_TIMEOUT_SECS, "46"}};

	assert_true(mt_store_settings_write(store, bad_value, 2) < 0);
	assert_non_null(strstr(mt_store_error(store), "quic.max_connections"));
	assert_int_equal(mt_store_settings_write(store, bad_id, 2), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 30);
	assert_int_equal(mt_store_settings_write(store, good, 1), 0);
	mt_store_close(store);
}

static void test_settings_unusable(void **state)
{
	const struct store_folder *f = *state;
	struct mt_settings settings;
	struct mt_store *store;

	mt_store_close(store_must_open(f));
	store_sql(f, "INSERT INTO setting VALUES ('quic.max_connections', 'lots')");
	store = store_must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), MT_E_CORRUPT);
	assert_non_null(strstr(mt_store_error(store), "quic.max_connections"));
	mt_store_close(store);
	store_sql(f, "DELETE FROM setting; INSERT INTO setting VALUES ('no.such', '1')");
	store = store_must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), MT_E_CORRUPT);
	assert_non_null(strstr(mt_store_error(store), "no.such"));
	mt_store_close(store);
}

/* What was acknowledged before a SIGKILL is there afterwards, and the lock is free. */
static void test_settings_kill(void **state)
{
	const struct store_folder *f = *state;

	mt_store_close(store_must_open(f));
	for (int round = 0; round < 8; round++) {
		struct mt_settings settings;
		struct mt_store *store;
		int acknowledged = 0;
		int acks[2];
		pid_t child;

		assert_int_equal(pipe(acks), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			char why[512];

			store = NULL;
			if (mt_store_open(&store, f->dir, why, sizeof(why)) != 0) {
				_exit(1);
			}
			for (int value = 1; value < 3000; value++) {
				char text[16];
				const struct mt_store_change change = {
					MT_SET_QUIC_MAX_CONNECTIONS, text};

				(void)snprintf(text, sizeof(text), "%d", value);
				if (mt_store_settings_write(store, &change, 1) != 0 ||
					write(acks[1], &value, sizeof(value)) != sizeof(value)) {
					_exit(1);
				}
			}
			_exit(0);
		}
		assert_int_equal(close(acks[1]), 0);
		for (int i = 0; i < 3 + 17 * round; i++) {
			assert_int_equal(read(acks[0], &acknowledged, sizeof(acknowledged)),
				sizeof(acknowledged));
		}
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, NULL, 0), child);
		while (read(acks[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged)) {
		}
		assert_int_equal(close(acks[0]), 0);
		store = store_must_open(f);
		assert_int_equal(mt_store_settings_load(store, &settings), 0);
		assert_in_range(mt_settings_int(&settings, MT_SET_QUIC_MAX_CONNECTIONS),
			acknowledged, acknowledged + 1);
		mt_store_close(store);
	}
}

static void test_settings_disk_full(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	const struct mt_store_change before = {MT_SET_QUIC_IDLE_TIMEOUT_SECS, "45"};
	const struct mt_store_change after = {MT_SET_QUIC_IDLE_TIMEOUT_SECS, "46"};
	struct mt_settings settings;
	struct rlimit old;
	struct rlimit limit;
	struct stat st;
	char *big = malloc(1 << 20);
	int64_t pages = 0;

	assert_non_null(big);
	memset(big, 'x', 1 << 20);
	big[(1 << 20) - 1] = '\0';
	assert_int_equal(mt_store_settings_write(store, &before, 1), 0);
	assert_int_equal(mt_store_number(store, "PRAGMA max_page_count = 40", &pages), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_IMPORTED, big, CANARY), -ENOSPC);
	assert_null(strstr(mt_store_error(store), CANARY));
	assert_int_equal(mt_store_number(store, "PRAGMA max_page_count = 1000000", &pages), 0);

	/* The same from below: the log cannot grow. */
	assert_int_equal(stat(f->wal, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)st.st_size + 100;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_true(mt_store_settings_write(store, &after, 1) < 0);
	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 45);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(mt_store_settings_write(store, &after, 1), 0);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS), 46);
	mt_store_close(store);
	free(big);
}

struct names {
	char text[128];
	int stop_after;
};

static int collect(const struct mt_store_client *client, void *user)
{
	struct names *names = user;
	size_t used = strlen(names->text);

	(void)snprintf(names->text + used, sizeof(names->text) - used, "%s%s ", client->name,
		client->revoked_at != 0 ? "!" : "");
	return --names->stop_after == 0 ? 42 : 0;
}

static void test_client_life(void **state)
{
	static const uint8_t keys[3][32] = {{1}, {2}, {3}};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	struct mt_store_client again;
	struct names names = {.stop_after = -1};

	assert_int_equal(mt_store_client_add(store, "laptop", keys[0], NULL, &client), 0);
	assert_string_equal(client.name, "laptop");
	assert_memory_equal(client.fingerprint, keys[0], 32);
	assert_true(client.created_at > 1700000000);
	assert_int_equal(client.revoked_at, 0);
	assert_int_equal(mt_store_client_add(store, "laptop", keys[1], NULL, &again), MT_E_EXISTS);
	assert_int_equal(mt_store_client_add(store, "phone", keys[0], NULL, &again), MT_E_EXISTS);
	assert_non_null(strstr(mt_store_error(store), "laptop"));
	assert_int_equal(mt_store_client_add(store, "", keys[1], NULL, &again), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "a b", keys[1], NULL, &again), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "a'; DROP TABLE client", keys[1], NULL, &again),
		MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "car", keys[1], NULL, &again), 0);
	assert_true(again.id > client.id);
	assert_int_equal(mt_store_client_get(store, "nobody", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_revoke(store, "nobody", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_revoke(store, "laptop", &again), 0);
	assert_true(again.revoked_at > 0);
	assert_int_equal(mt_store_client_revoke(store, "laptop", &client), 0);
	assert_int_equal(client.revoked_at, again.revoked_at);
	assert_int_equal(mt_store_client_add(store, "new", keys[0], NULL, &again), MT_E_EXISTS);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "laptop", &again), 0);
	assert_int_equal(again.revoked_at, client.revoked_at);
	assert_int_equal(mt_store_client_each(store, collect, &names), 0);
	assert_string_equal(names.text, "car laptop! ");
	names = (struct names){.stop_after = 1};
	assert_int_equal(mt_store_client_each(store, collect, &names), 42);
	assert_int_equal(mt_store_client_add(store, "pad", keys[2], NULL, &again), 0);
	assert_int_equal(mt_store_client_remove(store, "nobody", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_remove(store, "laptop", &again), 0);
	assert_string_equal(again.name, "laptop");
	assert_int_equal(mt_store_client_get(store, "laptop", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_add(store, "laptop", keys[0], NULL, &again), 0);
	mt_store_close(store);
}

static void test_client_remove(void **state)
{
	static const uint8_t key[32] = {1};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store_client first;
	struct mt_store_client client;

	assert_int_equal(mt_store_client_add(store, "laptop", key, NULL, &first), 0);
	assert_int_equal(mt_store_client_remove(store, "phone", &client), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_remove(store, "a b", &client), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_remove(store, "laptop", &client), 0);
	assert_memory_equal(client.fingerprint, key, sizeof(key));
	assert_int_equal(mt_store_client_remove(store, "laptop", &client), MT_E_NOT_FOUND);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_client_get(store, "laptop", &client), MT_E_NOT_FOUND);
	/* Name and key are free again, the number is not. */
	assert_int_equal(mt_store_client_add(store, "laptop", key, NULL, &client), 0);
	assert_true(client.id > first.id);
	mt_store_close(store);
}

static void test_cert_roundtrip(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	char *chain = NULL;
	char *key = NULL;

	assert_int_equal(mt_store_cert_get(store, MT_CERT_CA, &chain, &key), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_SERVER, "chain 2", CANARY), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_SERVER, "chain 3", "key 3"), 0);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_cert_get(store, MT_CERT_SERVER, &chain, &key), 0);
	assert_string_equal(chain, "chain 3");
	assert_string_equal(key, "key 3");
	free(chain);
	free(key);
	assert_int_equal(mt_store_cert_get(store, MT_CERT_IMPORTED, &chain, &key), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_cert_put(store, (enum mt_store_cert)9, "a", "b"), MT_E_RANGE);
	mt_store_close(store);
}

static void test_secret_persists(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	uint8_t first[32] = {0};
	uint8_t second[32] = {0};
	uint8_t other[32] = {0};

	assert_int_equal(mt_store_secret(store, "quic", first), 0);
	assert_int_equal(mt_store_secret(store, "other", other), 0);
	assert_memory_not_equal(first, other, 32);
	assert_memory_not_equal(first, second, 32);
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(mt_store_secret(store, "quic", second), 0);
	assert_memory_equal(first, second, 32);
	mt_store_close(store);
}

static void test_next_counts(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store;
	int64_t value = 0;

	for (int64_t want = 1; want <= 3; want++) {
		store = store_must_open(f);
		assert_int_equal(mt_store_next(store, "generation", &value), 0);
		assert_int_equal(value, want);
		mt_store_close(store);
	}
	store = store_must_open(f);
	assert_int_equal(mt_store_next(store, "other", &value), 0);
	assert_int_equal(value, 1);
	mt_store_close(store);
}

/* What is damaged is refused whole, and the sentence names the file and the cure. */
static void assert_damaged(struct mt_store *store, int err)
{
	assert_int_equal(err, MT_E_CORRUPT);
	assert_non_null(strstr(mt_store_error(store), mt_store_path(store)));
	assert_non_null(strstr(mt_store_error(store), "put a backup in its place"));
}

static void test_damaged_values(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_settings settings;
	uint8_t secret[32];
	char *chain = NULL;
	char *key = NULL;
	int64_t value = 0;

	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(mt_store_secret(store, "quic", secret), 0);
	assert_int_equal(mt_store_next(store, "generation", &value), 0);
	assert_int_equal(mt_store_exec(store,
				 "PRAGMA ignore_check_constraints = ON;"
				 "INSERT INTO setting VALUES ('access.allow_private', 'on' || "
				 "char(0) || 'x');"
				 "UPDATE certificate SET chain = chain || char(0);"
				 "UPDATE secret SET value = cast(value AS TEXT);"
				 "UPDATE counter SET value = -7",
				 "damage"),
		0);
	assert_damaged(store, mt_store_settings_load(store, &settings));
	assert_damaged(store, mt_store_cert_get(store, MT_CERT_CA, &chain, &key));
	assert_damaged(store, mt_store_secret(store, "quic", secret));
	assert_damaged(store, mt_store_next(store, "generation", &value));
	assert_int_equal(mt_store_exec(store,
				 "UPDATE setting SET value = x'6f6e';"
				 "UPDATE certificate SET chain = 'chain', key = x'41';"
				 "UPDATE counter SET value = 'one'",
				 "damage"),
		0);
	assert_damaged(store, mt_store_settings_load(store, &settings));
	assert_damaged(store, mt_store_cert_get(store, MT_CERT_CA, &chain, &key));
	assert_damaged(store, mt_store_next(store, "generation", &value));
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_settings_roundtrip, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_settings_all_or_none, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_settings_unusable, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_settings_kill, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_settings_disk_full, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_client_life, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_client_remove, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_cert_roundtrip, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_secret_persists, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_next_counts, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_values, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
