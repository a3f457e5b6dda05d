/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_clients.c store/store_certs.c store/store_secrets.c proto/wire/settings.c
 * proto/wire/settings_table.c proto/wire/addr.c proto/wire/profile.c proto/wire/encode.c
 * proto/wire/bytes.c
 */
#include "store/store.h"

#include "store/store_private.h"

#include <errno.h>
#include <fcntl.h>
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

#define CANARY       "canary-7f3a"
#define HEADER_BYTES 100

struct folder {
	char dir[80];
	char db[128];
	char wal[128];
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/mt-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->db, sizeof(f->db), "%s/mytunnel.db", f->dir);
	(void)snprintf(f->wal, sizeof(f->wal), "%s/mytunnel.db-wal", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;
	char lock[128];

	(void)snprintf(lock, sizeof(lock), "%s/mytunnel.lock", f->dir);
	(void)unlink(f->db); /* some tests have none of these */
	(void)unlink(f->wal);
	(void)unlink(lock);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static struct mt_store *must_open(const struct folder *f)
{
	struct mt_store *store = NULL;
	char why[512] = "";
	int err = mt_store_open(&store, f->dir, why, sizeof(why));

	if (err != 0) {
		fail_msg("%d: %s", err, why);
	}
	return store;
}

/* Opening fails with `err`, says which file it is about, and leaves the database's bytes alone. */
static void must_refuse(const struct folder *f, int err)
{
	static uint8_t before[1 << 20];
	static uint8_t after[1 << 20];
	struct mt_store *store = NULL;
	char why[512] = "";
	ssize_t before_len;
	ssize_t after_len;
	int fd = open(f->db, O_RDONLY);

	assert_true(fd >= 0);
	before_len = read(fd, before, sizeof(before));
	assert_int_equal(close(fd), 0);
	assert_int_equal(mt_store_open(&store, f->dir, why, sizeof(why)), err);
	assert_null(store);
	assert_non_null(strstr(why, f->dir));
	fd = open(f->db, O_RDONLY);
	assert_true(fd >= 0);
	after_len = read(fd, after, sizeof(after));
	assert_int_equal(close(fd), 0);
	assert_int_equal(before_len, after_len);
	assert_memory_equal(before, after, (size_t)before_len);
}

static void patch(const struct folder *f, off_t offset, const void *data, size_t len)
{
	int fd = open(f->db, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void sql(const struct folder *f, const char *text)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK) {
		fail_msg("%s", message);
	}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_open_new(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
	struct stat st;
	int64_t number = -1;

	assert_int_equal(stat(f->db, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(f->wal, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(mt_store_version(store), mt_store_schema_version);
	assert_int_equal(mt_store_number(store, "PRAGMA synchronous", &number), 0);
	assert_int_equal(number, 2);
	assert_int_equal(mt_store_number(store, "PRAGMA trusted_schema", &number), 0);
	assert_int_equal(number, 0);
	assert_int_equal(mt_store_number(store, "PRAGMA cell_size_check", &number), 0);
	assert_int_equal(number, 1);
	mt_store_close(store);
	/* Again, without anything left behind by the first. */
	mt_store_close(must_open(f));
	mt_store_close(NULL);
}

static void test_open_makes_folder(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";
	struct folder inner = *f;

	memcpy(inner.dir + strlen(inner.dir), "/in", 4);
	(void)snprintf(inner.db, sizeof(inner.db), "%s/mytunnel.db", inner.dir);
	(void)snprintf(inner.wal, sizeof(inner.wal), "%s/mytunnel.db-wal", inner.dir);
	mt_store_close(must_open(&inner));
	(void)snprintf(why, sizeof(why), "%s/mytunnel.lock", inner.dir);
	assert_int_equal(unlink(inner.db), 0);
	assert_int_equal(unlink(why), 0);
	assert_int_equal(rmdir(inner.dir), 0);
	assert_true(mt_store_open(&store, "/nonexistent/deep/folder", why, sizeof(why)) < 0);
	assert_non_null(strstr(why, "/nonexistent/deep/folder"));
}

static void test_open_busy(void **state)
{
	const struct folder *f = *state;
	struct mt_store *first = must_open(f);
	struct mt_store *second = NULL;
	char why[512] = "";

	assert_int_equal(mt_store_open(&second, f->dir, why, sizeof(why)), MT_E_BUSY);
	assert_non_null(strstr(why, f->dir));
	mt_store_close(first);
	mt_store_close(must_open(f));
}

static void test_open_permissions(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";

	mt_store_close(must_open(f));
	assert_int_equal(chmod(f->db, 0640), 0);
	must_refuse(f, MT_E_PERMS);
	assert_int_equal(chmod(f->db, 0600), 0);
	assert_int_equal(chmod(f->dir, 0777), 0);
	must_refuse(f, MT_E_PERMS);
	assert_int_equal(chmod(f->dir, 0700), 0);
	mt_store_close(must_open(f));
	assert_int_equal(unlink(f->db), 0);
	assert_int_equal(symlink("/dev/null", f->db), 0);
	assert_int_equal(mt_store_open(&store, f->dir, why, sizeof(why)), MT_E_PERMS);
}

static void test_open_newer(void **state)
{
	static const uint8_t version[] = {0, 0, 0, 99};
	const struct folder *f = *state;
	char shm[160];

	mt_store_close(must_open(f));
	patch(f, 60, version, sizeof(version));
	must_refuse(f, MT_E_NEWER);
	/* The newer version's mark is still in the write-ahead log: its process was killed. */
	assert_int_equal(unlink(f->db), 0);
	mt_store_close(must_open(f));
	if (fork() == 0) {
		sqlite3 *db = NULL;

		if (sqlite3_open(f->db, &db) == SQLITE_OK) {
			(void)sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL);
		}
		(void)kill(getpid(), SIGKILL);
	}
	assert_true(wait(NULL) > 0);
	must_refuse(f, MT_E_NEWER);
	must_refuse(f, MT_E_NEWER);
	(void)snprintf(shm, sizeof(shm), "%s-shm", f->db);
	(void)unlink(shm); /* of the other process */
}

static void test_open_foreign(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";
	int fd;

	sql(f, "CREATE TABLE t (a); PRAGMA journal_mode = WAL;");
	assert_int_equal(chmod(f->db, 0600), 0);
	must_refuse(f, MT_E_CORRUPT);
	assert_int_equal(unlink(f->db), 0);
	fd = open(f->db, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello\n", 6), 6);
	assert_int_equal(close(fd), 0);
	must_refuse(f, MT_E_CORRUPT);
	assert_int_equal(unlink(f->db), 0);
	/* Killed before the first transaction: an empty file, or one with a header only. */
	fd = open(f->db, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(mt_store_open(&store, f->dir, why, sizeof(why)), 0);
	mt_store_close(store);
	assert_int_equal(unlink(f->db), 0);
	sql(f, "PRAGMA journal_mode = WAL;");
	assert_int_equal(chmod(f->db, 0600), 0);
	mt_store_close(must_open(f));
}

/* Whatever a single damaged byte of the header or of any page does, it is never a crash, and a
 * refusal leaves the file as it was.
 */
static void test_open_flipped_bytes(void **state)
{
	const struct folder *f = *state;
	static uint8_t image[1 << 20];
	struct mt_store *store = must_open(f);
	struct mt_store_client client;
	struct mt_settings settings;
	ssize_t len;
	int refused = 0;
	int fd;

	assert_int_equal(mt_store_client_add(store, "a", (const uint8_t[32]){1}, &client), 0);
	mt_store_close(store);
	fd = open(f->db, O_RDONLY);
	assert_true(fd >= 0);
	len = read(fd, image, sizeof(image));
	assert_int_equal(close(fd), 0);
	assert_true(len > HEADER_BYTES);
	for (off_t at = 0; at < len; at += at < HEADER_BYTES ? 1 : 97) {
		uint8_t bad = image[at] ^ 0xff;
		char why[512] = "";
		int err;

		store = NULL;
		patch(f, 0, image, (size_t)len);
		assert_int_equal(truncate(f->db, len), 0);
		patch(f, at, &bad, 1);
		err = mt_store_open(&store, f->dir, why, sizeof(why));
		if (err == 0) {
			err = mt_store_settings_load(store, &settings);
			assert_true(err == 0 || err == MT_E_CORRUPT);
			mt_store_close(store);
		} else {
			refused++;
			assert_true(err == MT_E_CORRUPT || err == MT_E_NEWER || err == MT_E_STORE);
			assert_non_null(strstr(why, f->db));
			must_refuse(f, err);
		}
		(void)unlink(f->wal); /* left when refused */
	}
	assert_true(refused >= 16 + 4 + 4);
	patch(f, 0, image, (size_t)len);
	assert_int_equal(truncate(f->db, len), 0);
	mt_store_close(must_open(f));
	assert_int_equal(truncate(f->db, len / 2), 0);
	must_refuse(f, MT_E_CORRUPT);
}

static void test_settings_roundtrip(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
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
	store = must_open(f);
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
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
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
	const struct folder *f = *state;
	struct mt_settings settings;
	struct mt_store *store;

	mt_store_close(must_open(f));
	sql(f, "INSERT INTO setting VALUES ('quic.max_connections', 'lots')");
	store = must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), MT_E_CORRUPT);
	assert_non_null(strstr(mt_store_error(store), "quic.max_connections"));
	mt_store_close(store);
	sql(f, "DELETE FROM setting; INSERT INTO setting VALUES ('no.such', '1')");
	store = must_open(f);
	assert_int_equal(mt_store_settings_load(store, &settings), MT_E_CORRUPT);
	assert_non_null(strstr(mt_store_error(store), "no.such"));
	mt_store_close(store);
}

/* What was acknowledged before a SIGKILL is there afterwards, and the lock is free. */
static void test_settings_kill(void **state)
{
	const struct folder *f = *state;

	mt_store_close(must_open(f));
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
		store = must_open(f);
		assert_int_equal(mt_store_settings_load(store, &settings), 0);
		assert_in_range(mt_settings_int(&settings, MT_SET_QUIC_MAX_CONNECTIONS),
			acknowledged, acknowledged + 1);
		mt_store_close(store);
	}
}

static void test_settings_disk_full(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
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
	store = must_open(f);
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
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
	struct mt_store_client client;
	struct mt_store_client again;
	struct names names = {.stop_after = -1};

	assert_int_equal(mt_store_client_add(store, "laptop", keys[0], &client), 0);
	assert_string_equal(client.name, "laptop");
	assert_memory_equal(client.fingerprint, keys[0], 32);
	assert_true(client.created_at > 1700000000);
	assert_int_equal(client.revoked_at, 0);
	assert_int_equal(mt_store_client_add(store, "laptop", keys[1], &again), MT_E_EXISTS);
	assert_int_equal(mt_store_client_add(store, "phone", keys[0], &again), MT_E_EXISTS);
	assert_non_null(strstr(mt_store_error(store), "laptop"));
	assert_int_equal(mt_store_client_add(store, "", keys[1], &again), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "a b", keys[1], &again), MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "a'; DROP TABLE client", keys[1], &again),
		MT_E_MALFORMED);
	assert_int_equal(mt_store_client_add(store, "car", keys[1], &again), 0);
	assert_true(again.id > client.id);
	assert_int_equal(mt_store_client_get(store, "nobody", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_revoke(store, "nobody", &again), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_client_revoke(store, "laptop", &again), 0);
	assert_true(again.revoked_at > 0);
	assert_int_equal(mt_store_client_revoke(store, "laptop", &client), 0);
	assert_int_equal(client.revoked_at, again.revoked_at);
	assert_int_equal(mt_store_client_add(store, "new", keys[0], &again), MT_E_EXISTS);
	mt_store_close(store);
	store = must_open(f);
	assert_int_equal(mt_store_client_get(store, "laptop", &again), 0);
	assert_int_equal(again.revoked_at, client.revoked_at);
	assert_int_equal(mt_store_client_each(store, collect, &names), 0);
	assert_string_equal(names.text, "car laptop! ");
	names = (struct names){.stop_after = 1};
	assert_int_equal(mt_store_client_each(store, collect, &names), 42);
	assert_int_equal(mt_store_client_add(store, "pad", keys[2], &again), 0);
	mt_store_close(store);
}

static void test_cert_roundtrip(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
	char *chain = NULL;
	char *key = NULL;

	assert_int_equal(mt_store_cert_get(store, MT_CERT_CA, &chain, &key), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_SERVER, "chain 2", CANARY), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_SERVER, "chain 3", "key 3"), 0);
	mt_store_close(store);
	store = must_open(f);
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
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
	uint8_t first[32] = {0};
	uint8_t second[32] = {0};
	uint8_t other[32] = {0};

	assert_int_equal(mt_store_secret(store, "quic", first), 0);
	assert_int_equal(mt_store_secret(store, "other", other), 0);
	assert_memory_not_equal(first, other, 32);
	assert_memory_not_equal(first, second, 32);
	mt_store_close(store);
	store = must_open(f);
	assert_int_equal(mt_store_secret(store, "quic", second), 0);
	assert_memory_equal(first, second, 32);
	mt_store_close(store);
}

