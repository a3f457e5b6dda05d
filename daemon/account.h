/* What a client has used and may use, shared by all workers: it lives across snapshots, for as long
 * as the client is enrolled or anything of it runs. Atomics alone, but for the last address, which
 * is written once a connection.
 */
#pragma once

#include "proto/io/bucket.h"
#include "proto/quic/identity.h"
#include "proto/wire/addr.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What of a client's limits an account is held to: small, since every publication copies all. */
struct mt_account_limits {
	int64_t rate_bits;
	int64_t quota_bytes;
	int64_t max_connections;
	enum mt_quota_period quota_period;
};

struct mt_account {
	struct mt_bucket from_client;
	struct mt_bucket to_client;
	_Atomic uint64_t bytes_received; /* payload, ever */
	_Atomic uint64_t bytes_sent;
	_Atomic uint64_t quota_stop; /* the sum of both that ends the quota; UINT64_MAX: none */
	_Atomic int64_t last_seen;   /* Unix seconds */
	_Atomic uint32_t connections;
	_Atomic uint32_t max_connections; /* 0: any number */
	_Atomic unsigned refs;
	pthread_mutex_t lock; /* of the address */
	struct mt_addr last_address;

	/* The control thread's own (daemon/accounts.h). */
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	int64_t client_id;
	struct mt_account_limits limits;
	int64_t period_start;
	uint64_t period_origin; /* the sum of both totals when the period began */
	struct mt_store_usage stored;
	bool quota_told;
	/* What the last publication that knew the client says of it; holds once it is committed. */
	struct mt_account_limits next_limits;
	int64_t next_id;
	unsigned round;
	bool live; /* of a publication that was committed */
};

/* One reference, the caller's; NULL without memory. */
struct mt_account *mt_account_new(void);
struct mt_account *mt_account_ref(struct mt_account *account);
void mt_account_unref(struct mt_account *account); /* any thread; NULL is allowed */

/* Any thread. Adds payload that has passed. */
void mt_account_count(struct mt_account *account, uint64_t received, uint64_t sent);
/* Whether there is one at all. */
bool mt_account_has_quota(const struct mt_account *account);
/* Whether the quota is used up. */
bool mt_account_is_exhausted(const struct mt_account *account);
/* A connection begins: false, and it is not counted, when there are as many as allowed. */
bool mt_account_enter(struct mt_account *account, const struct mt_addr *from);
/* One that was counted has ended. */
void mt_account_leave(struct mt_account *account);
