#include "store/store_private.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static int64_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (int64_t)st.st_size : 0; /* a log may be missing */
}

int64_t mt_store_bytes(const struct mt_store *store)
{
	int64_t bytes = size_of(store->path);
	char wal[4096];

	if (snprintf(wal, sizeof(wal), "%s-wal", store->path) < (int)sizeof(wal)) {
		bytes += size_of(wal);
	}
	return bytes;
}

int mt_store_inspect(struct mt_store *store, struct mt_store_health *out)
{
	struct mt_store_health health = {.version = store->version};
	sqlite3_stmt *statement = NULL;
	struct statvfs fs;
	const char *text;
	int rc;
	int err = 0;

	rc = sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(1)", -1, &statement, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_ROW) {
		text = (const char *)sqlite3_column_text(statement, 0);
		health.intact = text != NULL && strcmp(text, "ok") == 0;
		(void)snprintf(health.problem, sizeof(health.problem), "%s",
			health.intact  ? ""
			: text != NULL ? text
				       : "no answer"); /* for people: cut when too long */
	} else {
		err = mt_store_fail_sqlite(
			store, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, "check the database");
	}
	(void)sqlite3_finalize(statement); /* repeats the step's result */
	if (err != 0) {
		return err;
	}
	health.file_bytes = mt_store_bytes(store);
	health.free_bytes =
		statvfs(store->path, &fs) == 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_frsize : -1;
	(void)snprintf(health.path, sizeof(health.path), "%s", store->path); /* as above */
	*out = health;
	return 0;
}
