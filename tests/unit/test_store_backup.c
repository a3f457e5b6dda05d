/* links: store/store.c store/store_db.c store/store_schema.c store/store_settings.c
 * store/store_clients.c store/store_certs.c store/store_secrets.c store/store_audit.c
 * store/store_backup.c store/store_usage.c store/store_rules.c proto/wire/settings.c
 * proto/wire/settings_table.c proto/wire/addr.c proto/wire/profile.c proto/wire/encode.c
 * proto/wire/bytes.c proto/wire/err.c proto/wire/rule.c proto/wire/net.c
 * store/store_column.c
 * tests/unit/store_folder.c
 */
/* Backups, what is put back of them, and the audit trail. */
#include "store/store.h"

#include "store/store_private.h"
#include "tests/unit/store_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void put_streams(struct mt_store *store, const char *value)
{
	struct mt_store_change change = {MT_SET_QUIC_MAX_STREAMS_PER_CONN, value};

	assert_int_equal(mt_store_settings_write(store, &change, 1), 0);
}

static int64_t streams(struct mt_store *store)
{
	struct mt_settings settings;

	assert_int_equal(mt_store_settings_load(store, &settings), 0);
	return mt_settings_int(&settings, MT_SET_QUIC_MAX_STREAMS_PER_CONN);
}

static void add_entry(struct mt_store *store, int64_t at, const char *detail)
{
	struct mt_store_audit entry = {
		.at = at, .uid = 1000, .user = "ann", .pid = 7, .verb = "set", .detail = detail};

	assert_int_equal(mt_store_audit_add(store, &entry), 0);
}

struct seen {
	int count;
	int64_t first;
	int64_t last_at;
	char last[64];
};

static int see(const struct mt_store_audit *entry, void *user)
{
	struct seen *s = user;

	if (s->count++ == 0) {
		s->first = entry->id;
	}
	s->last_at = entry->at;
	(void)snprintf(
		s->last, sizeof(s->last), "%s/%s/%s", entry->user, entry->verb, entry->detail);
	return 0;
}

