#include "store/store.h"

#include "store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATABASE_NAME "mytunnel.db"
#define LOCK_NAME     "mytunnel.lock"
/* Of SQLite's file header (its file format, section 1.3). */
#define HEADER_LEN            100
#define HEADER_USER_VERSION   60
#define HEADER_APPLICATION_ID 68

static const char *const pragmas[] = {
	/* Nobody changes the database behind the daemon's back, and no shared memory file is
	   needed. */
	"PRAGMA locking_mode = EXCLUSIVE",
	"PRAGMA trusted_schema = OFF",
	"PRAGMA cell_size_check = ON",
	"PRAGMA foreign_keys = ON",
	"PRAGMA secure_delete = ON", /* replaced keys do not stay in free pages */
	"PRAGMA temp_store = MEMORY",
};

static int fail_errno(struct mt_store *store, const char *what, const char *path)
{
	int err = errno;

	return mt_store_fail(store, -err, "could not %s %s: %s", what, path, strerror(err));
}

static int fail_unwritable(struct mt_store *store, const char *dir)
{
	int err = errno;

	return mt_store_fail(store, -err,
		"cannot write to the state folder %s as user %u: %s; make it writable for that "
		"user, or give the daemon another --state-dir",
		dir, (unsigned)geteuid(), strerror(err));
}

static int check_folder(struct mt_store *store, const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		return fail_errno(store, "make the folder", dir);
	}
	if (stat(dir, &st) != 0) {
		return fail_errno(store, "look at", dir);
	}
	if (!S_ISDIR(st.st_mode)) {
		return mt_store_fail(store, -ENOTDIR, "%s is not a folder", dir);
	}
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		return mt_store_fail(store, MT_E_PERMS,
			"the folder %s can be written by other users (mode %03o): run chmod go-w "
			"%s",
			dir, (unsigned)(st.st_mode & 0777), dir);
	}
	return 0;
}

/* A file with secrets belongs to us alone. A missing one is fine. */
static int check_file(struct mt_store *store, const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0) {
		return errno == ENOENT ? 0 : fail_errno(store, "look at", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return mt_store_fail(store, MT_E_PERMS, "%s is not a regular file", path);
	}
	if (st.st_uid != geteuid()) {
		return mt_store_fail(store, MT_E_PERMS,
			"%s belongs to user %u, but this is user %u: start the daemon as the "
			"file's owner, or "
			"run chown",
			path, (unsigned)st.st_uid, (unsigned)geteuid());
	}
	if ((st.st_mode & 077) != 0) {
		return mt_store_fail(store, MT_E_PERMS,
			"%s holds private keys and is open to other users (mode %03o): run chmod "
			"600 %s",
			path, (unsigned)(st.st_mode & 0777), path);
	}
	return 0;
}

/* The lock is the kernel's: it goes when the process does, however it ends. */
static int lock_folder(struct mt_store *store, const char *dir)
{
	char *path = NULL;
	int err = 0;

	if (asprintf(&path, "%s/" LOCK_NAME, dir) < 0) {
		return mt_store_fail(store, -ENOMEM, "no memory");
	}
	store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (store->lock_fd < 0) {
		err = errno == EROFS || errno == EACCES ? fail_unwritable(store, dir)
							: fail_errno(store, "open", path);
		goto out;
	}
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK) {
			err = mt_store_fail(store, MT_E_BUSY,
				"another mytunneld uses %s: stop it, or give this one another "
				"--state-dir",
				dir);
		} else {
			err = fail_errno(store, "lock", path);
		}
	}
out:
	free(path);
	return err;
}

static uint32_t header_number(const uint8_t *header, size_t offset)
{
	const uint8_t *p = header + offset;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int fail_foreign(struct mt_store *store)
{
	return mt_store_fail(store, MT_E_CORRUPT,
		"%s is not a database of MyTunnel, or is damaged: move it away and put a backup in "
		"its "
		"place",
		store->path);
}

static int check_header(struct mt_store *store, const uint8_t header[HEADER_LEN])
{
	uint32_t version = header_number(header, HEADER_USER_VERSION);
	uint32_t application_id = header_number(header, HEADER_APPLICATION_ID);

	/* 0 and 0: killed between the making of the file and its first transaction. */
	if (memcmp(header, "SQLite format 3", 16) != 0 ||
		(application_id != MT_STORE_APPLICATION_ID &&
			(application_id != 0 || version != 0))) {
		return fail_foreign(store);
	}
	if (version > (uint32_t)mt_store_schema_version && version <= INT32_MAX) {
		return mt_store_fail(store, MT_E_NEWER,
			"%s was made by a newer version of MyTunnel (schema %u, this one knows "
			"%d): install "
			"that version, or put back a backup of this one",
			store->path, (unsigned)version, mt_store_schema_version);
	}
	return 0;
}

/* Looks at the file before SQLite does, and makes it when it is missing. */
static int prepare_file(struct mt_store *store, const char *dir)
{
	uint8_t header[HEADER_LEN];
	ssize_t n;
	int dir_fd = -1;
	int fd;
	int err = 0;

	fd = open(store->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT) {
		fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (fd < 0) {
		err = fail_errno(store, "open", store->path);
		goto out;
	}
	n = pread(fd, header, sizeof(header), 0);
	if (n < 0) {
		err = fail_errno(store, "read", store->path);
		goto out;
	}
	if (n == 0) {
		/* New: its name has to last as long as what is acknowledged later. */
		dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir_fd < 0 || fsync(dir_fd) != 0) {
			err = fail_errno(store, "sync", dir);
		}
		goto out;
	}
	err = n < HEADER_LEN ? fail_foreign(store) : check_header(store, header);
out:
	if (dir_fd >= 0) {
		(void)close(dir_fd); /* only read from */
	}
	if (fd >= 0) {
		(void)close(fd); /* nothing was written */
	}
	return err;
}

static int configure(struct mt_store *store)
{
	int rc;
	int err = 0;

	rc = sqlite3_open_v2(
		store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_extended_result_codes(store->db, 1);
	}
	if (rc != SQLITE_OK) {
		return mt_store_fail_sqlite(store, rc, "open the database");
	}
	/* Until the contents are known to be good, closing must not write either. */
	rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	}
	if (rc != SQLITE_OK) {
		return mt_store_fail_sqlite(store, rc, "configure the database");
	}
	for (size_t i = 0; err == 0 && i < sizeof(pragmas) / sizeof(pragmas[0]); i++) {
		err = mt_store_exec(store, pragmas[i], "configure the database");
	}
	return err;
}

