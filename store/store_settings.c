#include "store/store_private.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX 128 /* more than the longest of ours */

static int load_one(struct mt_store *store, struct mt_settings *settings, sqlite3_stmt *statement)
{
	const char *value;
	char key[KEY_MAX];
	char canonical[MT_SETTING_VALUE_MAX] = {0};
	char why[256];
	const struct mt_setting *row;

	if (!mt_store_read_line(statement, 0, key, sizeof(key)) ||
		!mt_store_read_text(statement, 1, MT_SETTING_VALUE_MAX, &value)) {
		return mt_store_fail_damaged(store, "setting (its key or value is no text)");
	}
	row = mt_setting_find(key);
	if (row == NULL) {
		return mt_store_fail_damaged(
			store, "setting ('%s', which this version does not know)", key);
	}
	if (mt_setting_normalize(row, value, canonical, why, sizeof(why)) != 0) {
		return mt_store_fail_damaged(store, "value of %s (%s)", row->key, why);
	}
	memcpy(settings->text[row->id], canonical, sizeof(canonical));
	return 0;
}

static int load_all(struct mt_store *store, struct mt_settings *settings)
{
	sqlite3_stmt *statement = NULL;
	int rc = SQLITE_DONE;
	int err;

	mt_settings_init(settings);
	err = mt_store_query(store, MT_QUERY_SETTINGS, &statement);
	while (err == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
		err = load_one(store, settings, statement);
	}
	if (err == 0 && rc != SQLITE_DONE) {
		err = mt_store_fail_sqlite(store, rc, "read the settings");
	}
	mt_store_done(statement);
	return err;
}

int mt_store_settings_load(struct mt_store *store, struct mt_settings *out)
{
	struct mt_settings settings;
	char why[256];
	int err;

	err = load_all(store, &settings);
	if (err != 0) {
		return err;
	}
	if (mt_settings_check(&settings, why, sizeof(why)) != 0) {
		return mt_store_fail_damaged(
			store, "set of settings, which do not go together (%s)", why);
	}
	*out = settings;
	return 0;
}

static int write_one(struct mt_store *store, const struct mt_store_change *change)
{
	const struct mt_setting *row;
	char canonical[MT_SETTING_VALUE_MAX] = {0};
	char why[256];
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	if ((int)change->id < 0 || change->id >= MT_SETTING_COUNT) {
		return mt_store_fail(
			store, MT_E_NOT_FOUND, "there is no setting %d", (int)change->id);
	}
	row = &mt_settings_table()[change->id];
	if (change->value != NULL) {
		err = mt_setting_normalize(row, change->value, canonical, why, sizeof(why));
		if (err != 0) {
			return mt_store_fail(store, err, "%s", why);
		}
	}
	err = mt_store_query(store,
		change->value == NULL ? MT_QUERY_SETTING_DELETE : MT_QUERY_SETTING_PUT, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, row->key, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK && change->value != NULL) {
		rc = sqlite3_bind_text(statement, 2, canonical, -1, SQLITE_TRANSIENT);
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "save a setting");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "save a setting");
}

int mt_store_settings_write(
	struct mt_store *store, const struct mt_store_change *changes, size_t count)
{
	struct mt_settings after;
	char why[256];
	int err;

	err = mt_store_begin(store);
	if (err != 0) {
		return err;
	}
	for (size_t i = 0; err == 0 && i < count; i++) {
		err = write_one(store, &changes[i]);
	}
	/* What is committed must load at the next start. */
	if (err == 0) {
		err = load_all(store, &after);
	}
	if (err == 0) {
		err = mt_settings_check(&after, why, sizeof(why));
		if (err != 0) {
			err = mt_store_fail(store, err, "%s", why);
		}
	}
	return mt_store_end(store, err);
}
