/* What the files of the store share with each other. */
#pragma once

#include "store/store.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>

#define MT_STORE_ERROR_MAX 768
/* "MyTn": tells our databases from others. */
#define MT_STORE_APPLICATION_ID 0x4d79546e

/* Statements that are prepared once; their text stands in store_db.c. */
enum mt_store_query {
	MT_QUERY_BEGIN,
	MT_QUERY_COMMIT,
	MT_QUERY_ROLLBACK,
	MT_QUERY_SETTINGS,
	MT_QUERY_SETTING_PUT,
	MT_QUERY_SETTING_DELETE,
	MT_QUERY_CLIENT_ADD,
	MT_QUERY_CLIENT_BY_NAME,
	MT_QUERY_CLIENT_BY_KEY,
	MT_QUERY_CLIENT_REVOKE,
	MT_QUERY_CLIENT_ENABLE,
	MT_QUERY_CLIENT_LIMITS,
	MT_QUERY_CLIENT_USAGE_PUT,
	MT_QUERY_CLIENT_REMOVE,
	MT_QUERY_CLIENTS,
	MT_QUERY_CLIENTS_SCAN,
	MT_QUERY_RULES,
	MT_QUERY_RULE_GET,
	MT_QUERY_RULE_ADD,
	MT_QUERY_RULE_REMOVE,
	MT_QUERY_RULE_MAKE_ROOM,
	MT_QUERY_RULE_CLOSE_GAP,
	MT_QUERY_RULE_TURN,
	MT_QUERY_CERT_GET,
	MT_QUERY_CERT_PUT,
	MT_QUERY_SECRET_GET,
	MT_QUERY_SECRET_PUT,
	MT_QUERY_SECRET_REPLACE,
	MT_QUERY_SECRET_REMOVE,
	MT_QUERY_COUNTER_GET,
	MT_QUERY_COUNTER_PUT,
	MT_QUERY_AUDIT_ADD,
	MT_QUERY_AUDIT_TRIM,
	MT_QUERY_AUDIT_LAST,
	MT_QUERY_COUNT,
};

struct mt_store {
	sqlite3 *db;
	sqlite3_stmt *statements[MT_QUERY_COUNT];
	char *path; /* of the database */
	int lock_fd;
	int version;
	bool is_copy; /* of a backup that is to be restored: its file's name says nothing */
	char error[MT_STORE_ERROR_MAX];
};

/* One step of the schema: SQL that takes version `index` to `index + 1`. */
struct mt_store_migration {
	const char *sql;
};

/* Writes the sentence of mt_store_error and returns `err`. */
int mt_store_fail(struct mt_store *store, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for a result of SQLite: "could not <what>: <why>"; returns the error that stands for it.
 */
int mt_store_fail_sqlite(struct mt_store *store, int rc, const char *what);

/* MT_E_CORRUPT with a sentence that names the file and the cure; `format` says what of it is
 * unusable. */
int mt_store_fail_damaged(struct mt_store *store, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A column of the row that `statement` stands at, whose type and size are not taken on trust: false
 * when it is something else. */
bool mt_store_read_int(
	sqlite3_stmt *statement, int column, int64_t min, int64_t max, int64_t *out) MT_MUST_CHECK;
/* Up to `max` bytes without NUL; borrowed until the next step. */
bool mt_store_read_text(
	sqlite3_stmt *statement, int column, size_t max, const char **out) MT_MUST_CHECK;
/* The same copied, and only a line that can be shown. */
bool mt_store_read_line(sqlite3_stmt *statement, int column, char *out, size_t cap) MT_MUST_CHECK;

/* A cached statement, ready to be bound; hand it back with mt_store_done. */
int mt_store_query(
	struct mt_store *store, enum mt_store_query query, sqlite3_stmt **out) MT_MUST_CHECK;
/* Ends the use of a statement and forgets what was bound to it. NULL is allowed. */
void mt_store_done(sqlite3_stmt *statement);
/* Runs a statement that gives no rows and ends its use. `what` is for the message. */
int mt_store_run(struct mt_store *store, sqlite3_stmt *statement, const char *what) MT_MUST_CHECK;
/* Runs one of the statements that take a name and a number. */
int mt_store_put_number(struct mt_store *store, enum mt_store_query query, const char *name,
	int64_t value, const char *what) MT_MUST_CHECK;
/* Runs SQL text of ours that gives no rows. */
int mt_store_exec(struct mt_store *store, const char *sql, const char *what) MT_MUST_CHECK;
/* Reads one number, for example of a pragma. */
int mt_store_number(struct mt_store *store, const char *sql, int64_t *out) MT_MUST_CHECK;

/* Every begin is followed by one end: it commits when `err` is 0, else rolls back, and returns
 * `err` or what the commit failed with. The message of the first failure stays.
 */
int mt_store_begin(struct mt_store *store) MT_MUST_CHECK;
int mt_store_end(struct mt_store *store, int err) MT_MUST_CHECK;

/* mt_store_audit_add as part of a transaction. */
int mt_store_audit_put(struct mt_store *store, const struct mt_store_audit *entry) MT_MUST_CHECK;

/* Removes the files of a candidate (store_backup.c). */
void mt_store_candidate_discard(struct mt_store *store);

/* The schema of this version. */
extern const struct mt_store_migration mt_store_schema[];
extern const int mt_store_schema_version;
/* Brings the database from its version to `count`, each step in a transaction of its own.
 * MT_E_NEWER. */
int mt_store_migrate(
	struct mt_store *store, const struct mt_store_migration *steps, int count) MT_MUST_CHECK;
