#include "store/store_private.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PEM_MAX ((size_t)1 << 20) /* more than a request can bring */

static const char *kind_text(enum mt_store_cert which)
{
	switch (which) {
	case MT_CERT_CA: return "ca";
	case MT_CERT_SERVER: return "server";
	case MT_CERT_IMPORTED: return "imported";
	}
	return NULL;
}

static int copy_pair(
	struct mt_store *store, sqlite3_stmt *statement, char **chain_pem, char **key_pem)
{
	const char *chain_text;
	const char *key_text;
	char *chain;
	char *key;

	if (!mt_store_read_text(statement, 0, PEM_MAX, &chain_text) ||
		!mt_store_read_text(statement, 1, PEM_MAX, &key_text)) {
		return mt_store_fail_damaged(store, "certificate");
	}
	chain = strdup(chain_text);
	key = strdup(key_text);
	if (chain == NULL || key == NULL) {
		free(chain);
		if (key != NULL) {
			mt_wipe(key, strlen(key));
			free(key);
		}
		return mt_store_fail(store, -ENOMEM, "no memory");
	}
	*chain_pem = chain;
	*key_pem = key;
	return 0;
}

int mt_store_cert_get(
	struct mt_store *store, enum mt_store_cert which, char **chain_pem, char **key_pem)
{
	const char *kind = kind_text(which);
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	if (kind == NULL) {
		return mt_store_fail(store, MT_E_RANGE, "there is no such kind of certificate");
	}
	err = mt_store_query(store, MT_QUERY_CERT_GET, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, kind, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
	}
	if (rc == SQLITE_ROW) {
		err = copy_pair(store, statement, chain_pem, key_pem);
	} else if (rc == SQLITE_DONE) {
		err = mt_store_fail(store, MT_E_NOT_FOUND, "there is no %s certificate", kind);
	} else {
		err = mt_store_fail_sqlite(store, rc, "read a certificate");
	}
	mt_store_done(statement);
	return err;
}

int mt_store_cert_put(struct mt_store *store, enum mt_store_cert which, const char *chain_pem,
	const char *key_pem)
{
	const char *kind = kind_text(which);
	sqlite3_stmt *statement = NULL;
	int rc;
	int err;

	if (kind == NULL) {
		return mt_store_fail(store, MT_E_RANGE, "there is no such kind of certificate");
	}
	err = mt_store_query(store, MT_QUERY_CERT_PUT, &statement);
	if (err != 0) {
		return err;
	}
	rc = sqlite3_bind_text(statement, 1, kind, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 2, chain_pem, -1, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(statement, 3, key_pem, -1, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(statement, 4, time(NULL));
	}
	if (rc != SQLITE_OK) {
		err = mt_store_fail_sqlite(store, rc, "save a certificate");
		mt_store_done(statement);
		return err;
	}
	return mt_store_run(store, statement, "save a certificate");
}
