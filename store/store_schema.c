#include "store/store_private.h"

#include <stdio.h>

const struct mt_store_migration mt_store_schema[] = {
	{
		"CREATE TABLE setting ("
		"  key TEXT PRIMARY KEY NOT NULL CHECK (typeof(key) = 'text'),"
		"  value TEXT NOT NULL CHECK (typeof(value) = 'text')"
		") WITHOUT ROWID;"
		/* AUTOINCREMENT: an id is never given twice, whatever is removed. */
		"CREATE TABLE client ("
		"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
		"  name TEXT NOT NULL UNIQUE CHECK (typeof(name) = 'text'),"
		"  fingerprint BLOB NOT NULL UNIQUE"
		"    CHECK (typeof(fingerprint) = 'blob' AND length(fingerprint) = 32),"
		"  created_at INTEGER NOT NULL CHECK (typeof(created_at) = 'integer'),"
		"  revoked_at INTEGER NOT NULL DEFAULT 0 CHECK (typeof(revoked_at) = 'integer')"
		");"
		"CREATE TABLE certificate ("
		"  kind TEXT PRIMARY KEY NOT NULL CHECK (kind IN ('ca', 'server', 'imported')),"
		"  chain TEXT NOT NULL CHECK (typeof(chain) = 'text'),"
		"  key TEXT NOT NULL CHECK (typeof(key) = 'text'),"
		"  changed_at INTEGER NOT NULL"
		") WITHOUT ROWID;"
		"CREATE TABLE secret ("
		"  name TEXT PRIMARY KEY NOT NULL,"
		"  value BLOB NOT NULL CHECK (typeof(value) = 'blob' AND length(value) = 32)"
		") WITHOUT ROWID;"
		"CREATE TABLE counter ("
		"  name TEXT PRIMARY KEY NOT NULL,"
		"  value INTEGER NOT NULL CHECK (typeof(value) = 'integer')"
		") WITHOUT ROWID;",
	},
	{
		"CREATE TABLE audit ("
		"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
		"  at INTEGER NOT NULL,"
		"  uid INTEGER NOT NULL,"
		"  user TEXT NOT NULL,"
		"  pid INTEGER NOT NULL,"
		"  verb TEXT NOT NULL,"
		"  detail TEXT NOT NULL"
		");",
	},
	{
		/* What a client may do, and in a table of its own, since it is written all the
		 * time, what it has done.
		 */
		"ALTER TABLE client ADD COLUMN disabled_at INTEGER NOT NULL DEFAULT 0;"
		"ALTER TABLE client ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;"
		"ALTER TABLE client ADD COLUMN rate_bits INTEGER NOT NULL DEFAULT 0;"
		"ALTER TABLE client ADD COLUMN quota_bytes INTEGER NOT NULL DEFAULT 0;"
		"ALTER TABLE client ADD COLUMN quota_period INTEGER NOT NULL DEFAULT 0"
		"  CHECK (quota_period IN (0, 1, 2));"
		"ALTER TABLE client ADD COLUMN max_connections INTEGER NOT NULL DEFAULT 0;"
		"ALTER TABLE client ADD COLUMN note TEXT NOT NULL DEFAULT '';"
		"CREATE TABLE client_usage ("
		"  client_id INTEGER PRIMARY KEY NOT NULL"
		"    REFERENCES client (id) ON DELETE CASCADE,"
		"  bytes_received INTEGER NOT NULL DEFAULT 0,"
		"  bytes_sent INTEGER NOT NULL DEFAULT 0,"
		"  period_start INTEGER NOT NULL DEFAULT 0,"
		"  period_bytes INTEGER NOT NULL DEFAULT 0,"
		"  last_seen INTEGER NOT NULL DEFAULT 0,"
		"  last_address TEXT NOT NULL DEFAULT ''"
		");",
	},
	{
		"CREATE TABLE access_rule ("
		"  position INTEGER PRIMARY KEY NOT NULL,"
		"  rule TEXT NOT NULL CHECK (typeof(rule) = 'text'),"
		"  created_at INTEGER NOT NULL"
		");",
	},
};
const int mt_store_schema_version = (int)(sizeof(mt_store_schema) / sizeof(mt_store_schema[0]));

/* The application id goes with the first step: a database has either both or is still empty. */
static int apply_step(struct mt_store *store, const char *sql, int version)
{
	char mark[128];
	int err;

	(void)snprintf(mark, sizeof(mark), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
		MT_STORE_APPLICATION_ID, version);
	err = mt_store_begin(store);
	if (err != 0) {
		return err;
	}
	err = mt_store_exec(store, sql, "migrate the database");
	if (err == 0) {
		err = mt_store_exec(store, mark, "migrate the database");
	}
	return mt_store_end(store, err);
}

int mt_store_migrate(struct mt_store *store, const struct mt_store_migration *steps, int count)
{
	int64_t version = 0;
	int err;

	err = mt_store_number(store, "PRAGMA user_version", &version);
	if (err != 0) {
		return err;
	}
	if (version > count) {
		return mt_store_fail(store, MT_E_NEWER,
			"%s was made by a newer version of MyTunnel (schema %lld, this one knows "
			"%d): "
			"install that version, or put back a backup of this one",
			store->path, (long long)version, count);
	}
	if (version < 0) {
		return mt_store_fail(store, MT_E_CORRUPT,
			"%s is damaged (schema version %lld): move it away and put a backup in its "
			"place",
			store->path, (long long)version);
	}
	for (int64_t next = version; next < count; next++) {
		err = apply_step(store, steps[next].sql, (int)next + 1);
		if (err != 0) {
			return err;
		}
	}
	store->version = count;
	return 0;
}
