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
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HEADER_BYTES 100

/* Opening fails with `err`, says which file it is about, and leaves the database's bytes alone. */
static void must_refuse(const struct store_folder *f, int err)
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

static void patch(const struct store_folder *f, off_t offset, const void *data, size_t len)
{
	int fd = open(f->db, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void test_open_new(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
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
	mt_store_close(store_must_open(f));
	mt_store_close(NULL);
}

static void test_open_makes_folder(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";
	struct store_folder inner = *f;

	memcpy(inner.dir + strlen(inner.dir), "/in", 4);
	(void)snprintf(inner.db, sizeof(inner.db), "%s/mytunnel.db", inner.dir);
	(void)snprintf(inner.wal, sizeof(inner.wal), "%s/mytunnel.db-wal", inner.dir);
	mt_store_close(store_must_open(&inner));
	(void)snprintf(why, sizeof(why), "%s/mytunnel.lock", inner.dir);
	assert_int_equal(unlink(inner.db), 0);
	assert_int_equal(unlink(why), 0);
	assert_int_equal(rmdir(inner.dir), 0);
	assert_true(mt_store_open(&store, "/nonexistent/deep/folder", why, sizeof(why)) < 0);
	assert_non_null(strstr(why, "/nonexistent/deep/folder"));
}

static void test_open_busy(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *first = store_must_open(f);
	struct mt_store *second = NULL;
	char why[512] = "";

	assert_int_equal(mt_store_open(&second, f->dir, why, sizeof(why)), MT_E_BUSY);
	assert_non_null(strstr(why, f->dir));
	mt_store_close(first);
	mt_store_close(store_must_open(f));
}

static void test_open_permissions(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";

	mt_store_close(store_must_open(f));
	assert_int_equal(chmod(f->db, 0640), 0);
	must_refuse(f, MT_E_PERMS);
	assert_int_equal(chmod(f->db, 0600), 0);
	assert_int_equal(chmod(f->dir, 0777), 0);
	must_refuse(f, MT_E_PERMS);
	assert_int_equal(chmod(f->dir, 0700), 0);
	mt_store_close(store_must_open(f));
	assert_int_equal(unlink(f->db), 0);
	assert_int_equal(symlink("/dev/null", f->db), 0);
	assert_int_equal(mt_store_open(&store, f->dir, why, sizeof(why)), MT_E_PERMS);
}

static void test_open_newer(void **state)
{
	static const uint8_t version[] = {0, 0, 0, 99};
	const struct store_folder *f = *state;
	char shm[160];

	mt_store_close(store_must_open(f));
	patch(f, 60, version, sizeof(version));
	must_refuse(f, MT_E_NEWER);
	/* The newer version's mark is still in the write-ahead log: its process was killed. */
	assert_int_equal(unlink(f->db), 0);
	mt_store_close(store_must_open(f));
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
	const struct store_folder *f = *state;
	struct mt_store *store = NULL;
	char why[512] = "";
	int fd;

	store_sql(f, "CREATE TABLE t (a); PRAGMA journal_mode = WAL;");
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
	store_sql(f, "PRAGMA journal_mode = WAL;");
	assert_int_equal(chmod(f->db, 0600), 0);
	mt_store_close(store_must_open(f));
}

/* Whatever a single damaged byte of the header or of any page does, it is never a crash, and a
 * refusal leaves the file as it was.
 */
static void test_open_flipped_bytes(void **state)
{
	const struct store_folder *f = *state;
	static uint8_t image[1 << 20];
	struct mt_store *store = store_must_open(f);
	struct mt_store_client client;
	struct mt_settings settings;
	ssize_t len;
	int refused = 0;
	int fd;

	assert_int_equal(mt_store_client_add(store, "a", (const uint8_t[32]){1}, NULL, &client), 0);
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
	mt_store_close(store_must_open(f));
	assert_int_equal(truncate(f->db, len / 2), 0);
	must_refuse(f, MT_E_CORRUPT);
}

/* Versions to come: each step is applied once and marks its version; a failing one changes nothing.
 */
static void test_migrate_steps(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
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
		cmocka_unit_test_setup_teardown(test_open_new, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_open_makes_folder, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_open_busy, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_open_permissions, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_open_newer, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_open_foreign, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_open_flipped_bytes, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_migrate_steps, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
