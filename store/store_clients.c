#include "store/store_private.h"

#include "proto/wire/profile.h"

#include <string.h>
#include <time.h>

/* Columns of the client queries (store_db.c). */
#define FIRST_NUMBER 3
#define NOTE         11
#define LAST_ADDRESS 17

/* The first column whose value is nothing of ours, by name; NULL: all are fine. What is damaged
 * must not read as "no limit". */
static const char *read_numbers(sqlite3_stmt *statement, struct mt_store_client *c)
{
	int64_t period = 0;
	const struct {
		const char *name;
		int64_t max;
		int64_t *to;
	} columns[] = {
		{"created_at", INT64_MAX, &c->created_at},
		{"revoked_at", INT64_MAX, &c->revoked_at},
		{"disabled_at", INT64_MAX, &c->disabled_at},
		{"expires_at", INT64_MAX, &c->limits.expires_at},
		{"rate_bits", MT_STORE_RATE_MAX, &c->limits.rate_bits},
		{"quota_bytes", MT_STORE_QUOTA_MAX, &c->limits.quota_bytes},
		{"quota_period", MT_QUOTA_MONTH, &period},
		{"max_connections", MT_STORE_CONNECTIONS_MAX, &c->limits.max_connections},
		{NULL, 0, NULL}, /* the note */
		{"bytes_received", INT64_MAX, &c->usage.bytes_received},
		{"bytes_sent", INT64_MAX, &c->usage.bytes_sent},
		{"period_start", INT64_MAX, &c->usage.period_start},
		{"period_bytes", INT64_MAX, &c->usage.period_bytes},
		{"last_seen", INT64_MAX, &c->usage.last_seen},
	};

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		if (columns[i].to != NULL && !mt_store_read_int(statement, FIRST_NUMBER + (int)i, 0,
						     columns[i].max, columns[i].to)) {
			return columns[i].name;
		}
	}
	c->limits.quota_period = (enum mt_quota_period)period;
	return NULL;
}

/* Reads a row of the client queries, none of whose columns is trusted to have the right size. */
static int read_row(struct mt_store *store, sqlite3_stmt *statement, struct mt_store_client *out)
{
	struct mt_store_client client = {.id = sqlite3_column_int64(statement, 0)};
	const void *fingerprint = sqlite3_column_blob(statement, 2);
	const char *bad;

	if (!mt_store_read_line(statement, 1, client.name, sizeof(client.name)) ||
		mt_name_check(client.name) != 0) {
		return mt_store_fail_damaged(
			store, "client (number %lld: its name)", (long long)client.id);
	}
	bad = read_numbers(statement, &client);
	if (client.id < 1) {
		bad = "id";
	} else if (sqlite3_column_type(statement, 2) != SQLITE_BLOB ||
		   sqlite3_column_bytes(statement, 2) != MT_FINGERPRINT_LEN) {
		bad = "fingerprint";
	} else if (!mt_store_read_line(
			   statement, NOTE, client.limits.note, sizeof(client.limits.note))) {
		bad = "note";
	} else if (!mt_store_read_line(statement, LAST_ADDRESS, client.usage.last_address,
			   sizeof(client.usage.last_address))) {
		bad = "last_address";
	}
	if (bad != NULL) {
		return mt_store_fail_damaged(store, "client ('%s': its %s)", client.name, bad);
	}
	memcpy(client.fingerprint, fingerprint, MT_FINGERPRINT_LEN);
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
	err = mt_store_put_number(
		store, MT_QUERY_CLIENT_REVOKE, name, time(NULL), "revoke a client");
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
		err = mt_store_put_number(store, MT_QUERY_CLIENT_ENABLE, name, client.disabled_at,
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

static int each(struct mt_store *store, enum mt_store_query query,
	int (*fn)(const struct mt_store_client *client, void *user), void *user)
{
	sqlite3_stmt *statement = NULL;
	struct mt_store_client client;
	int rc = SQLITE_DONE;
	int err;

	err = mt_store_query(store, query, &statement);
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

int mt_store_client_scan(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user)
{
	return each(store, MT_QUERY_CLIENTS_SCAN, fn, user);
}

int mt_store_client_each(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user)
{
	return each(store, MT_QUERY_CLIENTS, fn, user);
}
