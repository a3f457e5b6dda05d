#include "store/store_private.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANDIDATE_FOLDER "restore"
/* Of SQLite's file header: the versions that a writer and a reader need; 1 is a plain file. */
#define HEADER_WRITE_VERSION  18
#define HEADER_READ_VERSION   19
#define HEADER_USER_VERSION   60 /* of the database file format, with HEADER_LEN */
#define HEADER_APPLICATION_ID 68
#define HEADER_LEN            100
#define NUMBER_MAX            "9007199254740992" /* 2^53: room enough above it */

static int copy_database(struct mt_store *to_error, sqlite3 *to, sqlite3 *from, const char *what)
{
	sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
	int rc;

	if (backup == NULL) {
		return mt_store_fail(
			to_error, MT_E_STORE, "could not %s: %s", what, sqlite3_errmsg(to));
	}
	(void)sqlite3_backup_step(backup, -1); /* its result is that of finish */
	rc = sqlite3_backup_finish(backup);
	return rc == SQLITE_OK ? 0 : mt_store_fail_sqlite(to_error, rc, what);
}

int mt_store_backup(struct mt_store *store, uint8_t **image, size_t *len)
{
	sqlite3 *copy = NULL;
	sqlite3_int64 size = 0;
	unsigned char *bytes = NULL;
	int rc = sqlite3_open(":memory:", &copy);
	int err;

	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "make a backup");
		goto out;
	}
	err = copy_database(store, copy, store->db, "make a backup");
	if (err != 0) {
		goto out;
	}
	bytes = sqlite3_serialize(copy, "main", &size, 0);
	if (bytes == NULL || size < HEADER_LEN) {
		sqlite3_free(bytes);
		err = mt_store_fail(store, -ENOMEM, "no memory");
		goto out;
	}
	/* One file that needs no log beside it. */
	bytes[HEADER_WRITE_VERSION] = 1;
	bytes[HEADER_READ_VERSION] = 1;
	*image = bytes;
	*len = (size_t)size;
out:
	(void)sqlite3_close(copy); /* it has no statements; memory alone */
	return err;
}

void mt_store_image_free(uint8_t *image, size_t len)
{
	if (image != NULL) {
		mt_wipe(image, len);
		sqlite3_free(image);
	}
}

static char *folder_of(const char *path, const char *suffix)
{
	const char *slash = strrchr(path, '/');
	char *text = NULL;

	if (slash == NULL || asprintf(&text, "%.*s/" CANDIDATE_FOLDER "%s", (int)(slash - path),
				     path, suffix) < 0) {
		return NULL;
	}
	return text;
}

void mt_store_candidate_discard(struct mt_store *store)
{
	static const char *const names[] = {
		"/mytunnel.db", "/mytunnel.db-wal", "/mytunnel.db-journal", "/mytunnel.lock", ""};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = folder_of(store->path, names[i]);

		if (path != NULL) {
			(void)remove(path); /* most often it is not there */
			free(path);
		}
	}
}

static int write_image(struct mt_store *store, const char *path, const uint8_t *image, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t done = 0;
	int err = 0;

	if (fd < 0) {
		err = -errno;
	}
	while (err == 0 && done < len) {
		ssize_t n = write(fd, image + done, len - done);

		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			err = n == 0 ? -EIO : -errno;
		}
	}
	if (fd >= 0 && close(fd) != 0 && err == 0) {
		err = -errno;
	}
	return err == 0 ? 0
			: mt_store_fail(
				  store, err, "could not write %s: %s", path, mt_strerror(err));
}

static int integrity_check(struct mt_store *store, char *why, size_t why_cap)
{
	sqlite3_stmt *statement = NULL;
	const char *text = NULL;
	int err = 0;

	if (sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(1)", -1, &statement, NULL) ==
			SQLITE_OK &&
		sqlite3_step(statement) == SQLITE_ROW) {
		text = (const char *)sqlite3_column_text(statement, 0);
	}
	if (text == NULL || strcmp(text, "ok") != 0) {
		(void)snprintf(why, why_cap, "the file is damaged (%s)",
			text != NULL ? text : sqlite3_errmsg(store->db));
		err = MT_E_CORRUPT;
	}
	(void)sqlite3_finalize(statement); /* repeats the step's result */
	return err;
}

/* Only a first start may meet a database without our mark: a backup always has it. */
static bool has_mark(const uint8_t *image, size_t len)
{
	const uint8_t *id = image + HEADER_APPLICATION_ID;
	const uint8_t *version = image + HEADER_USER_VERSION;

	return len >= HEADER_LEN && memcmp(image, "SQLite format 3", 16) == 0 &&
	       ((uint32_t)id[0] << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3]) ==
		       MT_STORE_APPLICATION_ID &&
	       (version[0] | version[1] | version[2] | version[3]) != 0;
}

