#include "daemon/verbs_clients.h"

#include "daemon/client_limits.h"
#include "daemon/enrol.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "daemon/verbs_stored.h"
#include "proto/quic/identity.h"
#include "proto/wire/encode.h"
#include "proto/wire/profile.h"
#include "store/pki.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The pin of the appliance's authority, which ends the server's chain. */
static int read_pin(struct mt_appliance *a, uint8_t pin[MT_PIN_LEN])
{
	char *chain = NULL;
	char *key = NULL;
	struct mt_cert_info info;
	int rv = mt_store_cert_get(a->store, MT_CERT_SERVER, &chain, &key);

	if (rv == 0) {
		rv = mt_pki_describe(chain, &info);
	}
	if (rv == 0) {
		memcpy(pin, info.pin, MT_PIN_LEN);
	}
	free(chain);
	if (key != NULL) {
		mt_wipe(key, strlen(key));
		free(key);
	}
	return rv;
}

static int choose_host(
	struct mt_appliance *a, struct mt_enrol_target *target, char *why, size_t why_cap)
{
	struct mt_addr configured[MT_SETTING_ADDRS_MAX];
	struct mt_enrol_view view = {
		.public_addr = mt_settings_text(&a->settings, MT_SET_SERVER_PUBLIC_ADDR),
		.listeners = a->facts.listeners,
		.listener_count = a->facts.listener_count,
		.hosts = a->hosts,
		.host_count = a->host_count};

	if (view.listener_count == 0) {
		view.listeners = configured;
		view.listener_count = mt_settings_addrs(
			&a->settings, MT_SET_SERVER_BIND_ADDR, configured, MT_SETTING_ADDRS_MAX);
	}
	return mt_enrol_choose(target, &view, why, why_cap);
}

/* Makes the profile, with a new key unless a public one was given. */
static int make_profile(struct mt_appliance *a, const char *name, const char *public_key,
	struct mt_profile *profile, uint8_t fingerprint[MT_FINGERPRINT_LEN], char *warning,
	size_t warning_cap, char *why, size_t why_cap)
{
	struct mt_enrol_target target;
	int rv = choose_host(a, &target, why, why_cap);

	if (rv != 0) {
		return rv;
	}
	(void)snprintf(why, why_cap, "the profile could not be made");
	(void)snprintf(warning, warning_cap, "%s", target.warning);
	memcpy(profile->host, target.host, sizeof(profile->host));
	profile->port = target.port;
	(void)snprintf(
		profile->name, sizeof(profile->name), "%s", name); /* mt_name_check has seen it */
	profile->pin_count = 1;
	rv = read_pin(a, profile->pins[0]);
	if (rv != 0) {
		return rv;
	}
	if (public_key != NULL) {
		rv = mt_identity_fingerprint_pem(public_key, strlen(public_key), fingerprint);
		if (rv != 0) {
			(void)snprintf(
				why, why_cap, "the key file holds no P-256 public key in PEM");
		}
		return rv;
	}
	profile->has_key = true;
	rv = mt_identity_generate(profile->key);
	return rv == 0 ? mt_identity_fingerprint(profile->key, fingerprint) : rv;
}

static json_t *added_json(struct mt_appliance *a, const struct mt_store_client *client,
	const char *uri, const char *warning)
{
	json_t *warnings = json_array();

	if (warning[0] != '\0' && json_array_append_new(warnings, json_string(warning)) != 0) {
		json_decref(warnings);
		return NULL;
	}
	return json_pack("{s:o, s:s, s:o}", "client", mt_client_json(a, client), "uri", uri,
		"warnings", warnings);
}

static void refuse(struct mt_reply *reply, int rv, const char *why, const char *next)
{
	char message[MT_WHY_MAX + 64];

	(void)snprintf(message, sizeof(message), "%s; no client was added", why);
	mt_reply_failure(reply, rv, message, next);
}

/* What helps after the store has refused a new client. */
static void advise(struct mt_appliance *a, int rv, const char *name, char *next, size_t next_cap)
{
	struct mt_store_client other;

	if (rv != MT_E_EXISTS) {
		(void)snprintf(next, next_cap, "mytunnelctl doctor");
	} else if (mt_store_client_get(a->store, name, &other) != 0) {
		(void)snprintf(next, next_cap, "mytunnelctl client list");
	} else {
		(void)snprintf(next, next_cap, "mytunnelctl client %s %s",
			other.revoked_at != 0 ? "remove" : "show", name);
	}
}

