/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_clients.c store/store_certs.c store/store_secrets.c store/store_audit.c
 * store/store_backup.c store/store_usage.c store/store_rules.c proto/wire/settings.c
 * proto/wire/settings_table.c proto/wire/addr.c proto/wire/profile.c proto/wire/encode.c
 * proto/wire/bytes.c proto/wire/err.c proto/wire/rule.c proto/wire/net.c
 * store/store_column.c
 * tests/unit/store_folder.c
 */
/* The nth write, sync or cutting of a file fails, for every n: whatever was acknowledged is there
 * at the next start, what was refused is not, and the database is intact. A layer between SQLite
 * and the system does it.
 */
#include "store/store.h"

#include "store/store_private.h"
#include "tests/unit/store_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAULTS_MAX 400 /* more than one round of changes needs */

/* Counts down to the call that fails; -1: none does. All later ones fail too when `for_good`. */
static struct {
	int left;
	bool for_good;
	bool hit;
	int rc;
} fault = {.left = -1};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim_vfs;
static sqlite3_io_methods shim_methods;

struct shim_file {
	sqlite3_file base;
	sqlite3_file *real; /* behind this struct */
};

static sqlite3_file *real_of(sqlite3_file *file)
{
	return ((struct shim_file *)file)->real;
}

static int next_fault(void)
{
	if (fault.left < 0) {
		return SQLITE_OK;
	}
	if (fault.left > 0) {
		fault.left--;
		return SQLITE_OK;
	}
	fault.hit = true;
	if (!fault.for_good) {
		fault.left = -1;
	}
	return fault.rc;
}

static int shim_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int shim_read(sqlite3_file *f, void *buf, int len, sqlite3_int64 at)
{
	return real_of(f)->pMethods->xRead(real_of(f), buf, len, at);
}

