#include "store/store_private.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define SECRET_LEN 32

static int read_secret(struct mt_store *store, const char *name, uint8_t out[SECRET_LEN])
{
	sqlite3_stmt *statement = NULL;
	const void *value;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_SECRET_GET, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_DONE) {
		err = MT_E_NOT_FOUND;
	} else if (rc != SQLITE_ROW) {
		err = mt_store_fail_sqlite(store, rc, "read a secret");
	} else {
		value = sqlite3_column_blob(statement, 0);
		if (value == NULL || sqlite3_column_type(statement, 0) != SQLITE_BLOB ||
			sqlite3_column_bytes(statement, 0) != SECRET_LEN) {
			err = mt_store_fail_damaged(store, "secret '%s'", name);
		} else {
			memcpy(out, value, SECRET_LEN);
		}
	}
	mt_store_done(statement);
	return err;
}

static int make_secret(struct mt_store *store, const char *name, uint8_t out[SECRET_LEN])
{
	sqlite3_stmt *statement = NULL;
	ssize_t n;
	int rc;
	int err;

	do {
		n = getrandom(out, SECRET_LEN, 0); /* so few bytes are never cut short */
	} while (n < 0 && errno == EINTR);
	if (n != SECRET_LEN) {
		return mt_store_fail(store, MT_E_STORE, "the system has no random numbers");
	}
	err = mt_store_query(store, MT_QUERY_SECRET_PUT, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_blob(statement, 2, out, SECRET_LEN, SQLITE_STATIC);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "save a secret");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "save a secret");
}

int mt_store_secret(struct mt_store *store, const char *name, uint8_t out[SECRET_LEN])
{
	uint8_t secret[SECRET_LEN];
	int err;

	err = read_secret(store, name, secret);
	if (err == MT_E_NOT_FOUND) {
		err = make_secret(store, name, secret);
	}
	if (err == 0) {
		memcpy(out, secret, sizeof(secret));
	}
	mt_wipe(secret, sizeof(secret));
	return err;
}

int mt_store_secret_get(struct mt_store *store, const char *name, uint8_t out[SECRET_LEN])
{
	return read_secret(store, name, out);
}

int mt_store_secret_put(struct mt_store *store, const char *name, const uint8_t value[SECRET_LEN])
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store,
		value != NULL ? MT_QUERY_SECRET_REPLACE : MT_QUERY_SECRET_REMOVE, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK && value != NULL) {
		rc = sqlite3_bind_blob(statement, 2, value, SECRET_LEN, SQLITE_STATIC);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "save a secret");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "save a secret");
}

static int read_counter(struct mt_store *store, const char *name, int64_t *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_COUNTER_GET, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_ROW) {
		if (!mt_store_read_int(statement, 0, 0, INT64_MAX, out)) {
			err = mt_store_fail_damaged(store, "counter '%s'", name);
		}
	} else if (rc == SQLITE_DONE) {
		*out = 0;
	} else {
		err = mt_store_fail_sqlite(store, rc, "read a counter");
	}
	mt_store_done(statement);
	return err;
}

int mt_store_next(struct mt_store *store, const char *name, int64_t *out)
{
	int64_t value = 0;
	int err;

	err = mt_store_begin(store);
	if (err != 0) {
		return err;
	}
	err = read_counter(store, name, &value);
	if (err == 0 && value == INT64_MAX) {
		err = mt_store_fail(store, MT_E_RANGE, "the counter '%s' is at its end", name);
	}
	if (err == 0) {
		value++;
		err = mt_store_put_number(
			store, MT_QUERY_COUNTER_PUT, name, value, "save a counter");
	}
	err = mt_store_end(store, err);
	if (err == 0) {
		*out = value;
	}
	return err;
}
