#include "store/store_private.h"

#include <string.h>
#include <time.h>

#define TEXT_MAX ((size_t)1 << 20) /* more than a request can bring */

static int bind_entry(struct mt_store *store, sqlite3_stmt *statement,
	const struct mt_store_audit *entry, int64_t at)
{
	int rc = sqlite3_bind_int64(statement, 1, at);

	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 2, entry->uid);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 3, entry->user, -1, SQLITE_TRANSIENT);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 4, entry->pid);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 5, entry->verb, -1, SQLITE_TRANSIENT);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 6, entry->detail, -1, SQLITE_TRANSIENT);
	}
	return rc == SQLITE_OK ? 0 : mt_store_fail_sqlite(store, rc, "save the audit trail");
}

int mt_store_audit_put(struct mt_store *store, const struct mt_store_audit *entry)
{
	sqlite3_stmt *statement = NULL;
	int err = mt_store_query(store, MT_QUERY_AUDIT_ADD, &statement);

	if (err == 0) {
		err = bind_entry(
			store, statement, entry, entry->at != 0 ? entry->at : (int64_t)time(NULL));
		if (err == 0) {
			err = mt_store_run(store, statement, "save the audit trail");
		} else {
			mt_store_done(statement);
		}
	}
	if (err == 0) {
		err = mt_store_query(store, MT_QUERY_AUDIT_TRIM, &statement);
	}
	if (err == 0) {
		int rc = sqlite3_bind_int64(statement, 1, MT_STORE_AUDIT_MAX);

		if (rc == SQLITE_OK) {
			err = mt_store_run(store, statement, "trim the audit trail");
		} else {
			err = mt_store_fail_sqlite(store, rc, "trim the audit trail");
			mt_store_done(statement);
		}
	}
	return err;
}

int mt_store_audit_add(struct mt_store *store, const struct mt_store_audit *entry)
{
	int err = mt_store_begin(store);

	return err != 0 ? err : mt_store_end(store, mt_store_audit_put(store, entry));
}

/* What is damaged is shown as such: the rest of the trail is worth reading all the same. */
static const char *text_of(sqlite3_stmt *statement, int column)
{
	const char *text;

	return mt_store_read_text(statement, column, TEXT_MAX, &text) &&
			       mt_text_is_line(text, strlen(text))
		       ? text
		       : "?";
}

int mt_store_audit_each(struct mt_store *store, int64_t limit,
	int (*fn)(const struct mt_store_audit *entry, void *user), void *user)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err = mt_store_query(store, MT_QUERY_AUDIT_LAST, &statement);

	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_int64(statement, 1, limit);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(statement);
		if (rc == SQLITE_ROW) {
			struct mt_store_audit entry = {.id = sqlite3_column_int64(statement, 0),
				.at = sqlite3_column_int64(statement, 1),
				.uid = sqlite3_column_int64(statement, 2),
				.user = text_of(statement, 3),
				.pid = sqlite3_column_int64(statement, 4),
				.verb = text_of(statement, 5),
				.detail = text_of(statement, 6)};

			err = fn(&entry, user);
			if (err != 0) {
				break;
			}
		}
	}
	if (err == 0 && rc != SQLITE_DONE) {
		err = mt_store_fail_sqlite(store, rc, "read the audit trail");
	}
	mt_store_done(statement);
	return err;
}
