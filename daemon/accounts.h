/* The accounts of all clients: made and changed when clients are published, written to the store
 * while tunnels run. Control thread.
 */
#pragma once

#include "daemon/account.h"
#include "proto/wire/err.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_ACCOUNTS_TICK_MS 500  /* quotas' periods */
#define MT_ACCOUNTS_SAVE_MS 2500 /* kill -9 loses no more, and what workers have not told yet */

struct mt_accounts {
	struct mt_account **slots; /* a hash table by fingerprint, NULL: free */
	size_t slot_count;         /* a power of 2, or 0 */
	size_t count;
	unsigned round;
	bool failing; /* said that they cannot be saved */
};

void mt_accounts_deinit(struct mt_accounts *accounts);

/* A publication: begin, take every client, commit. Until the commit, which cannot fail, nothing has
 * changed; one that does not come is a publication that is dropped.
 */
void mt_accounts_begin(struct mt_accounts *accounts);
/* The account of a client, made from what the store says at its first time; the caller gets a
 * reference. -ENOMEM. */
int mt_accounts_take(struct mt_accounts *accounts, const struct mt_store_client *client,
	struct mt_account **out) MT_MUST_CHECK;
/* Limits hold from here on, and what was not taken is forgotten. */
void mt_accounts_commit(struct mt_accounts *accounts);

/* NULL when there is none; borrowed. */
struct mt_account *mt_accounts_find(
	const struct mt_accounts *accounts, const uint8_t fingerprint[MT_FINGERPRINT_LEN]);
/* What is true now, newer than the store. */
void mt_account_usage(struct mt_account *account, struct mt_store_usage *out);

/* Begins the periods that are due at `now` (Unix seconds). Calls `fn` (may be NULL) for each
 * account whose quota has been used up since the last call.
 */
void mt_accounts_tick(struct mt_accounts *accounts, int64_t now,
	void (*fn)(struct mt_account *account, void *user), void *user);
/* The store is another one: the next save writes every account. */
void mt_accounts_save_all(struct mt_accounts *accounts);
/* Between take and commit: writes the totals of all accounts that live on into the store that the
 * publication was read from, under its ids. */
int mt_accounts_carry(struct mt_accounts *accounts, struct mt_store *store) MT_MUST_CHECK;
/* Writes what has changed. On failure it is tried again with everything at the next call. */
int mt_accounts_save(struct mt_accounts *accounts, struct mt_store *store) MT_MUST_CHECK;

/* When the period began that `now` lies in; `now` itself for MT_QUOTA_TOTAL. */
int64_t mt_quota_period_start(enum mt_quota_period period, int64_t now);
