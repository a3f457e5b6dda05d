#include "daemon/audit.h"

#include "daemon/control_peer.h"
#include "daemon/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 512 /* of one argument; what is longer is no name, value or rule */

/* Parts of larger works, whose beginning or end is recorded, and what only looks. */
static bool is_silent(const char *verb)
{
	static const char *const names[] = {
		"restore.begin", "restore.part", "trace.read", "trace.list"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(verb, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

static bool is_secret(const char *key)
{
	static const char *const names[] = {
		"key", "chain", "public_key", "uri", "data", "secret", "password", "token"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(key, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* A copy of the arguments without what must not be kept. NULL without memory. */
static json_t *harmless(const json_t *args)
{
	json_t *copy = json_object();
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)args, key, value)
	{
		bool hide = is_secret(key) ||
			    (json_is_string(value) && json_string_length(value) > TEXT_MAX);

		if (json_object_set_new(copy, key,
			    hide ? json_string("(not kept)") : json_deep_copy(value)) != 0) {
			json_decref(copy);
			return NULL;
		}
	}
	return copy;
}

static json_t *client_state(const struct mt_store_client *c)
{
	return json_pack("{s:b, s:b, s:I, s:I, s:I, s:i, s:I, s:s}", "revoked", c->revoked_at != 0,
		"disabled", c->disabled_at != 0, "expires_at", (json_int_t)c->limits.expires_at,
		"rate_bits", (json_int_t)c->limits.rate_bits, "quota_bytes",
		(json_int_t)c->limits.quota_bytes, "quota_period", (int)c->limits.quota_period,
		"max_connections", (json_int_t)c->limits.max_connections, "note", c->limits.note);
}

json_t *mt_audit_before(struct mt_appliance *a, const char *verb, const json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;

	if (a->store == NULL || name == NULL || strncmp(verb, "client.", 7) != 0 ||
		mt_store_client_get(a->store, name, &client) != 0) {
		return NULL;
	}
	return client_state(&client);
}

/* {"key": [old, new]} for what differs. Both borrowed. NULL without memory. */
static json_t *differences(const json_t *before, const json_t *after)
{
	json_t *changes = json_object();
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)after, key, value)
	{
		json_t *old = json_object_get(before, key);

		if (old != NULL && !json_equal(old, value) &&
			json_object_set_new(changes, key, json_pack("[O, O]", old, value)) != 0) {
			json_decref(changes);
			return NULL;
		}
	}
	return changes;
}

static json_t *setting_changes(const json_t *rows)
{
	json_t *changes = json_object();
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		const char *key = json_string_value(json_object_get(row, "key"));

		if (key == NULL || !json_is_true(json_object_get(row, "changed"))) {
			continue;
		}
		if (json_object_set_new(changes, key,
			    json_pack("[O, O]", json_object_get(row, "previous"),
				    json_object_get(row, "value"))) != 0) {
			json_decref(changes);
			return NULL;
		}
	}
	return changes;
}

static json_t *client_changes(struct mt_appliance *a, const json_t *args, const json_t *before)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct mt_store_client client;
	json_t *after;
	json_t *changes;

	if (name == NULL || mt_store_client_get(a->store, name, &client) != 0) {
		return NULL; /* removed: the arguments say it */
	}
	after = client_state(&client);
	changes = differences(before, after);
	json_decref(after);
	return changes;
}

static json_t *detail_of(struct mt_appliance *a, const char *verb, const json_t *args,
	const json_t *before, const json_t *result)
{
	const json_t *rows = json_object_get(result, "settings");
	json_t *rule = json_object_get(result, "rule");
	const char *fingerprint = json_string_value(
		json_object_get(json_object_get(result, "certificate"), "fingerprint"));
	json_t *detail = json_object();
	int bad = 0;

	if (rows != NULL && (strcmp(verb, "set") == 0 || strcmp(verb, "reset") == 0)) {
		bad |= json_object_set_new(detail, "changes", setting_changes(rows));
	} else if (strcmp(verb, "restore") == 0) {
		bad |= json_object_set_new(
			detail, "args", harmless(result)); /* what has come of it */
	} else {
		bad |= json_object_set_new(detail, "args", harmless(args));
	}
	if (before != NULL) {
		json_t *changes = client_changes(a, args, before);

		if (changes != NULL) {
			bad |= json_object_set_new(detail, "changes", changes);
		}
	}
	if (rule != NULL) {
		bad |= json_object_set(detail, "rule", rule);
	}
	if (fingerprint != NULL) {
		bad |= json_object_set_new(detail, "fingerprint", json_string(fingerprint));
	}
	if (bad != 0) {
		json_decref(detail);
		return NULL;
	}
	return detail;
}

