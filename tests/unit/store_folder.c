#include "tests/unit/store_folder.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

int store_setup(void **state)
{
	struct store_folder *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/mt-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->db, sizeof(f->db), "%s/mytunnel.db", f->dir);
	(void)snprintf(f->wal, sizeof(f->wal), "%s/mytunnel.db-wal", f->dir);
	*state = f;
	return 0;
}

int store_teardown(void **state)
{
	struct store_folder *f = *state;
	char lock[128];

	(void)snprintf(lock, sizeof(lock), "%s/mytunnel.lock", f->dir);
	(void)unlink(f->db); /* some tests have none of these */
	(void)unlink(f->wal);
	(void)unlink(lock);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

struct mt_store *store_must_open(const struct store_folder *f)
{
	struct mt_store *store = NULL;
	char why[512] = "";
	int err = mt_store_open(&store, f->dir, why, sizeof(why));

	if (err != 0) {
		fail_msg("%d: %s", err, why);
	}
	return store;
}

void store_sql(const struct store_folder *f, const char *text)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK) {
		fail_msg("%s", message);
	}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}
