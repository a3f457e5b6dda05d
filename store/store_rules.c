#include "store/store_private.h"

#include <time.h>

static int read_rule(
	struct mt_store *store, sqlite3_stmt *statement, int64_t expected, struct mt_rule *out)
{
	int64_t position = 0;
	const char *text;
	char why[128] = "its place or type is wrong";

	if (!mt_store_read_int(statement, 0, expected, expected, &position) ||
		!mt_store_read_text(statement, 1, MT_RULE_TEXT_MAX - 1, &text) ||
		mt_rule_parse(out, text, why, sizeof(why)) != 0) {
		return mt_store_fail_damaged(
			store, "access rule (number %lld: %s)", (long long)expected, why);
	}
	return 0;
}

int mt_store_rule_each(
	struct mt_store *store, int (*fn)(const struct mt_rule *rule, void *user), void *user)
{
	sqlite3_stmt *statement = NULL;
	struct mt_rule rule;
	int64_t position = 1;
	int rc;
	int err = mt_store_query(store, MT_QUERY_RULES, &statement);

	if (err != 0) {
		return err;
	}
	while ((rc = sqlite3_step(statement)) == SQLITE_ROW && err == 0) {
		err = read_rule(store, statement, position++, &rule);
		if (err == 0) {
			err = fn(&rule, user);
		}
		if (err != 0) {
			break;
		}
	}
	if (err == 0 && rc != SQLITE_DONE) {
		err = mt_store_fail_sqlite(store, rc, "read the access rules");
	}
	mt_store_done(statement);
	return err;
}

/* Runs a query whose one parameter is a position. */
static int run_at(
	struct mt_store *store, enum mt_store_query query, int64_t position, const char *what)
{
	sqlite3_stmt *statement = NULL;
	int rc;
	int err = mt_store_query(store, query, &statement);

	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_int64(statement, 1, position);
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, what);
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, what);
}

static int turn_over(struct mt_store *store, const char *what)
{
	sqlite3_stmt *statement = NULL;
	int err = mt_store_query(store, MT_QUERY_RULE_TURN, &statement);

	return err != 0 ? err : mt_store_run(store, statement, what);
}

static int insert(struct mt_store *store, int64_t position, const char *text)
{
	static const char what[] = "add an access rule";
	sqlite3_stmt *statement = NULL;
	int rc;
	int err = run_at(store, MT_QUERY_RULE_MAKE_ROOM, position, what);

	if (err == 0) {
		err = turn_over(store, what);
	}
	if (err == 0) {
		err = mt_store_query(store, MT_QUERY_RULE_ADD, &statement);
	}
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_int64(statement, 1, position);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 3, time(NULL));
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, what);
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, what);
}

static int count_rules(struct mt_store *store, int64_t *out)
{
	return mt_store_number(store, "SELECT count(*) FROM access_rule", out);
}

int mt_store_rule_add(
	struct mt_store *store, int64_t *position, const struct mt_rule *rule, int64_t max)
{
	char text[MT_RULE_TEXT_MAX];
	int64_t at = *position;
	int64_t count = 0;
	int err = mt_store_begin(store);

	if (err != 0) {
		return err;
	}
	err = count_rules(store, &count);
	at = at == 0 ? count + 1 : at;
	if (err == 0 && count >= max) {
		err = mt_store_fail(store, MT_E_LIMIT,
			"there are %lld rules, as many as there may be", (long long)count);
	}
	if (err == 0 && (at < 1 || at > count + 1)) {
		err = mt_store_fail(store, MT_E_RANGE, "a new rule's place is 1 to %lld, not %lld",
			(long long)count + 1, (long long)at);
	}
	if (err == 0) {
		err = insert(store, at, mt_rule_format(rule, text, sizeof(text)));
	}
	err = mt_store_end(store, err);
	if (err == 0) {
		*position = at;
	}
	return err;
}

static int remove_checked(struct mt_store *store, int64_t position, struct mt_rule *out)
{
	static const char what[] = "remove an access rule";
	sqlite3_stmt *statement = NULL;
	int rc;
	int err = mt_store_query(store, MT_QUERY_RULE_GET, &statement);

	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_int64(statement, 1, position);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_ROW) {
		err = read_rule(store, statement, position, out);
	} else if (rc == SQLITE_DONE) {
		err = mt_store_fail(
			store, MT_E_NOT_FOUND, "there is no access rule %lld", (long long)position);
	} else {
		err = mt_store_fail_sqlite(store, rc, what);
	}
	mt_store_done(statement);
	if (err == 0) {
		err = run_at(store, MT_QUERY_RULE_REMOVE, position, what);
	}
	if (err == 0) {
		err = run_at(store, MT_QUERY_RULE_CLOSE_GAP, position, what);
	}
	return err == 0 ? turn_over(store, what) : err;
}

int mt_store_rule_remove(struct mt_store *store, int64_t position, struct mt_rule *out)
{
	struct mt_rule rule;
	int err = mt_store_begin(store);

	if (err != 0) {
		return err;
	}
	err = mt_store_end(store, remove_checked(store, position, &rule));
	if (err == 0) {
		*out = rule;
	}
	return err;
}