void mt_verb_client_add(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	const char *public_key = json_string_value(json_object_get(args, "public_key"));
	struct mt_profile profile = {.has_key = false};
	struct mt_store_limits limits = {0};
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	struct mt_store_client client;
	char uri[MT_PROFILE_MAX];
	char warning[512];
	char why[MT_WHY_MAX];
	char next[128] = "mytunnelctl client add --help";
	json_t *result;
	int rv;

	if (name == NULL || mt_name_check(name) != 0) {
		refuse(reply, MT_E_MALFORMED,
			"a name has 1 to 64 letters, digits, '.', '_', '-' or '@', and starts with "
			"neither '.' nor '-'",
			"mytunnelctl client add --help");
		return;
	}
	rv = mt_client_limits_apply(&limits, NULL, args, (int64_t)time(NULL), why, sizeof(why));
	if (rv == 0) {
		rv = make_profile(a, name, public_key, &profile, fingerprint, warning,
			sizeof(warning), why, sizeof(why));
	}
	if (rv == 0) {
		rv = mt_profile_format(&profile, uri, sizeof(uri));
	}
	if (rv == 0) {
		rv = mt_store_client_add(a->store, name, fingerprint, &limits, &client);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%s", mt_store_error(a->store));
			advise(a, rv, name, next, sizeof(next));
		}
	}
	mt_profile_deinit(&profile);
	if (rv != 0) {
		mt_wipe(uri, sizeof(uri));
		refuse(reply, rv, why, next);
		return;
	}
	mt_log(MT_LOG_INFO, "client_added", MT_LOG_TEXT("client", name));
	result = added_json(a, &client, uri, warning);
	mt_wipe(uri, sizeof(uri));
	mt_stored_publish(a, reply, false, false, result);
}

struct list {
	struct mt_appliance *a;
	json_t *rows;
	json_int_t connections;
	json_int_t bytes_received;
	json_int_t bytes_sent;
};

static json_int_t number_of(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static int list_one(const struct mt_store_client *client, void *user)
{
	struct list *l = user;
	json_t *row = mt_client_json(l->a, client);

	l->connections += number_of(row, "connections");
	l->bytes_received += number_of(row, "bytes_received");
	l->bytes_sent += number_of(row, "bytes_sent");
	return json_array_append_new(l->rows, row) != 0 ? -ENOMEM : 0;
}

void mt_verb_client_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *list = json_array();
	struct list l = {.a = a, .rows = list};
	int rv = list != NULL ? mt_store_client_each(a->store, list_one, &l) : -ENOMEM;

	(void)args;
	if (rv == 0) {
		mt_reply_result(
			reply, json_pack("{s:o, s:{s:I, s:I, s:I}}", "clients", list, "total",
				       "connections", l.connections, "bytes_received",
				       l.bytes_received, "bytes_sent", l.bytes_sent));
		return;
	}
	json_decref(list);
	mt_reply_failure(reply, rv, rv == -ENOMEM ? "out of memory" : mt_store_error(a->store), "");
}

void mt_client_refuse(struct mt_appliance *a, struct mt_reply *reply, int rv, const char *name)
{
	char message[MT_WHY_MAX];

	if (rv == MT_E_NOT_FOUND) {
		(void)snprintf(message, sizeof(message),
			"there is no client '%.64s'; nothing was changed", name);
	} else {
		(void)snprintf(message, sizeof(message), "%.400s; nothing was changed",
			mt_store_error(a->store));
	}
	mt_reply_failure(reply, rv, message, "mytunnelctl client list");
}

void mt_verb_client_revoke(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	int rv = name != NULL ? mt_store_client_revoke(a->store, name, &client) : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	mt_log(MT_LOG_INFO, "client_revoked", MT_LOG_TEXT("client", name));
	mt_stored_publish(
		a, reply, false, false, json_pack("{s:o}", "client", mt_client_json(a, &client)));
}

void mt_verb_client_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	int rv = name != NULL ? mt_store_client_remove(a->store, name, &client) : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	mt_log(MT_LOG_INFO, "client_removed", MT_LOG_TEXT("client", name));
	mt_stored_publish(
		a, reply, false, false, json_pack("{s:o}", "client", mt_client_json(a, &client)));
}
