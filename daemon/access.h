/* Which targets clients may reach, and who may come in. Pure decisions on a snapshot.
 *
 * The rules are asked in their order, and the first one that matches decides. What no rule decides
 * is allowed, but for the ranges that are closed by default (mt_addr_scope, the host's own
 * addresses): private ones and the host's own unless access.allow_private is on, special ones
 * always. A closed address is opened only by an allowing rule that names a network inside the
 * closed range and around the address (for an address of the host that is otherwise global: that
 * very address). A wider network ("net 0.0.0.0/0") and a name open none: "allow port 443" must not
 * mean the metadata service of a cloud, and whoever owns a name chooses what it resolves to. Such a
 * rule is passed over for closed addresses, so that a later one may open them; a denying rule
 * always counts. A rule with a name and a network opens the network under that name alone.
 */
#pragma once

#include "daemon/snapshot.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who asks for what; everything borrowed. */
struct mt_access_request {
	const char *client; /* empty without identity */
	enum mt_rule_protocol protocol;
	const char *name; /* the host as it was asked for; NULL for an address */
	size_t name_len;
	uint16_t port;
};

enum mt_access_reason {
	MT_ACCESS_RULE,
	MT_ACCESS_GLOBAL,  /* by default: allowed */
	MT_ACCESS_PRIVATE, /* by access.allow_private */
	MT_ACCESS_OWN,     /* an address of the host itself, by access.allow_private */
	MT_ACCESS_SPECIAL, /* by default: refused */
};

struct mt_access_verdict {
	bool allowed;
	enum mt_access_reason reason;
	int rule;        /* which, from 0, for MT_ACCESS_RULE; else MT_RULES_NONE */
	int passed_over; /* the first allowing rule that opens no closed range, or MT_RULES_NONE */
	unsigned range_bits; /* the prefix of the closed range that the address lies in */
};

/* Judges a resolved address, the very one that is then connected or sent to, and the source of a
 * UDP answer. The request's port counts, not the address'.
 */
void mt_access_judge(const struct mt_snapshot *snapshot, const struct mt_access_request *request,
	const struct mt_addr *addr, struct mt_access_verdict *out);
/* The same as 0 or MT_E_DENIED. */
int mt_access_check_target(const struct mt_snapshot *snapshot,
	const struct mt_access_request *request, const struct mt_addr *addr) MT_MUST_CHECK;
/* Judges a name before it is looked up: MT_E_DENIED when a rule refuses it wherever it leads, so
 * that no query is sent. `*rule` (may be NULL) is then that rule. 0 says nothing about its
 * addresses.
 */
int mt_access_check_name(const struct mt_snapshot *snapshot,
	const struct mt_access_request *request, int *rule) MT_MUST_CHECK;

/* Judges an identity in the handshake and again whenever the snapshot changes: 0, or the TLS alert
 * that says why not (RFC 8446, section 6). `fingerprint` is NULL for a client without a
 * certificate.
 */
int mt_access_check_identity(
	const struct mt_snapshot *snapshot, const uint8_t *fingerprint) MT_MUST_CHECK;
