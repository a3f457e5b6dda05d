#include "store/store_private.h"

#include "proto/wire/profile.h"

#include <string.h>
#include <time.h>

/* Text of a row; what does not fit, which nothing of ours ever stored, is cut. */
static void read_text(sqlite3_stmt *statement, int column, char *out, size_t cap)
{
	const char *text = (const char *)sqlite3_column_text(statement, column);
	size_t len = text != NULL ? strnlen(text, cap - 1) : 0;

	if (len > 0) {
		memcpy(out, text, len);
	}
	out[len] = '\0';
}

static int64_t read_count(sqlite3_stmt *statement, int column)
{
	int64_t value = sqlite3_column_int64(statement, column);

	return value > 0 ? value : 0;
}

static void read_limits(sqlite3_stmt *statement, struct mt_store_client *client)
{
	struct mt_store_limits *limits = &client->limits;
	struct mt_store_usage *usage = &client->usage;

	client->disabled_at = sqlite3_column_int64(statement, 5);
	limits->expires_at = read_count(statement, 6);
	limits->rate_bits = read_count(statement, 7);
	limits->quota_bytes = read_count(statement, 8);
	limits->quota_period = (enum mt_quota_period)sqlite3_column_int(statement, 9);
	limits->max_connections = read_count(statement, 10);
	read_text(statement, 11, limits->note, sizeof(limits->note));
	usage->bytes_received = read_count(statement, 12);
	usage->bytes_sent = read_count(statement, 13);
	usage->period_start = read_count(statement, 14);
	usage->period_bytes = read_count(statement, 15);
	usage->last_seen = read_count(statement, 16);
	read_text(statement, 17, usage->last_address, sizeof(usage->last_address));
}

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
	read_limits(statement, &client);
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

static int write_limits(
	struct mt_store *store, const char *name, const struct mt_store_limits *limits)
{
	const int64_t values[] = {limits->expires_at, limits->rate_bits, limits->quota_bytes,
		(int64_t)limits->quota_period, limits->max_connections};
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	err = mt_store_query(store, MT_QUERY_CLIENT_LIMITS, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	for (int i = 0; i < 5 && rc == SQLITE_OK; i++) {
		rc = sqlite3_bind_int64(statement, i + 2, values[i]);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 7, limits->note, -1, SQLITE_STATIC);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "change a client");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "change a client");
}

static int add_checked(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], const struct mt_store_limits *limits,
	struct mt_store_client *out)
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
	if (err == 0 && limits != NULL) {
		err = write_limits(store, name, limits);
	}
	return err != 0 ? err : find_by_name(store, name, out);
}

int mt_store_client_add(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], const struct mt_store_limits *limits,
	struct mt_store_client *out)
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
	err = mt_store_end(store, add_checked(store, name, fingerprint, limits, &client));
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

/* Runs one of the statements that take a name and a number. */
static int put_number(struct mt_store *store, enum mt_store_query query, const char *name,
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
	err = put_number(store, MT_QUERY_CLIENT_REVOKE, name, time(NULL), "revoke a client");
	err = mt_store_end(store, err != 0 ? err : get_checked(store, name, &client));
	if (err == 0) {
		*out = client;
	}
	return err;
}

int mt_store_client_enable(
	struct mt_store *store, const char *name, bool enabled, struct mt_store_client *out)
{
	struct mt_store_client client = {0};
	int err;

	err = check_name(store, name);
	if (err == 0) {
		err = mt_store_begin(store);
	}
	if (err != 0) {
		return err;
	}
	err = get_checked(store, name, &client);
	if (err == 0 && enabled == (client.disabled_at != 0)) {
		client.disabled_at = enabled ? 0 : time(NULL);
		err = put_number(store, MT_QUERY_CLIENT_ENABLE, name, client.disabled_at,
			enabled ? "enable a client" : "disable a client");
	}
	err = mt_store_end(store, err);
	if (err == 0) {
		*out = client;
	}
	return err;
}

int mt_store_client_limit(struct mt_store *store, const char *name,
	const struct mt_store_limits *limits, struct mt_store_client *out)
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
	err = write_limits(store, name, limits);
	err = mt_store_end(store, err != 0 ? err : get_checked(store, name, &client));
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
