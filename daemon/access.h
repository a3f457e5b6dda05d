/* Which targets clients may reach, and who may come in. Pure decisions on a snapshot. */
#pragma once

#include "daemon/snapshot.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdint.h>

/* Judges a resolved address, the very one that is then connected or sent to, and the source of a
 * UDP answer. The port does not count. 0, or MT_E_DENIED: a special range, or, unless
 * access.allow_private is on, a private one or one of the host's own addresses.
 */
int mt_access_check_target(
	const struct mt_snapshot *snapshot, const struct mt_addr *addr) MT_MUST_CHECK;

/* Judges an identity in the handshake and again whenever the snapshot changes: 0, or the TLS alert
 * that says why not (RFC 8446, section 6). `fingerprint` is NULL for a client without a
 * certificate.
 */
int mt_access_check_identity(
	const struct mt_snapshot *snapshot, const uint8_t *fingerprint) MT_MUST_CHECK;
