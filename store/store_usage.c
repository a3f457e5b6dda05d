#include "store/store_private.h"

static int put(struct mt_store *store, const struct mt_store_usage_row *row)
{
	const struct mt_store_usage *u = &row->usage;
	const int64_t values[] = {row->client_id, u->bytes_received, u->bytes_sent, u->period_start,
		u->period_bytes, u->last_seen};
	sqlite3_stmt *statement = NULL;
	int rc = SQLITE_OK;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_USAGE_PUT, &statement);
	if (err != 0) {
		return err;
	}
	for (int i = 0; i < 6 && rc == SQLITE_OK; i++) {
		rc = sqlite3_bind_int64(statement, i + 1, values[i]);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 7, u->last_address, -1, SQLITE_STATIC);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "save the clients' traffic");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "save the clients' traffic");
}

int mt_store_usage_write(
	struct mt_store *store, const struct mt_store_usage_row *rows, size_t count)
{
	int err = mt_store_begin(store);

	if (err != 0) {
		return err;
	}
	for (size_t i = 0; i < count && err == 0; i++) {
		err = put(store, &rows[i]);
	}
	return mt_store_end(store, err);
}
