/* Builds what workers work by: TLS credentials and snapshots, from the store and the settings.
 * Control thread. */
#pragma once

#include "daemon/accounts.h"
#include "daemon/snapshot.h"
#include "proto/quic/tls.h"
#include "proto/wire/err.h"
#include "store/store.h"

#include <stddef.h>

/* Credentials from the stored certificates; the caller owns the reference. */
int mt_publish_tls(struct mt_tls_server **out, struct mt_store *store,
	const struct mt_settings *settings, char *why, size_t why_cap) MT_MUST_CHECK;

/* A snapshot with one reference, the caller's. Copies `settings` and `hosts`, takes a reference to
 * `tls` and to each client's account. Whoever puts it in force calls mt_accounts_commit. */
int mt_publish_snapshot(struct mt_snapshot **out, struct mt_store *store,
	struct mt_accounts *accounts, const struct mt_settings *settings, struct mt_tls_server *tls,
	const struct mt_addr *hosts, size_t host_count) MT_MUST_CHECK;
/* The rules of the store, with one reference, the caller's: `before` (may be NULL) when they are
 * the same. */
int mt_publish_rules(
	struct mt_rules **out, struct mt_store *store, struct mt_rules *before) MT_MUST_CHECK;