static void test_next_counts(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store;
	int64_t value = 0;

	for (int64_t want = 1; want <= 3; want++) {
		store = must_open(f);
		assert_int_equal(mt_store_next(store, "generation", &value), 0);
		assert_int_equal(value, want);
		mt_store_close(store);
	}
	store = must_open(f);
	assert_int_equal(mt_store_next(store, "other", &value), 0);
	assert_int_equal(value, 1);
	mt_store_close(store);
}

/* Versions to come: each step is applied once and marks its version; a failing one changes nothing.
 */
static void test_migrate_steps(void **state)
{
	const struct folder *f = *state;
	struct mt_store *store = must_open(f);
	const int base = mt_store_schema_version;
	struct mt_store_migration steps[8] = {{NULL}};
	int64_t number = 0;

	steps[base] =
		(struct mt_store_migration){"CREATE TABLE extra (a); INSERT INTO extra VALUES (7)"};
	steps[base + 1] =
		(struct mt_store_migration){"INSERT INTO extra VALUES (8); no such statement"};
	assert_true(mt_store_migrate(store, steps, base + 2) < 0);
	assert_int_equal(mt_store_number(store, "PRAGMA user_version", &number), 0);
	assert_int_equal(number, base + 1);
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM extra", &number), 0);
	assert_int_equal(number, 1);
	steps[base + 1] = (struct mt_store_migration){"INSERT INTO extra VALUES (9)"};
	assert_int_equal(mt_store_migrate(store, steps, base + 2), 0);
	assert_int_equal(mt_store_version(store), base + 2);
	assert_int_equal(mt_store_migrate(store, steps, base + 2), 0);
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM extra", &number), 0);
	assert_int_equal(number, 2);
	assert_int_equal(mt_store_migrate(store, steps, base), MT_E_NEWER);
	mt_store_close(store);
	must_refuse(f, MT_E_NEWER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_makes_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_permissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_newer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_flipped_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_roundtrip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_all_or_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_unusable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_client_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cert_roundtrip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secret_persists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migrate_steps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
