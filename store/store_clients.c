#include "store/store_private.h"

#include "proto/wire/profile.h"

#include <string.h>
#include <time.h>

/* Reads a row of the client queries, none of whose columns is trusted to have the right size. */
static int read_row(struct mt_store *store, sqlite3_stmt *statement, struct mt_store_client *out)
{
	struct mt_store_client client = {.id = sqlite3_column_int64(statement, 0)};
	const char *name = (const char *)sqlite3_column_text(statement, 1);
	const void *fingerprint = sqlite3_column_blob(statement, 2);
	int fingerprint_len = sqlite3_column_bytes(statement, 2);

	if (name == NULL || mt_name_check(name) != 0 || fingerprint == NULL ||
		fingerprint_len != MT_FINGERPRINT_LEN) {
		return mt_store_fail(store, MT_E_CORRUPT,
			"%s holds an unusable client (number %lld): put a backup in its place",
			store->path, (long long)client.id);
	}
	memcpy(client.name, name, strlen(name) + 1);
	memcpy(client.fingerprint, fingerprint, MT_FINGERPRINT_LEN);
	client.created_at = sqlite3_column_int64(statement, 3);
	client.revoked_at = sqlite3_column_int64(statement, 4);
	*out = client;
	return 0;
}

/* Steps a bound query of at most one row, and ends its use. MT_E_NOT_FOUND leaves no message. */
static int read_only_row(
	struct mt_store *store, sqlite3_stmt *statement, struct mt_store_client *out)
{
	int rc = sqlite3_step(statement);
	int err;

	if (rc == SQLITE_ROW) {
		err = read_row(store, statement, out);
	} else if (rc == SQLITE_DONE) {
		err = MT_E_NOT_FOUND;
	} else {
		err = mt_store_fail_sqlite(store, rc, "read a client");
	}
	mt_store_done(statement);
	return err;
}

static int find_by_name(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_BY_NAME, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "read a client");
		mt_store_done(statement);
		return err;
	}
	return read_only_row(store, statement, out);
}

static int find_by_key(struct mt_store *store, const uint8_t fingerprint[MT_FINGERPRINT_LEN],
	struct mt_store_client *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_BY_KEY, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_blob(statement, 1, fingerprint, MT_FINGERPRINT_LEN, SQLITE_STATIC);
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "read a client");
		mt_store_done(statement);
		return err;
	}
	return read_only_row(store, statement, out);
}

/* The name comes from outside: it is shown only where it is known to be harmless. */
static int check_name(struct mt_store *store, const char *name)
{
	if (mt_name_check(name) != 0) {
		return mt_store_fail(store, MT_E_MALFORMED,
			"a client's name has 1 to %d letters, digits, '.', '_', '-' or '@' and "
			"does not start "
			"with '.' or '-'",
			MT_NAME_MAX);
	}
	return 0;
}

static int insert(
	struct mt_store *store, const char *name, const uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_ADD, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_blob(
			statement, 2, fingerprint, MT_FINGERPRINT_LEN, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 3, time(NULL));
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "add a client");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "add a client");
}

static int add_checked(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], struct mt_store_client *out)
{
	struct mt_store_client other = {.id = 0};
	int err;

	err = find_by_name(store, name, &other);
	if (err == 0) {
		return mt_store_fail(store, MT_E_EXISTS, "a client '%s' is enrolled already%s",
			name, other.revoked_at != 0 ? ", and revoked" : "");
	}
	if (err != MT_E_NOT_FOUND) {
		return err;
	}
	err = find_by_key(store, fingerprint, &other);
	if (err == 0) {
		return mt_store_fail(store, MT_E_EXISTS,
			"this key is enrolled already: it is that of the client '%s'%s", other.name,
			other.revoked_at != 0 ? ", which is revoked" : "");
	}
	if (err != MT_E_NOT_FOUND) {
		return err;
	}
	err = insert(store, name, fingerprint);
	return err != 0 ? err : find_by_name(store, name, out);
}

int mt_store_client_add(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], struct mt_store_client *out)
{
	struct mt_store_client client;
	int err;

	err = check_name(store, name);
	if (err == 0) {
		err = mt_store_begin(store);
	}
	if (err != 0) {
		return err;
	}
	err = mt_store_end(store, add_checked(store, name, fingerprint, &client));
	if (err == 0) {
		*out = client;
	}
	return err;
}

static int get_checked(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	int err = find_by_name(store, name, out);

	if (err == MT_E_NOT_FOUND) {
		return mt_store_fail(store, err, "there is no client '%s'", name);
	}
	return err;
}

int mt_store_client_get(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	int err = check_name(store, name);

	return err != 0 ? err : get_checked(store, name, out);
}

static int revoke_checked(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_REVOKE, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 2, time(NULL));
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "revoke a client");
		mt_store_done(statement);
		return err;
	}
	err = mt_store_run(store, statement, "revoke a client");
	return err != 0 ? err : get_checked(store, name, out);
}

int mt_store_client_revoke(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	struct mt_store_client client;
	int err;

	err = check_name(store, name);
	if (err == 0) {
		err = mt_store_begin(store);
	}
	if (err != 0) {
		return err;
	}
	err = mt_store_end(store, revoke_checked(store, name, &client));
	if (err == 0) {
		*out = client;
	}
	return err;
}

static int remove_checked(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = get_checked(store, name, out);
	if (err == 0) {
		err = mt_store_query(store, MT_QUERY_CLIENT_REMOVE, &statement);
	}
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "remove a client");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "remove a client");
}

int mt_store_client_remove(struct mt_store *store, const char *name, struct mt_store_client *out)
{
	struct mt_store_client client;
	int err;

	err = check_name(store, name);
	if (err == 0) {
		err = mt_store_begin(store);
	}
	if (err != 0) {
		return err;
	}
	err = mt_store_end(store, remove_checked(store, name, &client));
	if (err == 0) {
		*out = client;
	}
	return err;
}

int mt_store_client_each(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user)
{
	sqlite3_stmt *statement = NULL;
	struct mt_store_client client;
	int rc = SQLITE_DONE;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENTS, &statement);
	while (err == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
		err = read_row(store, statement, &client);
		if (err == 0) {
			err = fn(&client, user);
		}
	}
	if (err == 0 && rc != SQLITE_DONE) {
		err = mt_store_fail_sqlite(store, rc, "read the clients");
	}
	mt_store_done(statement);
	return err;
}