/* Without the authority that made them, every client's pin would be void. */
static int check_authority(struct mt_store *candidate, char *why, size_t why_cap)
{
	int64_t count = 0;
	int err = mt_store_number(
		candidate, "SELECT count(*) FROM certificate WHERE kind = 'ca'", &count);

	if (err != 0) {
		(void)snprintf(why, why_cap, "%s", candidate->error);
	} else if (count == 0) {
		(void)snprintf(why, why_cap, "the backup has no authority in it");
		err = MT_E_CORRUPT;
	}
	return err;
}

/* Numbers that leave no room for those to come, which no appliance has got to by itself. */
static int check_numbers(struct mt_store *candidate, char *why, size_t why_cap)
{
	static const char *const absurd[] = {
		"SELECT count(*) FROM audit WHERE typeof(id) <> 'integer' OR typeof(at) <> "
		"'integer' OR id NOT BETWEEN 1 AND " NUMBER_MAX
		" OR at NOT BETWEEN 0 AND " NUMBER_MAX,
		"SELECT count(*) FROM client WHERE id NOT BETWEEN 1 AND " NUMBER_MAX,
		"SELECT count(*) FROM sqlite_sequence WHERE typeof(seq) <> 'integer' OR seq NOT "
		"BETWEEN 0 AND " NUMBER_MAX,
		"SELECT count(*) FROM counter WHERE typeof(value) <> 'integer' OR value NOT "
		"BETWEEN 0 AND " NUMBER_MAX,
	};
	int64_t count = 0;
	int err = 0;

	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]) && err == 0; i++) {
		err = mt_store_number(candidate, absurd[i], &count);
		if (err != 0) {
			(void)snprintf(why, why_cap, "%s", candidate->error);
		} else if (count != 0) {
			(void)snprintf(why, why_cap,
				"the backup has numbers in it that are not "
				"those of an appliance");
			err = MT_E_CORRUPT;
		}
	}
	return err;
}

/* The store's own words name a file in the state folder, which nobody has heard of. */
static void explain_open(int err, char *why, size_t why_cap)
{
	if (err == MT_E_NEWER) {
		(void)snprintf(why, why_cap,
			"the backup was made by a newer version of MyTunnel than this one");
	} else if (err == MT_E_CORRUPT) {
		(void)snprintf(why, why_cap, "the file is not a backup of MyTunnel, or is damaged");
	}
}

int mt_store_candidate_open(struct mt_store **out, struct mt_store *live, const uint8_t *image,
	size_t len, char *why, size_t why_cap)
{
	char *folder = folder_of(live->path, "");
	char *path = folder_of(live->path, "/mytunnel.db");
	struct mt_store *candidate = NULL;
	struct mt_settings settings;
	int err = -ENOMEM;

	(void)snprintf(why, why_cap, "no memory");
	if (folder == NULL || path == NULL) {
		goto out;
	}
	mt_store_candidate_discard(live);
	if (!has_mark(image, len)) {
		err = MT_E_CORRUPT;
		explain_open(err, why, why_cap);
		goto out;
	}
	if (mkdir(folder, 0700) != 0) {
		err = -errno;
		(void)snprintf(
			why, why_cap, "could not make the folder %s: %s", folder, mt_strerror(err));
		goto out;
	}
	err = write_image(live, path, image, len);
	if (err != 0) {
		(void)snprintf(why, why_cap, "%s", live->error); /* cut when too long */
		goto out;
	}
	err = mt_store_open(&candidate, folder, why, why_cap);
	if (err != 0) {
		explain_open(err, why, why_cap);
		goto out;
	}
	candidate->is_copy = true;
	err = integrity_check(candidate, why, why_cap);
	if (err == 0) {
		err = check_authority(candidate, why, why_cap);
	}
	if (err == 0) {
		err = check_numbers(candidate, why, why_cap);
	}
	if (err == 0) {
		err = mt_store_settings_load(candidate, &settings);
		if (err != 0) {
			(void)snprintf(why, why_cap, "%s", candidate->error);
		}
	}
out:
	if (err != 0) {
		mt_store_candidate_close(candidate, live);
	} else {
		*out = candidate;
	}
	free(path);
	free(folder);
	return err;
}

void mt_store_candidate_close(struct mt_store *candidate, struct mt_store *live)
{
	mt_store_close(candidate);
	mt_store_candidate_discard(live);
}

/* What belongs to this installation and not to the data: a restored database must neither bring
 * back a generation that clients have seen, nor break the resets that tell them of a restart.
 */
