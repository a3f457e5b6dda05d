#include "daemon/access.h"

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <time.h>

static bool is_own(const struct mt_snapshot *snapshot, const struct mt_addr *addr)
{
	for (size_t i = 0; i < snapshot->host_addr_count; i++) {
		if (mt_addr_equal_host(&snapshot->host_addrs[i], addr)) {
			return true;
		}
	}
	return false;
}

/* What is true of an address without rules; `*guard_bits` says how narrow the network of a rule
 * must be to open it, 0 when it is open. */
static void judge_by_default(const struct mt_snapshot *snapshot, const struct mt_addr *addr,
	struct mt_access_verdict *out, unsigned *guard_bits)
{
	*guard_bits = 0;
	out->allowed = snapshot->allow_private;
	switch (mt_addr_scope_range(addr, &out->range_bits)) {
	case MT_SCOPE_GLOBAL:
		out->reason = MT_ACCESS_GLOBAL;
		if (is_own(snapshot, addr)) {
			out->reason = MT_ACCESS_OWN;
			out->range_bits = addr->sa.sa_family == AF_INET ? 32 : 128;
		} else {
			out->allowed = true;
		}
		break;
	case MT_SCOPE_PRIVATE: out->reason = MT_ACCESS_PRIVATE; break;
	case MT_SCOPE_SPECIAL:
		out->reason = MT_ACCESS_SPECIAL;
		out->allowed = false;
		break;
	}
	if (!out->allowed) {
		*guard_bits = out->range_bits;
	}
}

void mt_access_judge(const struct mt_snapshot *snapshot, const struct mt_access_request *request,
	const struct mt_addr *addr, struct mt_access_verdict *out)
{
	struct mt_rules_query query = {
		.client = request->client,
		.protocol = request->protocol,
		.name = request->name,
		.name_len = request->name_len,
		.port = request->port,
		.addr = addr,
	};
	struct mt_rules_verdict by_rule;

	*out = (struct mt_access_verdict){
		.reason = MT_ACCESS_SPECIAL, .rule = MT_RULES_NONE, .passed_over = MT_RULES_NONE};
	if (addr->len == 0) {
		return;
	}
	judge_by_default(snapshot, addr, out, &query.guard_bits);
	mt_rules_decide(snapshot->rules, &query, &by_rule);
	out->passed_over = by_rule.passed_over;
	if (by_rule.rule != MT_RULES_NONE) {
		out->reason = MT_ACCESS_RULE;
		out->rule = by_rule.rule;
		out->allowed = by_rule.allow;
	}
}

int mt_access_check_target(const struct mt_snapshot *snapshot,
	const struct mt_access_request *request, const struct mt_addr *addr)
{
	struct mt_access_verdict verdict;

	mt_access_judge(snapshot, request, addr, &verdict);
	return verdict.allowed ? 0 : MT_E_DENIED;
}

int mt_access_check_name(
	const struct mt_snapshot *snapshot, const struct mt_access_request *request, int *rule)
{
	const struct mt_rules_query query = {
		.client = request->client,
		.protocol = request->protocol,
		.name = request->name,
		.name_len = request->name_len,
		.port = request->port,
	};
	struct mt_rules_verdict verdict;

	mt_rules_decide(snapshot->rules, &query, &verdict);
	if (verdict.rule == MT_RULES_NONE) {
		return 0;
	}
	if (rule != NULL) {
		*rule = verdict.rule;
	}
	return MT_E_DENIED;
}

int mt_access_check_identity(const struct mt_snapshot *snapshot, const uint8_t *fingerprint)
{
	const struct mt_snapshot_client *client;

	if (fingerprint == NULL) {
		return snapshot->require_identity ? GNUTLS_A_CERTIFICATE_REQUIRED : 0;
	}
	client = mt_snapshot_find(snapshot, fingerprint);
	if (client == NULL) {
		return GNUTLS_A_ACCESS_DENIED;
	}
	if (client->revoked) {
		return GNUTLS_A_CERTIFICATE_REVOKED;
	}
	if (client->disabled) {
		return GNUTLS_A_CERTIFICATE_UNKNOWN;
	}
	if (client->expires_at != 0 && (int64_t)time(NULL) >= client->expires_at) {
		return GNUTLS_A_CERTIFICATE_EXPIRED;
	}
	return 0;
}
