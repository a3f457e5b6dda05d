#include "daemon/client_limits.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "daemon/verbs_clients.h"
#include "daemon/verbs_stored.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FINGERPRINT_TEXT (MT_BASE64URL_LEN(MT_FINGERPRINT_LEN) + 1)

/* 0 is shown as null: no limit, or never. */
static json_t *number_or_null(int64_t value)
{
	return value != 0 ? json_integer((json_int_t)value) : json_null();
}

static const char *state_of(const struct mt_store_client *c, const struct mt_account *account)
{
	if (c->revoked_at != 0) {
		return "revoked";
	}
	if (c->disabled_at != 0) {
		return "disabled";
	}
	if (c->limits.expires_at != 0 && (int64_t)time(NULL) >= c->limits.expires_at) {
		return "expired";
	}
	return account != NULL && mt_account_is_exhausted(account) ? "over quota" : "active";
}

static json_t *usage_json(const struct mt_store_usage *u)
{
	return json_pack("{s:I, s:I, s:I, s:o, s:o, s:s}", "bytes_received",
		(json_int_t)u->bytes_received, "bytes_sent", (json_int_t)u->bytes_sent,
		"period_bytes", (json_int_t)u->period_bytes, "period_start",
		number_or_null(u->period_start), "last_seen", number_or_null(u->last_seen),
		"last_address", u->last_address);
}

json_t *mt_client_json(struct mt_appliance *a, const struct mt_store_client *c)
{
	struct mt_account *account = mt_accounts_find(&a->accounts, c->fingerprint);
	struct mt_store_usage usage = c->usage;
	char fingerprint[FINGERPRINT_TEXT];
	json_t *o;
	json_t *u;
	bool ok;

	mt_base64url_encode(fingerprint, c->fingerprint, sizeof(c->fingerprint));
	if (account != NULL) {
		mt_account_usage(account, &usage);
	}
	o = json_pack("{s:s, s:I, s:s, s:s, s:I, s:b, s:o, s:b, s:o, s:o, s:o, s:o, s:s, s:o, s:s, "
		      "s:i}",
		"name", c->name, "id", (json_int_t)c->id, "fingerprint", fingerprint, "state",
		state_of(c, account), "created_at", (json_int_t)c->created_at, "revoked",
		c->revoked_at != 0, "revoked_at", number_or_null(c->revoked_at), "disabled",
		c->disabled_at != 0, "disabled_at", number_or_null(c->disabled_at), "expires_at",
		number_or_null(c->limits.expires_at), "rate_bits",
		number_or_null(c->limits.rate_bits), "quota_bytes",
		number_or_null(c->limits.quota_bytes), "quota_period",
		mt_quota_period_text(c->limits.quota_period), "max_connections",
		number_or_null(c->limits.max_connections), "note", c->limits.note, "connections",
		account != NULL ? (int)atomic_load(&account->connections) : 0);
	u = usage_json(&usage);
	ok = o != NULL && u != NULL && json_object_update(o, u) == 0;
	json_decref(u);
	if (!ok) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

void mt_verb_client_show(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	int rv = name != NULL ? mt_store_client_get(a->store, name, &client) : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	mt_reply_result(reply, json_pack("{s:o}", "client", mt_client_json(a, &client)));
}

void mt_verb_client_set(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	char why[MT_WHY_MAX];
	char message[MT_WHY_MAX + 64];
	size_t count = 0;
	int rv = name != NULL ? mt_store_client_get(a->store, name, &client) : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	rv = mt_client_limits_apply(
		&client.limits, &count, args, (int64_t)time(NULL), why, sizeof(why));
	if (rv == 0 && count == 0) {
		(void)snprintf(why, sizeof(why), "nothing to set was named");
		rv = MT_E_MALFORMED;
	}
	if (rv != 0) {
		(void)snprintf(message, sizeof(message), "%s; nothing was changed", why);
		mt_reply_failure(reply, rv, message, "mytunnelctl client set --help");
		return;
	}
	rv = mt_store_client_limit(a->store, name, &client.limits, &client);
	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name);
		return;
	}
	mt_log(MT_LOG_INFO, "client_changed", MT_LOG_TEXT("client", name));
	mt_stored_publish(
		a, reply, false, false, json_pack("{s:o}", "client", mt_client_json(a, &client)));
}

static void enable(struct mt_appliance *a, json_t *args, struct mt_reply *reply, bool enabled)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	int rv = name != NULL ? mt_store_client_enable(a->store, name, enabled, &client)
			      : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	mt_log(MT_LOG_INFO, enabled ? "client_enabled" : "client_disabled",
		MT_LOG_TEXT("client", name));
	mt_stored_publish(
		a, reply, false, false, json_pack("{s:o}", "client", mt_client_json(a, &client)));
}

void mt_verb_client_enable(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	enable(a, args, reply, true);
}

void mt_verb_client_disable(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	enable(a, args, reply, false);
}

/* ---- kick ---- */

struct kick {
	struct mt_reply *reply;
	char name[MT_NAME_MAX + 1];
	unsigned count[MT_WORKERS_MAX];
	struct mt_walk walks[MT_WORKERS_MAX];
};

static bool kick_on(struct mt_worker *w, unsigned index, void *user)
{
	struct kick *k = user;

	return mt_worker_kick_client_some(w, &k->walks[index], k->name, &k->count[index]);
}

static void kicked(void *user, bool cancelled)
{
	struct kick *k = user;
	json_int_t sum = 0;

	for (size_t i = 0; i < MT_WORKERS_MAX; i++) {
		sum += k->count[i];
	}
	if (cancelled) {
		mt_reply_error(k->reply, "stopping", "the daemon is stopping", "");
	} else {
		mt_reply_result(
			k->reply, json_pack("{s:s, s:I}", "client", k->name, "connections", sum));
	}
	free(k);
}

void mt_verb_client_kick(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	static const struct mt_round_ops ops = {.work_some = kick_on, .done = kicked};
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	struct kick *k;
	int rv = name != NULL ? mt_store_client_get(a->store, name, &client) : MT_E_NOT_FOUND;

	if (rv != 0) {
		mt_client_refuse(a, reply, rv, name != NULL ? name : "");
		return;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	k->reply = reply;
	memcpy(k->name, client.name, sizeof(k->name));
	rv = mt_appliance_ask(a, -1, &ops, k);
	if (rv != 0) {
		free(k);
		mt_reply_result(reply, NULL);
	}
}