/* Takes `detail`. */
static void write_entry(
	struct mt_appliance *a, const struct mt_actor *actor, const char *verb, json_t *detail)
{
	char user[MT_USER_TEXT_MAX];
	char *text = detail != NULL ? json_dumps(detail, JSON_COMPACT) : NULL;
	int rv = -1;

	if (text != NULL && a->store != NULL) {
		struct mt_store_audit row = {.uid = (int64_t)actor->uid,
			.user = mt_control_user(user, actor->uid),
			.pid = (int64_t)actor->pid,
			.verb = verb,
			.detail = text};

		rv = mt_store_audit_add(a->store, &row);
	}
	if (rv != 0) {
		mt_log(MT_LOG_ERROR, "audit_failed", MT_LOG_TEXT("verb", verb),
			MT_LOG_NUMBER("uid", actor->uid),
			MT_LOG_TEXT("error", text != NULL && a->store != NULL
						     ? mt_store_error(a->store)
						     : "out of memory"));
	}
	free(text);
	json_decref(detail);
}

/* Changes of clients and rules are events too; those of settings and certificates tell more by
 * themselves. */
static void tell(struct mt_appliance *a, const struct mt_actor *actor, const char *verb,
	const json_t *args, const json_t *detail)
{
	char user[MT_USER_TEXT_MAX];
	char event[32];
	size_t n = strlen(verb);

	if ((strncmp(verb, "client.", 7) != 0 && strncmp(verb, "access.", 7) != 0) ||
		n >= sizeof(event) || detail == NULL) {
		return;
	}
	for (size_t i = 0; i <= n; i++) {
		event[i] = verb[i];
		if (event[i] == '.') {
			event[i] = '_';
		}
	}
	mt_events_add(&a->events, event,
		json_pack("{s:s*, s:O*, s:O*, s:s, s:I}", "client",
			event[0] == 'c' ? json_string_value(json_object_get(args, "name")) : NULL,
			"changes", json_object_get(detail, "changes"), "rule",
			json_object_get(detail, "rule"), "by", mt_control_user(user, actor->uid),
			"uid", (json_int_t)actor->uid));
}

void mt_audit_record(struct mt_appliance *a, const struct mt_actor *actor, const char *verb,
	const json_t *args, const json_t *before, const json_t *result)
{
	json_t *detail;

	if (is_silent(verb)) {
		return;
	}
	if (strcmp(verb, "restore.finish") == 0) {
		verb = "restore";
	}
	detail = detail_of(a, verb, args, before, result);
	if (detail != NULL && json_object_size(detail) == 1 &&
		json_object_get(detail, "changes") != NULL &&
		json_object_size(json_object_get(detail, "changes")) == 0) {
		json_decref(detail); /* every value was so already */
		return;
	}
	tell(a, actor, verb, args, detail);
	write_entry(a, actor, verb, detail);
}

json_t *mt_audit_settings(const struct mt_settings *before, const struct mt_settings *after)
{
	json_t *changes = json_object();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (strcmp(before->text[i], after->text[i]) != 0 &&
			json_object_set_new(changes, mt_settings_table()[i].key,
				json_pack("[s, s]", before->text[i], after->text[i])) != 0) {
			json_decref(changes);
			return NULL;
		}
	}
	return json_pack("{s:o}", "changes", changes);
}

void mt_audit_record_own(struct mt_appliance *a, const char *verb, json_t *detail)
{
	struct mt_actor self = {.uid = geteuid(), .pid = getpid()};

	write_entry(a, &self, verb, detail);
}