static int shim_write(sqlite3_file *f, const void *buf, int len, sqlite3_int64 at)
{
	int rc = next_fault();

	if (rc != SQLITE_OK) {
		/* Torn: half of it arrived. */
		(void)real_of(f)->pMethods->xWrite(real_of(f), buf, len / 2, at);
		return rc;
	}
	return real_of(f)->pMethods->xWrite(real_of(f), buf, len, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = next_fault();

	return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int shim_sync(sqlite3_file *f, int flags)
{
	int rc = next_fault();

	return rc != SQLITE_OK ? SQLITE_IOERR_FSYNC
			       : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int shim_lock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int shim_reserved(sqlite3_file *f, int *out)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int shim_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int shim_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int shim_traits(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int shim_open(
	sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	struct shim_file *f = (struct shim_file *)file;
	int rc;

	(void)vfs;
	f->real = (sqlite3_file *)(f + 1);
	rc = real_vfs->xOpen(real_vfs, name, f->real, flags, out_flags);
	f->base.pMethods = rc == SQLITE_OK ? &shim_methods : NULL;
	return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	(void)vfs;
	return real_vfs->xDelete(real_vfs, name, sync_dir);
}

static int install_shim(void **state)
{
	(void)state;
	real_vfs = sqlite3_vfs_find(NULL);
	assert_non_null(real_vfs);
	shim_methods = (sqlite3_io_methods){.iVersion = 1, /* no shared memory: as the store */
		.xClose = shim_close,
		.xRead = shim_read,
		.xWrite = shim_write,
		.xTruncate = shim_truncate,
		.xSync = shim_sync,
		.xFileSize = shim_size,
		.xLock = shim_lock,
		.xUnlock = shim_unlock,
		.xCheckReservedLock = shim_reserved,
		.xFileControl = shim_control,
		.xSectorSize = shim_sector,
		.xDeviceCharacteristics = shim_traits};
	shim_vfs = *real_vfs;
	shim_vfs.zName = "faulty";
	shim_vfs.szOsFile = (int)sizeof(struct shim_file) + real_vfs->szOsFile;
	shim_vfs.pNext = NULL;
	shim_vfs.xOpen = shim_open;
	shim_vfs.xDelete = shim_delete;
	assert_int_equal(sqlite3_vfs_register(&shim_vfs, 1), SQLITE_OK);
	return 0;
}

static void arm(int n, bool for_good, int rc)
{
	fault.left = n;
	fault.for_good = for_good;
	fault.hit = false;
	fault.rc = rc;
}

static void disarm(void)
{
	fault.left = -1;
}

/* What the store has promised so far. */
struct promised {
	int64_t streams;
	int clients;
};

static int put_streams(struct mt_store *store, int64_t number)
{
	char text[32];
	struct mt_store_change change = {MT_SET_QUIC_MAX_STREAMS_PER_CONN, text};

	(void)snprintf(text, sizeof(text), "%lld", (long long)number);
	return mt_store_settings_write(store, &change, 1);
}

static int add_client(struct mt_store *store, int number)
{
	char name[32];
	uint8_t key[32] = {(uint8_t)number, (uint8_t)(number >> 8), 7};
	struct mt_store_client client;

	(void)snprintf(name, sizeof(name), "c%d", number);
	return mt_store_client_add(store, name, key, NULL, &client);
}

static int count_one(const struct mt_store_client *client, void *user)
{
	(void)client;
	++*(int *)user;
	return 0;
}

static void check(struct mt_store *store, const struct promised *p)
{
	struct mt_settings settings;
	int64_t intact = 0;
	int clients = 0;

	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	assert_int_equal(mt_settings_int(&settings, MT_SET_QUIC_MAX_STREAMS_PER_CONN), p->streams);
	assert_int_equal(mt_store_client_each(store, count_one, &clients), 0);
	assert_int_equal(clients, p->clients);
	assert_int_equal(mt_store_number(store,
				 "SELECT count(*) FROM pragma_integrity_check WHERE "
				 "integrity_check = 'ok'",
				 &intact),
		0);
	assert_int_equal(intact, 1);
}

/* Some changes with a fault in their midst; returns whether it was met. */
static bool change_with_fault(
	struct store_folder *f, struct promised *p, int n, bool for_good, int rc)
{
	struct mt_store *store = store_must_open(f);
	struct mt_store_audit entry = {.user = "ann", .verb = "set", .detail = "{}"};
	int64_t number = 20 + n;
	bool met;

	arm(n, for_good, rc);
	for (int i = 0; i < 3; i++) {
		int err = put_streams(store, number + i);

		if (err == 0) {
			p->streams = number + i;
		} else {
			assert_true(mt_store_error(store)[0] != '\0');
		}
		err = add_client(store, p->clients);
		if (err == 0) {
			p->clients++;
		}
		if (mt_store_audit_add(store, &entry) != 0) { /* one more to be hit */
			assert_true(fault.hit);
		}
	}
	met = fault.hit;
	disarm();
	/* In force now what was acknowledged, in this process as after the next start. */
	check(store, p);
	mt_store_close(store);
	store = store_must_open(f);
	check(store, p);
	mt_store_close(store);
	return met;
}

static void every_fault(struct store_folder *f, bool for_good, int rc)
{
	struct promised p = {.streams = 100};
	int met = 0;

	for (int n = 0; n < FAULTS_MAX; n++) {
		if (!change_with_fault(f, &p, n, for_good, rc)) {
			break;
		}
		met++;
	}
	assert_true(met > 10); /* the layer is really in between */
	assert_true(met < FAULTS_MAX);
}

static void test_write_fails_once(void **state)
{
	every_fault(*state, false, SQLITE_IOERR_WRITE);
}

static void test_write_fails_for_good(void **state)
{
	every_fault(*state, true, SQLITE_IOERR_WRITE);
}

static void test_disk_full(void **state)
{
	every_fault(*state, true, SQLITE_FULL);
}

/* A restore that fails at any point has changed nothing. */
static void test_restore_fails(void **state)
{
	struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct promised before;
	uint8_t *image = NULL;
	size_t len = 0;
	int err = -1;

	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(put_streams(store, 50), 0);
	assert_int_equal(mt_store_backup(store, &image, &len), 0);
	assert_int_equal(put_streams(store, 60), 0);
	assert_int_equal(add_client(store, 1), 0);
	before = (struct promised){.streams = 60, .clients = 1};
	for (int n = 0; n < FAULTS_MAX && err != 0; n++) {
		struct mt_store *candidate = NULL;
		char why[512] = "";

		arm(n, true, SQLITE_FULL);
		err = mt_store_candidate_open(&candidate, store, image, len, why, sizeof(why));
		if (err == 0) {
			err = mt_store_candidate_adopt(store, candidate);
		}
		disarm();
		mt_store_candidate_close(candidate, store);
		if (err != 0) {
			check(store, &before);
		}
	}
	assert_int_equal(err, 0);
	check(store, &(struct promised){.streams = 50, .clients = 0});
	mt_store_image_free(image, len);
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_fails_once, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_write_fails_for_good, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_restore_fails, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, install_shim, NULL);
}