static void test_audit_order_and_limit(void **state)
{
	struct mt_store *store = store_must_open(*state);
	struct seen seen = {0};

	for (int i = 1; i <= 5; i++) {
		char detail[16];

		(void)snprintf(detail, sizeof(detail), "{\"n\":%d}", i);
		add_entry(store, 100 + i, detail);
	}
	assert_int_equal(mt_store_audit_each(store, 2, see, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.first, 4);
	assert_int_equal(seen.last_at, 105);
	assert_string_equal(seen.last, "ann/set/{\"n\":5}");
	mt_store_close(store);
}

static void test_audit_cap(void **state)
{
	struct mt_store *store = store_must_open(*state);
	struct seen seen = {0};
	int64_t count = 0;

	assert_int_equal(
		mt_store_exec(store,
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT "
			"10000) INSERT INTO audit (at, uid, user, pid, verb, detail) SELECT i, 0, "
			"'root', 1, 'set', '{}' FROM n",
			"fill"),
		0);
	add_entry(store, 1, "{}");
	add_entry(store, 2, "{}");
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM audit", &count), 0);
	assert_int_equal(count, MT_STORE_AUDIT_MAX);
	assert_int_equal(mt_store_audit_each(store, 1 << 20, see, &seen), 0);
	assert_int_equal(seen.count, MT_STORE_AUDIT_MAX);
	assert_int_equal(seen.first, 3);
	mt_store_close(store);
}

static void test_backup_and_back(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	struct mt_store *candidate = NULL;
	struct mt_store_client client;
	uint8_t before[32];
	uint8_t after[32];
	uint8_t *image = NULL;
	size_t len = 0;
	int64_t generation = 0;
	struct seen seen = {0};
	char why[512] = "";

	assert_int_equal(
		mt_store_client_add(store, "ann", (const uint8_t[32]){1}, NULL, &client), 0);
	assert_int_equal(mt_store_next(store, "generation", &generation), 0);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	put_streams(store, "50");
	add_entry(store, 10, "{\"n\":1}");
	assert_int_equal(mt_store_backup(store, &image, &len), 0);
	assert_memory_equal(image, "SQLite format 3", 16);
	put_streams(store, "60");
	add_entry(store, 10, "{\"n\":2}"); /* in the same second */
	assert_int_equal(mt_store_secret(store, "quic", before), 0);
	assert_int_equal(mt_store_next(store, "generation", &generation), 0);
	assert_int_equal(
		mt_store_client_add(store, "bob", (const uint8_t[32]){2}, NULL, &client), 0);

	assert_int_equal(
		mt_store_candidate_open(&candidate, store, image, len, why, sizeof(why)), 0);
	assert_int_equal(streams(candidate), 50);
	assert_int_equal(streams(store), 60);
	assert_int_equal(mt_store_candidate_adopt(store, candidate), 0);
	mt_store_candidate_close(candidate, store);
	mt_store_image_free(image, len);

	assert_int_equal(streams(store), 50);
	assert_int_equal(mt_store_client_get(store, "ann", &client), 0);
	assert_int_equal(mt_store_client_get(store, "bob", &client), MT_E_NOT_FOUND);
	/* Of the machine, not of the data. */
	assert_int_equal(mt_store_secret(store, "quic", after), 0);
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(mt_store_next(store, "generation", &generation), 0);
	assert_int_equal(generation, 3);
	assert_int_equal(mt_store_audit_each(store, 10, see, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.last, "ann/set/{\"n\":2}");
	put_streams(store, "70");
	mt_store_close(store);
	store = store_must_open(f);
	assert_int_equal(streams(store), 70);
	mt_store_close(store);
}

struct all {
	int count;
	char details[16][24];
};

static int collect(const struct mt_store_audit *entry, void *user)
{
	struct all *all = user;

	assert_true(all->count < 16);
	(void)snprintf(all->details[all->count++], sizeof(all->details[0]), "%s", entry->detail);
	return 0;
}

static void adopt(struct mt_store *store, const uint8_t *image, size_t len)
{
	struct mt_store *candidate = NULL;
	char why[512] = "";

	assert_int_equal(
		mt_store_candidate_open(&candidate, store, image, len, why, sizeof(why)), 0);
	assert_int_equal(mt_store_candidate_adopt(store, candidate), 0);
	mt_store_candidate_close(candidate, store);
}

/* The trail of a busier machine, later and with higher numbers, hides nothing of this one's; equal
 * entries are as many as there were; putting it back again adds none. */
static void test_audit_of_another_machine(void **state)
{
	static const char *const expected[] = {
		"theirs", "theirs", "theirs", "theirs", "both", "mine", "mine", "mine"};
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	uint8_t *empty = NULL;
	uint8_t *theirs = NULL;
	size_t empty_len = 0;
	size_t theirs_len = 0;

	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(mt_store_backup(store, &empty, &empty_len), 0);
	for (int i = 0; i < 4; i++) {
		add_entry(store, 900, "theirs");
	}
	add_entry(store, 5, "both");
	assert_int_equal(mt_store_backup(store, &theirs, &theirs_len), 0);
	mt_store_close(store);
	assert_int_equal(unlink(f->db), 0);
	store = store_must_open(f);
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	add_entry(store, 5, "both");
	add_entry(store, 10, "mine");
	add_entry(store, 10, "mine");
	add_entry(store, 11, "mine");
	for (int round = 0; round < 2; round++) {
		struct all all = {0};

		adopt(store, theirs, theirs_len);
		assert_int_equal(mt_store_audit_each(store, 100, collect, &all), 0);
		assert_int_equal(all.count, 8);
		for (int i = 0; i < 8; i++) {
			assert_string_equal(all.details[i], expected[i]);
		}
	}
	mt_store_image_free(empty, empty_len);
	mt_store_image_free(theirs, theirs_len);
	mt_store_close(store);
}

/* A full trail on both sides: not a matter of minutes. */
static void test_audit_carry_many(void **state)
{
	static const char fill[] =
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT "
		"10000) INSERT INTO audit (at, uid, user, pid, verb, detail) SELECT 7, 0, "
		"'root', i, 'set', '{}' FROM n";
	struct mt_store *store = store_must_open(*state);
	uint8_t *image = NULL;
	size_t len = 0;
	int64_t count = 0;

	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	assert_int_equal(mt_store_exec(store, fill, "fill"), 0);
	assert_int_equal(mt_store_backup(store, &image, &len), 0);
	assert_int_equal(mt_store_exec(store, "UPDATE audit SET uid = 1 WHERE id > 5000", ""), 0);
	adopt(store, image, len);
	assert_int_equal(mt_store_number(store, "SELECT count(*) FROM audit", &count), 0);
	assert_int_equal(count, MT_STORE_AUDIT_MAX);
	assert_int_equal(
		mt_store_number(store, "SELECT count(*) FROM audit WHERE uid = 1", &count), 0);
	assert_int_equal(count, 5000);
	assert_int_equal(mt_store_number(store,
				 "SELECT count(*) FROM sqlite_schema WHERE type = 'index' "
				 "AND name LIKE 'audit%'",
				 &count),
		0);
	assert_int_equal(count, 0);
	mt_store_image_free(image, len);
	mt_store_close(store);
}

static void refused(struct mt_store *store, const uint8_t *image, size_t len, int err)
{
	struct mt_store *candidate = NULL;
	char why[512] = "";

	assert_int_equal(
		mt_store_candidate_open(&candidate, store, image, len, why, sizeof(why)), err);
	assert_true(why[0] != '\0');
	assert_null(candidate);
	assert_int_equal(streams(store), 60);
}

static void test_candidate_refused(void **state)
{
	const struct store_folder *f = *state;
	struct mt_store *store = store_must_open(f);
	uint8_t *image = NULL;
	uint8_t *bad;
	size_t len = 0;
	char restore[160];
	static uint8_t text[8192];
	static const char *const absurd[] = {
		"INSERT INTO audit VALUES (9223372036854775807, 1, 0, 'x', 1, 'set', '{}')",
		"INSERT INTO audit VALUES (-5, 1, 0, 'x', 1, 'set', '{}')",
		"INSERT INTO audit VALUES (5, 9223372036854775807, 0, 'x', 1, 'set', '{}')",
		("INSERT INTO client (id, name, fingerprint, created_at) VALUES "
		 "(9223372036854775807, 'x', zeroblob(32), 1)"),
		"INSERT INTO sqlite_sequence VALUES ('client', 9223372036854775807)",
		"INSERT INTO counter VALUES ('generation', 9223372036854775807)",
	};

	put_streams(store, "60");
	assert_int_equal(mt_store_backup(store, &image, &len), 0);
	bad = malloc(len);
	assert_non_null(bad);
	memset(text, 'x', sizeof(text));
	refused(store, text, sizeof(text), MT_E_CORRUPT);
	refused(store, text, 0, MT_E_CORRUPT);
	refused(store, image, len / 2, MT_E_CORRUPT);
	memcpy(bad, image, len);
	bad[63] = 99; /* the lowest byte of the schema's version */
	refused(store, bad, len, MT_E_NEWER);
	memcpy(bad, image, len);
	bad[68] ^= 0xff; /* the application id */
	refused(store, bad, len, MT_E_CORRUPT);
	for (size_t at = 4096; at + 64 < len; at += 4096) {
		memcpy(bad, image, len);
		memset(bad + at, 0xa5, 64); /* the head of a page */
		refused(store, bad, len, MT_E_CORRUPT);
	}
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "chain", "key"), 0);
	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
		mt_store_image_free(image, len);
		assert_int_equal(mt_store_begin(store), 0);
		assert_int_equal(mt_store_exec(store, absurd[i], "damage"), 0);
		assert_int_equal(mt_store_end(store, 0), 0);
		assert_int_equal(mt_store_backup(store, &image, &len), 0);
		refused(store, image, len, MT_E_CORRUPT);
		assert_int_equal(mt_store_exec(store,
					 "DELETE FROM audit; DELETE FROM client; DELETE FROM "
					 "sqlite_sequence; "
					 "DELETE FROM counter",
					 "mend"),
			0);
	}
	(void)snprintf(restore, sizeof(restore), "%s/restore", f->dir);
	assert_int_equal(access(restore, F_OK), -1);
	free(bad);
	mt_store_image_free(image, len);
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_audit_order_and_limit, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_audit_cap, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_backup_and_back, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_audit_of_another_machine, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_audit_carry_many, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(
			test_candidate_refused, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