static int quick_check(struct mt_store *store)
{
	sqlite3_stmt *statement = NULL;
	const char *text;
	int rc;
	int err = 0;

	rc = sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc != SQLITE_ROW) {
		err = mt_store_fail_sqlite(
			store, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, "check the database");
		goto out;
	}
	text = (const char *)sqlite3_column_text(statement, 0);
	if (text == NULL || strcmp(text, "ok") != 0) {
		err = mt_store_fail(store, MT_E_CORRUPT,
			"%s is damaged (%s): move it away and put a backup in its place",
			store->path, text == NULL ? "no answer" : text);
	}
out:
	(void)sqlite3_finalize(statement); /* repeats the step's result */
	return err;
}

/* The same questions as check_header, now with what is still in the write-ahead log. */
static int check_contents(struct mt_store *store)
{
	int64_t application_id = 0;
	int64_t tables = 0;
	int64_t version = 0;
	int err;

	err = mt_store_number(store, "SELECT count(*) FROM sqlite_schema", &tables);
	if (err == 0) {
		err = mt_store_number(store, "PRAGMA application_id", &application_id);
	}
	if (err == 0) {
		err = mt_store_number(store, "PRAGMA user_version", &version);
	}
	if (err != 0) {
		return err;
	}
	if (version > mt_store_schema_version) {
		return mt_store_migrate(store, mt_store_schema, mt_store_schema_version);
	}
	if (tables == 0 ? version != 0
			: application_id != MT_STORE_APPLICATION_ID || version <= 0) {
		return fail_foreign(store);
	}
	if (sqlite3_db_readonly(store->db, "main") != 0) {
		return fail_foreign(store); /* a write version that this SQLite does not know */
	}
	return quick_check(store);
}

static int start_writing(struct mt_store *store)
{
	int rc;
	int err;

	err = mt_store_exec(store, "PRAGMA journal_mode = WAL", "switch to a write-ahead log");
	if (err == 0) {
		err = mt_store_exec(store, "PRAGMA synchronous = FULL", "configure the database");
	}
	if (err == 0) {
		err = mt_store_migrate(store, mt_store_schema, mt_store_schema_version);
	}
	if (err != 0) {
		return err;
	}
	rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	return rc == SQLITE_OK ? 0 : mt_store_fail_sqlite(store, rc, "configure the database");
}

static int open_in(struct mt_store *store, const char *dir)
{
	char *wal = NULL;
	int err;

	if (asprintf(&store->path, "%s/" DATABASE_NAME, dir) < 0) {
		store->path = NULL;
		return mt_store_fail(store, -ENOMEM, "no memory");
	}
	if (asprintf(&wal, "%s-wal", store->path) < 0) {
		return mt_store_fail(store, -ENOMEM, "no memory");
	}
	err = check_folder(store, dir);
	if (err == 0) {
		err = check_file(store, store->path);
	}
	if (err == 0) {
		err = check_file(store, wal);
	}
	if (err == 0) {
		err = lock_folder(store, dir);
	}
	if (err == 0) {
		err = prepare_file(store, dir);
	}
	if (err == 0) {
		err = configure(store);
	}
	if (err == 0) {
		err = check_contents(store);
	}
	if (err == 0) {
		err = start_writing(store);
	}
	if (err == 0) {
		mt_store_candidate_discard(store); /* of a restore that was killed */
	}
	free(wal);
	return err;
}

int mt_store_open(struct mt_store **out, const char *dir, char *why, size_t why_cap)
{
	struct mt_store *store;
	int err;

	store = calloc(1, sizeof(*store));
	if (store == NULL) {
		(void)snprintf(why, why_cap, "no memory");
		return -ENOMEM;
	}
	store->lock_fd = -1;
	err = open_in(store, dir);
	if (err != 0) {
		(void)snprintf(why, why_cap, "%s", store->error);
		mt_store_close(store);
		return err;
	}
	*out = store;
	return 0;
}

void mt_store_close(struct mt_store *store)
{
	if (store == NULL) {
		return;
	}
	for (size_t i = 0; i < MT_QUERY_COUNT; i++) {
		(void)sqlite3_finalize(store->statements[i]); /* repeats the last step's result */
	}
	/* With no statement left this cannot fail; a checkpoint that did is made up for at the next
	 * start.
	 */
	(void)sqlite3_close(store->db);
	if (store->lock_fd >= 0) {
		(void)close(store->lock_fd); /* nothing was written; this also unlocks */
	}
	free(store->path);
	free(store);
}

const char *mt_store_error(const struct mt_store *store)
{
	return store->error;
}

const char *mt_store_path(const struct mt_store *store)
{
	return store->path;
}

int mt_store_version(const struct mt_store *store)
{
	return store->version;
}
