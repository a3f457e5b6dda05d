/* Everything that is kept: settings, certificates and keys, client identities, secrets, in one
 * SQLite database in WAL mode. All calls belong to one thread. Functions return 0 or a negative
 * MT_E*; mt_store_error gives the sentence.
 */
#pragma once

#include "proto/quic/identity.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/rule.h"
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
/* The database's file; borrowed. */
const char *mt_store_path(const struct mt_store *store);
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
#define MT_STORE_NOTE_MAX        200                 /* bytes */
#define MT_STORE_RATE_MAX        100000000000        /* 100 Gbit/s */
#define MT_STORE_QUOTA_MAX       1000000000000000000 /* bytes */
#define MT_STORE_CONNECTIONS_MAX 1000000

enum mt_quota_period {
	MT_QUOTA_TOTAL, /* since the quota was set */
	MT_QUOTA_DAY,   /* calendar days and months, UTC */
	MT_QUOTA_MONTH,
};

/* What an administrator may say of a client; 0 means no limit. */
struct mt_store_limits {
	int64_t expires_at;  /* Unix seconds */
	int64_t rate_bits;   /* payload bits per second, each direction on its own */
	int64_t quota_bytes; /* both directions together */
	enum mt_quota_period quota_period;
	int64_t max_connections;
	char note[MT_STORE_NOTE_MAX + 1];
};

/* What a client has used: payload, as seen by the server. */
struct mt_store_usage {
	int64_t bytes_received;
	int64_t bytes_sent;
	int64_t period_start; /* Unix seconds; 0: none has begun */
	int64_t period_bytes; /* both directions, since then */
	int64_t last_seen;    /* Unix seconds; 0: never */
	char last_address[MT_ADDR_TEXT_MAX];
};

struct mt_store_client {
	int64_t id;
	char name[MT_NAME_MAX + 1];
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	int64_t created_at;  /* Unix seconds */
	int64_t revoked_at;  /* 0: not revoked */
	int64_t disabled_at; /* 0: not disabled */
	struct mt_store_limits limits;
	struct mt_store_usage usage; /* as of the last mt_store_usage_write */
};
/* MT_E_EXISTS when the name or the key is enrolled already. `limits` may be NULL: none. */
int mt_store_client_add(struct mt_store *store, const char *name,
	const uint8_t fingerprint[MT_FINGERPRINT_LEN], const struct mt_store_limits *limits,
	struct mt_store_client *out) MT_MUST_CHECK;
/* Replaces all limits of a client. MT_E_NOT_FOUND. */
int mt_store_client_limit(struct mt_store *store, const char *name,
	const struct mt_store_limits *limits, struct mt_store_client *out) MT_MUST_CHECK;
/* Disables a client, or enables it again; MT_E_NOT_FOUND. Doing it twice is no error. */
int mt_store_client_enable(struct mt_store *store, const char *name, bool enabled,
	struct mt_store_client *out) MT_MUST_CHECK;
