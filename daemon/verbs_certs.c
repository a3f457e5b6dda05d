#include "daemon/certs.h"
#include "daemon/control_peer.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "daemon/verbs_stored.h"
#include "proto/wire/encode.h"
#include "store/pki.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_secret(char *text)
{
	if (text != NULL) {
		mt_wipe(text, strlen(text));
		free(text);
	}
}

static json_t *cert_json(const char *which, const struct mt_cert_info *info, bool pinned)
{
	char pin[MT_BASE64URL_LEN(MT_PIN_LEN) + 1];

	mt_base64url_encode(pin, info->pin, sizeof(info->pin));
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:i, s:s?}", "certificate", which,
		"subject", info->subject, "issuer", info->issuer, "names", info->names,
		"not_before", (json_int_t)info->not_before, "not_after",
		(json_int_t)info->not_after, "fingerprint", info->fingerprint, "chain",
		(int)info->chain_len, "pin", pinned ? pin : NULL);
}

/* Appends what is stored as `which`; nothing when nothing is. */
static int append(struct mt_appliance *a, json_t *list, enum mt_store_cert which, const char *name)
{
	char *chain = NULL;
	char *key = NULL;
	struct mt_cert_info info;
	int rv = mt_store_cert_get(a->store, which, &chain, &key);

	if (rv == MT_E_NOT_FOUND) {
		return 0;
	}
	free_secret(key);
	if (rv == 0) {
		rv = mt_pki_describe(chain, &info);
	}
	if (rv == 0 && json_array_append_new(
			       list, cert_json(name, &info, which != MT_CERT_IMPORTED)) != 0) {
		rv = -ENOMEM;
	}
	free(chain);
	return rv;
}

void mt_verb_cert_show(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *list = json_array();
	int rv = append(a, list, MT_CERT_CA, "authority");

	(void)args;
	if (rv == 0) {
		rv = append(a, list, MT_CERT_SERVER, "server");
	}
	if (rv == 0) {
		rv = append(a, list, MT_CERT_IMPORTED, "imported");
	}
	if (rv == 0) {
		mt_reply_result(reply, json_pack("{s:o}", "certificates", list));
		return;
	}
	json_decref(list);
	mt_reply_failure(reply, rv, mt_strerror(rv), "");
}

/* Publishes what is stored; the answer shows the certificate that `chain` begins with. */
static void put_in_force(struct mt_appliance *a, struct mt_reply *reply, const char *which,
	const char *event, const char *chain)
{
	char user[MT_USER_TEXT_MAX];
	struct mt_cert_info info;
	json_t *result = NULL;

	mt_events_add(&a->events, event,
		json_pack("{s:s}", "by", mt_control_user(user, mt_reply_uid(reply))));
	if (mt_pki_describe(chain, &info) == 0) {
		result = json_pack("{s:o}", "certificate",
			cert_json(which, &info, strcmp(which, "imported") != 0));
	}
	mt_stored_publish(a, reply, true, false, result);
}

void mt_verb_cert_import(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *chain = json_string_value(json_object_get(args, "chain"));
	const char *key = json_string_value(json_object_get(args, "key"));
	char why[MT_WHY_MAX] = "out of memory";
	char message[MT_WHY_MAX + 64];
	int rv;

	if (chain == NULL || key == NULL) {
		mt_reply_error(reply, "invalid",
			"cert.import takes a chain and its key; nothing was changed", "");
		return;
	}
	rv = mt_pki_check_pair(chain, key, why, sizeof(why));
	if (rv == 0) {
		rv = mt_store_cert_put(a->store, MT_CERT_IMPORTED, chain, key);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%s",
				mt_store_error(a->store)); /* for people: cut when too long */
		}
	}
	if (rv != 0) {
		(void)snprintf(message, sizeof(message), "%s; the certificates in use stay", why);
		mt_reply_failure(reply, rv, message, "mytunnelctl cert show");
		return;
	}
	mt_log(MT_LOG_INFO, "certificate_imported");
	put_in_force(a, reply, "imported", "certificate_imported", chain);
}

void mt_verb_cert_renew(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	char *chain = NULL;
	char *key = NULL;
	char why[MT_WHY_MAX];
	char message[MT_WHY_MAX + 64];
	int rv = mt_certs_renew(a->store, why, sizeof(why));

	(void)args;
	if (rv == 0) {
		rv = mt_store_cert_get(a->store, MT_CERT_SERVER, &chain, &key);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%s",
				mt_store_error(a->store)); /* for people: cut when too long */
		}
	}
	free_secret(key);
	if (rv != 0) {
		(void)snprintf(message, sizeof(message), "%s; the certificates in use stay", why);
		mt_reply_failure(reply, rv, message, "mytunnelctl cert show");
		return;
	}
	mt_log(MT_LOG_INFO, "certificate_renewed");
	put_in_force(a, reply, "server", "certificate_renewed", chain);
	free(chain);
}
