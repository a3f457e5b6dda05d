#include "daemon/publish.h"

#include "daemon/certs.h"
#include "daemon/memory.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void free_secret(char *text)
{
	if (text != NULL) {
		mt_wipe(text, strlen(text));
		free(text);
	}
}

int mt_publish_tls(struct mt_tls_server **out, struct mt_store *store,
	const struct mt_settings *settings, char *why, size_t why_cap)
{
	char *chain = NULL;
	char *key = NULL;
	char *imported_chain = NULL;
	char *imported_key = NULL;
	struct mt_tls_server_config config = {0};
	int rv = mt_store_cert_get(store, MT_CERT_SERVER, &chain, &key);

	if (rv == 0) {
		rv = mt_store_cert_get(store, MT_CERT_IMPORTED, &imported_chain, &imported_key);
		rv = rv == MT_E_NOT_FOUND ? 0 : rv;
	}
	if (rv == 0) {
		config.appliance_chain = chain;
		config.appliance_key = key;
		config.imported_chain = imported_chain;
		config.imported_key = imported_key;
		config.require_identity =
			mt_settings_bool(settings, MT_SET_ACCESS_REQUIRE_IDENTITY);
		rv = mt_tls_server_new(out, &config);
	}
	if (rv != 0) {
		rv = mt_certs_explain(rv, store, "the certificates", why, why_cap);
	}
	free(chain);
	free(imported_chain);
	free_secret(key);
	free_secret(imported_key);
	return rv;
}

struct gather {
	struct mt_snapshot *snapshot;
	struct mt_accounts *accounts;
	size_t cap;
};

static int add_client(const struct mt_store_client *client, void *user)
{
	struct gather *g = user;
	struct mt_snapshot_client *to;
	struct mt_account *account = NULL;
	int rv;

	if (g->snapshot->client_count == g->cap) {
		size_t cap = g->cap == 0 ? 64 : g->cap * 2;
		struct mt_snapshot_client *grown =
			reallocarray(g->snapshot->clients, cap, sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		g->snapshot->clients = grown;
		g->cap = cap;
	}
	rv = mt_accounts_take(g->accounts, client, &account);
	if (rv != 0) {
		return rv;
	}
	to = &g->snapshot->clients[g->snapshot->client_count++];
	memset(to, 0, sizeof(*to));
	memcpy(to->fingerprint, client->fingerprint, sizeof(to->fingerprint));
	memcpy(to->name, client->name, sizeof(to->name));
	to->id = client->id;
	to->revoked = client->revoked_at != 0;
	to->disabled = client->disabled_at != 0;
	to->expires_at = client->limits.expires_at;
	to->account = account;
	return 0;
}

static int by_fingerprint(const void *a, const void *b)
{
	const struct mt_snapshot_client *x = a;
	const struct mt_snapshot_client *y = b;

	return memcmp(x->fingerprint, y->fingerprint, sizeof(x->fingerprint));
}

int mt_publish_snapshot(struct mt_snapshot **out, struct mt_store *store,
	struct mt_accounts *accounts, const struct mt_settings *settings, struct mt_tls_server *tls,
	const struct mt_addr *hosts, size_t host_count)
{
	struct mt_snapshot *s = calloc(1, sizeof(*s));
	struct gather g = {.snapshot = s, .accounts = accounts};
	int rv = -ENOMEM;

	if (s == NULL) {
		return rv;
	}
	atomic_init(&s->refs, 1);
	s->settings = *settings;
	s->require_identity = mt_settings_bool(settings, MT_SET_ACCESS_REQUIRE_IDENTITY);
	s->allow_private = mt_settings_bool(settings, MT_SET_ACCESS_ALLOW_PRIVATE);
	s->log_access = mt_settings_bool(settings, MT_SET_LOGGING_ACCESS);
	s->max_memory = mt_memory_limit(settings);
	s->tls = mt_tls_server_ref(tls);
	s->host_addrs = calloc(host_count + 1, sizeof(*s->host_addrs));
	if (s->host_addrs == NULL) {
		goto out;
	}
	if (host_count > 0) {
		memcpy(s->host_addrs, hosts, host_count * sizeof(*hosts));
	}
	s->host_addr_count = host_count;
	mt_accounts_begin(accounts);
	rv = mt_store_client_scan(store, add_client, &g);
	if (rv != 0) {
		goto out;
	}
	if (s->client_count > 0) {
		qsort(s->clients, s->client_count, sizeof(*s->clients), by_fingerprint);
	}
	*out = s;
	s = NULL;
out:
	mt_snapshot_unref(s);
	return rv;
}