int mt_store_client_get(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* MT_E_NOT_FOUND; revoking twice is no error. */
int mt_store_client_revoke(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* Forgets a client, whose name and key are free again; `out` is what it was. MT_E_NOT_FOUND. */
int mt_store_client_remove(
	struct mt_store *store, const char *name, struct mt_store_client *out) MT_MUST_CHECK;
/* Calls `fn` for each, in any order; stops at its first non-zero result and returns that. */
int mt_store_client_scan(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user) MT_MUST_CHECK;
/* The same by name, which costs more. */
int mt_store_client_each(struct mt_store *store,
	int (*fn)(const struct mt_store_client *client, void *user), void *user) MT_MUST_CHECK;

/* What `count` clients, by their ids, have used up to now: one transaction, all or none. The values
 * replace what is stored, so writing them again does no harm. A client that is gone is passed over.
 */
struct mt_store_usage_row {
	int64_t client_id;
	struct mt_store_usage usage;
};
int mt_store_usage_write(
	struct mt_store *store, const struct mt_store_usage_row *rows, size_t count) MT_MUST_CHECK;

/* Access rules, in the order in which they are asked; the first has number 1. */
/* Calls `fn` for each; stops at its first non-zero result and returns that. */
int mt_store_rule_each(struct mt_store *store, int (*fn)(const struct mt_rule *rule, void *user),
	void *user) MT_MUST_CHECK;
/* Puts a rule before the one that has its number; 0 stands for the end, and the number is then
 * written back. MT_E_RANGE for other numbers than these, MT_E_LIMIT with `max` rules.
 */
int mt_store_rule_add(struct mt_store *store, int64_t *position, const struct mt_rule *rule,
	int64_t max) MT_MUST_CHECK;
/* `out` is what it was. MT_E_NOT_FOUND. */
int mt_store_rule_remove(
	struct mt_store *store, int64_t position, struct mt_rule *out) MT_MUST_CHECK;

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

/* The whole database as the bytes of a file, consistent, through SQLite's backup API; it holds
 * private keys. For mt_store_image_free. */
int mt_store_backup(struct mt_store *store, uint8_t **image, size_t *len) MT_MUST_CHECK;
void mt_store_image_free(uint8_t *image, size_t len); /* wipes; NULL is allowed */
/* Opens an image as a store of its own, in a folder inside of the live one's, after checking all of
 * it: that it is a backup of ours and not of a newer version, its integrity, its settings. Older
 * schemas are migrated, in the copy. On failure `why` has a phrase.
 */
int mt_store_candidate_open(struct mt_store **out, struct mt_store *live, const uint8_t *image,
	size_t len, char *why, size_t why_cap) MT_MUST_CHECK;
/* Replaces the contents of the live database by the candidate's, in one transaction: on failure
 * nothing has changed. What belongs to this machine (its QUIC secret, its generation, the newer
 * part of the audit trail) stays.
 */
int mt_store_candidate_adopt(struct mt_store *live, struct mt_store *candidate) MT_MUST_CHECK;
/* Closes and removes it, adopted or not. NULL removes what a crash has left. */
void mt_store_candidate_close(struct mt_store *candidate, struct mt_store *live);

struct mt_store_health {
	bool intact;
	char problem[256]; /* when not intact */
	char path[256];
	int64_t file_bytes; /* with the log */
	int64_t free_bytes; /* of its file system; -1: unknown */
	int version;
};
/* The size of the database with its log. */
int64_t mt_store_bytes(const struct mt_store *store);
/* Reads and checks the whole database. */
int mt_store_inspect(struct mt_store *store, struct mt_store_health *out) MT_MUST_CHECK;

#define MT_STORE_AUDIT_MAX 10000 /* entries; the oldest go */

/* One entry of the audit trail: a change, and who made it. Texts are borrowed. */
struct mt_store_audit {
	int64_t id;
	int64_t at; /* Unix seconds; 0 when adding: now */
	int64_t uid;
	const char *user; /* its name at that time, may be empty */
	int64_t pid;
	const char *verb;
	const char *detail; /* JSON, without secrets */
};
int mt_store_audit_add(struct mt_store *store, const struct mt_store_audit *entry) MT_MUST_CHECK;
/* The `limit` newest entries, oldest first; stops at the first non-zero result of `fn` and returns
 * it. */
int mt_store_audit_each(struct mt_store *store, int64_t limit,
	int (*fn)(const struct mt_store_audit *entry, void *user), void *user) MT_MUST_CHECK;

/* A secret of 32 random bytes by name ("quic"), made at the first call. */
int mt_store_secret(struct mt_store *store, const char *name, uint8_t out[32]) MT_MUST_CHECK;
/* Reads one that may be missing: MT_E_NOT_FOUND. */
int mt_store_secret_get(struct mt_store *store, const char *name, uint8_t out[32]) MT_MUST_CHECK;
/* Puts 32 bytes of the caller's in its place, or takes it away (`value` NULL). */
int mt_store_secret_put(
	struct mt_store *store, const char *name, const uint8_t value[32]) MT_MUST_CHECK;
/* Adds one to a persistent counter by name and returns it (the process' generation). */
int mt_store_next(struct mt_store *store, const char *name, int64_t *out) MT_MUST_CHECK;
