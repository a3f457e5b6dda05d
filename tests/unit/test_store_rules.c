/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_secrets.c store/store_rules.c store/store_backup.c store/store_audit.c
 * proto/wire/settings.c proto/wire/settings_table.c proto/wire/err.c
 * proto/wire/rule.c proto/wire/net.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c store/store_column.c
 * tests/unit/store_folder.c
 */
#include "store/store_private.h"
#include "tests/unit/store_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mt_rule parse(const char *text)
{
	struct mt_rule rule;
	char why[256];

	assert_int_equal(mt_rule_parse(&rule, text, why, sizeof(why)), 0);
	return rule;
}

static int add(struct mt_store *store, int64_t at, const char *text)
{
	const struct mt_rule rule = parse(text);

	return mt_store_rule_add(store, &at, &rule, 6);
}

static int append(const struct mt_rule *rule, void *user)
{
	char *all = user;
	size_t len = strlen(all);
	char text[MT_RULE_TEXT_MAX];

	(void)snprintf(all + len, 1024 - len, "%s;", mt_rule_format(rule, text, sizeof(text)));
	return 0;
}

static void assert_rules(struct mt_store *store, const char *expected)
{
	char all[1024] = "";

	assert_int_equal(mt_store_rule_each(store, append, all), 0);
	assert_string_equal(all, expected);
}

static void test_add_in_order(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	const struct mt_rule rule = parse("deny port 3");
	int64_t at = 0;

	assert_rules(store, "");
	assert_int_equal(add(store, 0, "deny port 1"), 0);
	assert_int_equal(add(store, 2, "deny port 2"), 0);
	assert_int_equal(mt_store_rule_add(store, &at, &rule, 6), 0);
	assert_int_equal(at, 3);
	assert_int_equal(add(store, 1, "allow a.example"), 0);
	assert_int_equal(add(store, 3, "allow udp net ::/0"), 0);
	assert_rules(
		store, "allow a.example;deny port 1;allow udp net ::/0;deny port 2;deny port 3;");
	assert_int_equal(add(store, 7, "deny"), MT_E_RANGE);
	assert_non_null(strstr(mt_store_error(store), "1 to 6"));
	assert_int_equal(add(store, -1, "deny"), MT_E_RANGE);
	assert_int_equal(add(store, 6, "deny"), 0);
	assert_int_equal(add(store, 0, "deny"), MT_E_LIMIT);
	mt_store_close(store);
	store = store_must_open(f);
	assert_rules(store, "allow a.example;deny port 1;allow udp net ::/0;deny port 2;deny port "
			    "3;deny;");
	mt_store_close(store);
}

static void test_remove(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_rule rule;

	assert_int_equal(mt_store_rule_remove(store, 1, &rule), MT_E_NOT_FOUND);
	assert_non_null(strstr(mt_store_error(store), "no access rule 1"));
	for (int64_t i = 1; i <= 5; i++) {
		char text[32];

		(void)snprintf(text, sizeof(text), "deny port %d", (int)i);
		assert_int_equal(add(store, 0, text), 0);
	}
	assert_int_equal(mt_store_rule_remove(store, 2, &rule), 0);
	assert_int_equal(rule.port_first, 2);
	assert_rules(store, "deny port 1;deny port 3;deny port 4;deny port 5;");
	assert_int_equal(mt_store_rule_remove(store, 1, &rule), 0);
	assert_int_equal(mt_store_rule_remove(store, 3, &rule), 0);
	assert_rules(store, "deny port 3;deny port 4;");
	assert_int_equal(mt_store_rule_remove(store, 3, &rule), MT_E_NOT_FOUND);
	assert_int_equal(mt_store_rule_remove(store, 0, &rule), MT_E_NOT_FOUND);
	mt_store_close(store);
}

/* A rule that cannot be read is not left out: it might be the one that denies. */
static void test_each_unusable(void **state)
{
	static const char *const rows[] = {"(1, 'deny nonsense', 0)", "(2, 'deny', 0)",
		"(1, 'allow port 443' || char(0) || '!', 0)"};
	const struct store_folder *f = *state;
	char all[1024] = "";
	char sql[128];

	mt_store_close(store_must_open(f));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mt_store *store;

		(void)snprintf(sql, sizeof(sql),
			"DELETE FROM access_rule; INSERT INTO access_rule VALUES %s", rows[i]);
		store_sql(f, sql);
		store = store_must_open(f);
		assert_int_equal(mt_store_rule_each(store, append, all), MT_E_CORRUPT);
		assert_non_null(strstr(mt_store_error(store), "unusable access rule"));
		mt_store_close(store);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_add_in_order, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_remove, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_each_unusable, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
