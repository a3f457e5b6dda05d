#include "daemon/snapshot.h"

#include <stdlib.h>
#include <string.h>

struct mt_snapshot *mt_snapshot_ref(struct mt_snapshot *snapshot)
{
	(void)atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
	return snapshot;
}

void mt_snapshot_unref(struct mt_snapshot *snapshot)
{
	if (snapshot == NULL ||
		atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	mt_tls_server_unref(snapshot->tls);
	for (size_t i = 0; i < snapshot->client_count; i++) {
		mt_account_unref(snapshot->clients[i].account);
	}
	free(snapshot->clients);
	mt_rules_unref(snapshot->rules);
	free(snapshot->host_addrs);
	free(snapshot);
}

static int compare(const void *key, const void *element)
{
	const struct mt_snapshot_client *client = element;

	return memcmp(key, client->fingerprint, MT_FINGERPRINT_LEN);
}

const struct mt_snapshot_client *mt_snapshot_find(
	const struct mt_snapshot *snapshot, const uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	if (snapshot->client_count == 0) {
		return NULL;
	}
	return bsearch(fingerprint, snapshot->clients, snapshot->client_count,
		sizeof(*snapshot->clients), compare);
}
