/* Everything that is kept: settings, certificates and keys, client identities, secrets, in one
 * SQLite database in WAL mode. All calls belong to one thread. Functions return 0 or a negative
 * MT_E*; mt_store_error gives the sentence.
 */
#pragma once

#include "proto/quic/identity.h"
#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_store;

/* Opens or creates DIR/mytunnel.db (0600, in a folder that must not be writable by others).
 * Migrates from every shipped schema, in one transaction. MT_E_NEWER: made by a newer version,
 * nothing was read or written; MT_E_CORRUPT: quick_check failed, nothing was written; MT_E_PERMS:
 * readable by others; MT_E_BUSY: another daemon holds it. On failure `why` has a sentence that
 * names the file and the cure.
 */
int mt_store_open(struct mt_store **out, const char *dir, char *why, size_t why_cap) MT_MUST_CHECK;
void mt_store_close(struct mt_store *store); /* NULL is allowed */
/* The last failure as a sentence; borrowed, until the next call. */
const char *mt_store_error(const struct mt_store *store);
/* Schema version in use, and bytes on disk. */
int mt_store_version(const struct mt_store *store);

/* Settings. Stored values are validated again on loading: an unusable one gives MT_E_CORRUPT and
 * names its key. */
int mt_store_settings_load(struct mt_store *store, struct mt_settings *out) MT_MUST_CHECK;
struct mt_store_change {
	enum mt_setting_id id;
	const char *value; /* canonical text; NULL: back to the default */
};
/* All or none, durable when it returns 0. */
int mt_store_settings_write(
	struct mt_store *store, const struct mt_store_change *changes, size_t count) MT_MUST_CHECK;

/* Client identities. */
struct mt_store_client {
	int64_t id;
	char name[MT_NAME_MAX + 1];
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	int64_t created_at; /* Unix seconds */
	int64_t revoked_at; /* 0: not revoked */
};
/* MT_E_EXISTS when the name or the key is enrolled already. */
int mt_store_client_add(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], struct mt_store_client *out) MT_MUST_CHECK;
int mt_store_client_get(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* MT_E_NOT_FOUND; revoking twice is no error. */
int mt_store_client_revoke(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* Forgets a client, whose name and key are free again; `out` is what it was. MT_E_NOT_FOUND. */
int mt_store_client_remove(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* Calls `fn` for each, by name; stops at its first non-zero result and returns that. */
int mt_store_client_each(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user) MT_MUST_CHECK;

/* Certificates: PEM chains with their keys. Strings are for free() (wipe keys first). */
enum mt_store_cert {
	MT_CERT_CA,     /* the appliance's own authority */
	MT_CERT_SERVER, /* the appliance's server certificate, chain with the CA behind it */
	MT_CERT_IMPORTED,
};
/* MT_E_NOT_FOUND. */
int mt_store_cert_get(struct mt_store *store, enum mt_store_cert which, char **chain_pem,
	char **key_pem) MT_MUST_CHECK;
int mt_store_cert_put(struct mt_store *store, enum mt_store_cert which, const char *chain_pem,
	const char *key_pem) MT_MUST_CHECK;

/* A secret of 32 random bytes by name ("quic"), made at the first call. */
int mt_store_secret(struct mt_store *store, const char *name, uint8_t out[32]) MT_MUST_CHECK;
/* Adds one to a persistent counter by name and returns it (the process' generation). */
int mt_store_next(struct mt_store *store, const char *name, int64_t *out) MT_MUST_CHECK;
