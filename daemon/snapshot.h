/* What workers need to know of the control plane: an immutable picture, replaced as a whole. The
 * control thread builds it, each worker holds a reference to the one it uses.
 */
#pragma once

#include "daemon/account.h"
#include "daemon/rules.h"
#include "proto/quic/identity.h"
#include "proto/quic/tls.h"
#include "proto/wire/addr.h"
#include "proto/wire/profile.h"
#include "proto/wire/settings.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_snapshot_client {
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	int64_t id;
	char name[MT_NAME_MAX + 1];
	bool revoked;
	bool disabled;
	int64_t expires_at;         /* Unix seconds; 0: never */
	struct mt_account *account; /* referenced */
};

struct mt_snapshot {
	_Atomic unsigned refs;
	struct mt_settings settings;
	bool require_identity;
	bool allow_private;
	bool log_access;
	uint64_t max_memory;                /* bytes, over all workers */
	struct mt_tls_server *tls;          /* referenced */
	struct mt_snapshot_client *clients; /* sorted by fingerprint */
	size_t client_count;
	struct mt_rules *rules;     /* referenced; NULL: none */
	struct mt_addr *host_addrs; /* the host's own addresses, port 0 */
	size_t host_addr_count;
};

struct mt_snapshot *mt_snapshot_ref(struct mt_snapshot *snapshot);
void mt_snapshot_unref(struct mt_snapshot *snapshot); /* any thread; NULL is allowed */
/* Binary search; NULL when unknown. */
const struct mt_snapshot_client *mt_snapshot_find(
	const struct mt_snapshot *snapshot, const uint8_t fingerprint[MT_FINGERPRINT_LEN]);
