#include "daemon/certs.h"

#include "proto/wire/encode.h"
#include "store/pki.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENEW_BEFORE_S (30 * 86400)

static void free_secret(char *text)
{
	if (text != NULL) {
		mt_wipe(text, strlen(text));
		free(text);
	}
}

int mt_certs_explain(int rv, struct mt_store *store, const char *what, char *why, size_t why_cap)
{
	/* For people: cut when it does not fit. */
	if (rv == MT_E_STORE || rv == MT_E_CORRUPT || rv == -ENOSPC) {
		(void)snprintf(why, why_cap, "%s: %s", what, mt_store_error(store));
	} else if (rv == -ENOMEM) {
		(void)snprintf(why, why_cap, "%s: %s", what, mt_strerror(rv));
	} else {
		(void)snprintf(why, why_cap,
			"%s in %s cannot be used (%s): put a backup in its place", what,
			mt_store_path(store), mt_strerror(rv));
	}
	return rv;
}

static bool runs_out(const char *chain_pem, int64_t now)
{
	struct mt_cert_info info;

	return mt_pki_describe(chain_pem, &info) != 0 || info.not_after - now < RENEW_BEFORE_S;
}

static int ensure_ca(struct mt_store *store, char **cert, char **key, bool *changed)
{
	int rv = mt_store_cert_get(store, MT_CERT_CA, cert, key);

	if (rv != MT_E_NOT_FOUND) {
		return rv;
	}
	rv = mt_pki_make_ca(cert, key);
	if (rv == 0) {
		rv = mt_store_cert_put(store, MT_CERT_CA, *cert, *key);
		*changed = true;
	}
	return rv;
}

static int make_server(struct mt_store *store, const char *ca_cert, const char *ca_key)
{
	char *chain = NULL;
	char *key = NULL;
	int rv = mt_pki_make_server(ca_cert, ca_key, &chain, &key);

	if (rv == 0) {
		rv = mt_store_cert_put(store, MT_CERT_SERVER, chain, key);
	}
	free(chain);
	free_secret(key);
	return rv;
}

int mt_certs_renew(struct mt_store *store, char *why, size_t why_cap)
{
	char *ca_cert = NULL;
	char *ca_key = NULL;
	int rv = mt_store_cert_get(store, MT_CERT_CA, &ca_cert, &ca_key);

	if (rv == 0) {
		rv = make_server(store, ca_cert, ca_key);
	}
	if (rv != 0) {
		rv = mt_certs_explain(rv, store, "the server certificate", why, why_cap);
	}
	free(ca_cert);
	free_secret(ca_key);
	return rv;
}

int mt_certs_ensure(
	struct mt_store *store, bool renew, int64_t now, bool *changed, char *why, size_t why_cap)
{
	char *ca_cert = NULL;
	char *ca_key = NULL;
	char *chain = NULL;
	char *key = NULL;
	bool made = false;
	int rv = ensure_ca(store, &ca_cert, &ca_key, &made);

	if (rv != 0) {
		rv = mt_certs_explain(rv, store, "the appliance's authority", why, why_cap);
		goto out;
	}
	rv = made ? MT_E_NOT_FOUND : mt_store_cert_get(store, MT_CERT_SERVER, &chain, &key);
	if (rv == MT_E_NOT_FOUND || (rv == 0 && renew && runs_out(chain, now))) {
		rv = make_server(store, ca_cert, ca_key);
		made = true;
	}
	if (rv != 0) {
		rv = mt_certs_explain(rv, store, "the server certificate", why, why_cap);
		goto out;
	}
	*changed = made;
out:
	free(chain);
	free_secret(key);
	free(ca_cert);
	free_secret(ca_key);
	return rv;
}