static int carry_machine(struct mt_store *candidate, struct mt_store *live)
{
	uint8_t secret[32];
	sqlite3_stmt *statement = NULL;
	int64_t generation = 0;
	int rc;
	int err = mt_store_secret(live, "quic", secret);

	if (err == 0) {
		err = mt_store_number(live,
			"SELECT coalesce(max(value), 0) FROM counter WHERE name = 'generation'",
			&generation);
	}
	if (err != 0) {
		return mt_store_fail(candidate, err, "%s", live->error);
	}
	rc = sqlite3_prepare_v2(candidate->db,
		"INSERT OR REPLACE INTO secret (name, value) VALUES ('quic', ?1)", -1, &statement,
		NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_blob(statement, 1, secret, sizeof(secret), SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	(void)sqlite3_finalize(statement); /* repeats the step's result */
	mt_wipe(secret, sizeof(secret));
	if (rc == SQLITE_DONE) {
		rc = sqlite3_prepare_v2(candidate->db,
			"INSERT INTO counter (name, value) VALUES ('generation', ?1) ON CONFLICT "
			"(name) DO UPDATE SET value = max(value, excluded.value)",
			-1, &statement, NULL);
		if (rc == SQLITE_OK) {
			rc = sqlite3_bind_int64(statement, 1, generation);
		}
		if (rc == SQLITE_OK) {
			rc = sqlite3_step(statement);
		}
		(void)sqlite3_finalize(statement); /* as above */
	}
	return rc == SQLITE_DONE ? 0
				 : mt_store_fail_sqlite(candidate, rc, "prepare the restored data");
}

/* ---- the audit trail ---- */

struct carry {
	struct mt_store *candidate;
	sqlite3_stmt *match;
	int64_t last_id; /* of the backup's own entries */
};

/* Finds one of the backup's entries that is the same but for its number, which two machines give by
 * themselves; each of them is found once. */
static int match(struct carry *c, const struct mt_store_audit *e, bool *found)
{
	const int64_t numbers[] = {e->at, e->uid, e->pid, c->last_id};
	const char *texts[] = {e->user, e->verb, e->detail};
	int rc = SQLITE_OK;

	for (int i = 0; i < 4 && rc == SQLITE_OK; i++) {
		rc = sqlite3_bind_int64(c->match, i + 1, numbers[i]);
	}
	for (int i = 0; i < 3 && rc == SQLITE_OK; i++) {
		rc = sqlite3_bind_text(c->match, i + 5, texts[i], -1, SQLITE_TRANSIENT);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(c->match);
	}
	*found = sqlite3_changes(c->candidate->db) > 0;
	(void)sqlite3_reset(c->match); /* repeats the step's result */
	return rc == SQLITE_DONE ? 0
				 : mt_store_fail_sqlite(c->candidate, rc, "keep the audit trail");
}

static int carry_entry(const struct mt_store_audit *entry, void *user)
{
	struct carry *c = user;
	bool found = false;
	int err = match(c, entry, &found);

	return err != 0 || found ? err : mt_store_audit_put(c->candidate, entry);
}

static int carry_entries(struct carry *c, struct mt_store *live)
{
	static const char what[] = "keep the audit trail";
	int rc;
	int err = mt_store_exec(c->candidate,
		"CREATE INDEX audit_same ON audit (at, pid); "
		"CREATE TEMP TABLE matched (id INTEGER PRIMARY KEY)",
		what);

	if (err != 0) {
		return err;
	}
	rc = sqlite3_prepare_v2(c->candidate->db,
		"INSERT INTO temp.matched SELECT id FROM audit WHERE at = ?1 AND uid = ?2 AND "
		"pid = ?3 AND id <= ?4 AND user = ?5 AND verb = ?6 AND detail = ?7 AND "
		"id NOT IN (SELECT id FROM temp.matched) LIMIT 1",
		-1, &c->match, NULL);
	err = rc == SQLITE_OK ? mt_store_audit_each(live, MT_STORE_AUDIT_MAX, carry_entry, c)
			      : mt_store_fail_sqlite(c->candidate, rc, what);
	(void)sqlite3_finalize(c->match); /* repeats the last step's result */
	return err == 0 ? mt_store_exec(c->candidate, "DROP INDEX audit_same", what) : err;
}

/* Who changed what on this machine stays known, whatever the backup says. */
static int carry_audit(struct mt_store *candidate, struct mt_store *live)
{
	struct carry carry = {.candidate = candidate};
	int err = mt_store_number(
		candidate, "SELECT coalesce(max(id), 0) FROM audit", &carry.last_id);

	if (err == 0) {
		err = mt_store_begin(candidate);
	}
	return err != 0 ? err : mt_store_end(candidate, carry_entries(&carry, live));
}

int mt_store_candidate_adopt(struct mt_store *live, struct mt_store *candidate)
{
	/* A copy that nobody needs after a crash. */
	int err = mt_store_exec(candidate, "PRAGMA synchronous = OFF", "prepare the restored data");

	if (err == 0) {
		err = carry_machine(candidate, live);
	}
	if (err == 0) {
		err = carry_audit(candidate, live);
	}
	if (err != 0) {
		return mt_store_fail(live, err, "%s", candidate->error);
	}
	/* One transaction of the live database: all or nothing, whatever happens. */
	return copy_database(live, live->db, candidate->db, "put the restored data in place");
}
