#include "store/store_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Columns in the order in which store_clients.c reads them. */
#define CLIENT_COLUMNS                                                                             \
	"SELECT id, name, fingerprint, created_at, revoked_at, disabled_at, expires_at, "          \
	"rate_bits, quota_bytes, quota_period, max_connections, note, "                            \
	"coalesce(bytes_received, 0), coalesce(bytes_sent, 0), coalesce(period_start, 0), "        \
	"coalesce(period_bytes, 0), coalesce(last_seen, 0), coalesce(last_address, '') "           \
	"FROM client LEFT JOIN client_usage ON client_id = id "

static const char *const query_text[MT_QUERY_COUNT] = {
	[MT_QUERY_BEGIN] = "BEGIN IMMEDIATE",
	[MT_QUERY_COMMIT] = "COMMIT",
	[MT_QUERY_ROLLBACK] = "ROLLBACK",
	[MT_QUERY_SETTINGS] = "SELECT key, value FROM setting",
	[MT_QUERY_SETTING_PUT] = "INSERT INTO setting (key, value) VALUES (?1, ?2) "
				 "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
	[MT_QUERY_SETTING_DELETE] = "DELETE FROM setting WHERE key = ?1",
	[MT_QUERY_CLIENT_ADD] =
		"INSERT INTO client (name, fingerprint, created_at) VALUES (?1, ?2, ?3)",
	[MT_QUERY_CLIENT_BY_NAME] = CLIENT_COLUMNS "WHERE name = ?1",
	[MT_QUERY_CLIENT_BY_KEY] = CLIENT_COLUMNS "WHERE fingerprint = ?1",
	[MT_QUERY_CLIENT_REVOKE] =
		"UPDATE client SET revoked_at = ?2 WHERE name = ?1 AND revoked_at = 0",
	[MT_QUERY_CLIENT_REMOVE] = "DELETE FROM client WHERE name = ?1",
	[MT_QUERY_CLIENTS] = CLIENT_COLUMNS "ORDER BY name",
	[MT_QUERY_CLIENTS_SCAN] = CLIENT_COLUMNS,
	[MT_QUERY_CLIENT_ENABLE] = "UPDATE client SET disabled_at = ?2 WHERE name = ?1",
	[MT_QUERY_CLIENT_LIMITS] =
		"UPDATE client SET expires_at = ?2, rate_bits = ?3, quota_bytes = ?4, "
		"quota_period = ?5, max_connections = ?6, note = ?7 WHERE name = ?1",
	/* Whole values, never additions: written twice they are still right. */
	[MT_QUERY_CLIENT_USAGE_PUT] =
		"INSERT INTO client_usage (client_id, bytes_received, bytes_sent, period_start, "
		"period_bytes, last_seen, last_address) "
		"SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 FROM client WHERE id = ?1 "
		"ON CONFLICT (client_id) DO UPDATE SET bytes_received = excluded.bytes_received, "
		"bytes_sent = excluded.bytes_sent, period_start = excluded.period_start, "
		"period_bytes = excluded.period_bytes, last_seen = excluded.last_seen, "
		"last_address = excluded.last_address",
	[MT_QUERY_RULES] = "SELECT position, rule FROM access_rule ORDER BY position",
	[MT_QUERY_RULE_GET] = "SELECT position, rule FROM access_rule WHERE position = ?1",
	[MT_QUERY_RULE_ADD] =
		"INSERT INTO access_rule (position, rule, created_at) VALUES (?1, ?2, ?3)",
	[MT_QUERY_RULE_REMOVE] = "DELETE FROM access_rule WHERE position = ?1",
	/* Two steps, since a place is unique at every moment: to the new number below zero, and
	 * from there to above. */
	[MT_QUERY_RULE_MAKE_ROOM] =
		"UPDATE access_rule SET position = -(position + 1) WHERE position >= ?1",
	[MT_QUERY_RULE_CLOSE_GAP] =
		"UPDATE access_rule SET position = -(position - 1) WHERE position > ?1",
	[MT_QUERY_RULE_TURN] = "UPDATE access_rule SET position = -position WHERE position < 0",
	[MT_QUERY_CERT_GET] = "SELECT chain, key FROM certificate WHERE kind = ?1",
	[MT_QUERY_CERT_PUT] =
		"INSERT INTO certificate (kind, chain, key, changed_at) VALUES (?1, ?2, ?3, ?4) "
		"ON CONFLICT (kind) DO UPDATE SET chain = excluded.chain, key = excluded.key, "
		"changed_at = excluded.changed_at",
	[MT_QUERY_SECRET_GET] = "SELECT value FROM secret WHERE name = ?1",
	[MT_QUERY_SECRET_PUT] = "INSERT INTO secret (name, value) VALUES (?1, ?2)",
	[MT_QUERY_SECRET_REPLACE] = "INSERT INTO secret (name, value) VALUES (?1, ?2) "
				    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
	[MT_QUERY_SECRET_REMOVE] = "DELETE FROM secret WHERE name = ?1",
	[MT_QUERY_COUNTER_GET] = "SELECT value FROM counter WHERE name = ?1",
	[MT_QUERY_COUNTER_PUT] = "INSERT INTO counter (name, value) VALUES (?1, ?2) "
				 "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
	[MT_QUERY_AUDIT_ADD] = "INSERT INTO audit (at, uid, user, pid, verb, detail) "
			       "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[MT_QUERY_AUDIT_TRIM] = "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1",
	/* The newest of them, oldest first. */
	[MT_QUERY_AUDIT_LAST] = "SELECT * FROM (SELECT id, at, uid, user, pid, verb, detail "
				"FROM audit ORDER BY id DESC LIMIT ?1) ORDER BY id",
};

