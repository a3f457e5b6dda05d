#include "daemon/access.h"

#include <gnutls/gnutls.h>
#include <stddef.h>

static bool is_own(const struct mt_snapshot *snapshot, const struct mt_addr *addr)
{
	for (size_t i = 0; i < snapshot->host_addr_count; i++) {
		if (mt_addr_equal_host(&snapshot->host_addrs[i], addr)) {
			return true;
		}
	}
	return false;
}

int mt_access_check_target(const struct mt_snapshot *snapshot, const struct mt_addr *addr)
{
	switch (mt_addr_scope(addr)) {
	case MT_SCOPE_GLOBAL:
		return snapshot->allow_private || !is_own(snapshot, addr) ? 0 : MT_E_DENIED;
	case MT_SCOPE_PRIVATE: return snapshot->allow_private ? 0 : MT_E_DENIED;
	case MT_SCOPE_SPECIAL: break;
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
	return client->revoked ? GNUTLS_A_CERTIFICATE_REVOKED : 0;
}