int mt_store_fail(struct mt_store *store, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(store->error, sizeof(store->error), format, args);
	va_end(args);
	return err;
}

static int error_of_sqlite(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT: return MT_E_CORRUPT;
	case SQLITE_BUSY:
	case SQLITE_LOCKED: return MT_E_BUSY;
	case SQLITE_CONSTRAINT: return MT_E_EXISTS;
	default: return MT_E_STORE;
	}
}

int mt_store_fail_sqlite(struct mt_store *store, int rc, const char *what)
{
	int err = error_of_sqlite(rc);

	if (err == -ENOSPC) {
		return mt_store_fail(store, err,
			"could not %s: no room left for %s; nothing was changed, free some space "
			"and try "
			"again",
			what, store->path);
	}
	if (err == MT_E_CORRUPT) {
		return mt_store_fail(store, err,
			"could not %s: %s is damaged (%s); stop the daemon, move the file away and "
			"put a "
			"backup in its place",
			what, store->path, sqlite3_errstr(rc));
	}
	/* SQLite's messages name tables and columns, never values: those are bound. */
	return mt_store_fail(store, err, "could not %s in %s: %s (%s)", what, store->path,
		store->db == NULL ? sqlite3_errstr(rc) : sqlite3_errmsg(store->db),
		sqlite3_errstr(rc));
}

int mt_store_query(struct mt_store *store, enum mt_store_query query, sqlite3_stmt **out)
{
	sqlite3_stmt **slot = &store->statements[query];

	if (*slot == NULL) {
		int rc = sqlite3_prepare_v3(
			store->db, query_text[query], -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);

		if (rc != SQLITE_OK) {
			return mt_store_fail_sqlite(store, rc, "prepare a statement");
		}
	}
	*out = *slot;
	return 0;
}

void mt_store_done(sqlite3_stmt *statement)
{
	if (statement == NULL) {
		return;
	}
	/* Its result repeats that of the last step, which was seen. */
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
}

int mt_store_run(struct mt_store *store, sqlite3_stmt *statement, const char *what)
{
	int rc = sqlite3_step(statement);
	int err = 0;

	if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
		err = mt_store_fail_sqlite(store, rc, what);
	}
	mt_store_done(statement);
	return err;
}

int mt_store_put_number(struct mt_store *store, enum mt_store_query query, const char *name,
	int64_t value, const char *what)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, query, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 2, value);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, what);
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, what);
}

int mt_store_exec(struct mt_store *store, const char *sql, const char *what)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : mt_store_fail_sqlite(store, rc, what);
}

int mt_store_number(struct mt_store *store, const char *sql, int64_t *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err = 0;

	rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_ROW) {
		*out = sqlite3_column_int64(statement, 0);
	} else {
		err = mt_store_fail_sqlite(
			store, rc == SQLITE_DONE ? SQLITE_ERROR : rc, "read the database");
	}
	(void)sqlite3_finalize(statement); /* repeats the step's result */
	return err;
}

static int run_plain(struct mt_store *store, enum mt_store_query query, const char *what)
{
	sqlite3_stmt *statement = NULL;
	int err = mt_store_query(store, query, &statement);

	return err != 0 ? err : mt_store_run(store, statement, what);
}

int mt_store_begin(struct mt_store *store)
{
	return run_plain(store, MT_QUERY_BEGIN, "start a transaction");
}

int mt_store_end(struct mt_store *store, int err)
{
	char first[MT_STORE_ERROR_MAX];

	if (err == 0) {
		err = run_plain(store, MT_QUERY_COMMIT, "save a change");
	}
	/* SQLite rolls back by itself on some failures, then there is nothing left to do. */
	if (err != 0 && sqlite3_get_autocommit(store->db) == 0) {
		memcpy(first, store->error, sizeof(first));
		if (run_plain(store, MT_QUERY_ROLLBACK, "undo a change") == 0) {
			memcpy(store->error, first, sizeof(first));
		}
	}
	return err;
}
