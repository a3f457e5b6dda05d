#include "daemon/change.h"
#include "daemon/verbs.h"
#include "proto/wire/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void unknown_key(struct mt_reply *reply, const char *key)
{
	const char *near = mt_setting_suggest(key);
	char message[MT_WHY_MAX];
	char next[128];

	(void)snprintf(message, sizeof(message),
		"there is no setting '%.128s'%s%s%s; nothing was changed", key,
		near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
		near != NULL ? "'?" : "");
	(void)snprintf(next, sizeof(next), "mytunnelctl describe%s%s", near != NULL ? " " : "",
		near != NULL ? near : "");
	mt_reply_error(reply, "not_found", message, next);
}

static json_t *value_json(const struct mt_appliance *a, const struct mt_setting *s)
{
	const char *value = mt_settings_text(&a->settings, s->id);

	return json_pack("{s:s, s:s, s:s, s:b, s:b}", "key", s->key, "value", value, "default",
		s->initial, "changed", strcmp(value, s->initial) != 0, "on_trial",
		a->trial.named[s->id]);
}

static const char *type_text(enum mt_setting_type type)
{
	switch (type) {
	case MT_SETTING_BOOL: return "bool";
	case MT_SETTING_INT: return "int";
	case MT_SETTING_SIZE: return "size";
	case MT_SETTING_DURATION: return "duration";
	case MT_SETTING_ENUM: return "enum";
	case MT_SETTING_ADDRS: return "addresses";
	default: return "text";
	}
}

static json_t *description_json(const struct mt_appliance *a, const struct mt_setting *s)
{
	json_t *row = value_json(a, s);

	if (row == NULL ||
		json_object_update_new(
			row, json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:s}", "type",
				     type_text(s->type), "unit", s->unit, "minimum",
				     (json_int_t)s->minimum, "maximum", (json_int_t)s->maximum,
				     "choices", s->choices != NULL ? s->choices : "", "applies",
				     mt_setting_applies_text(s->applies), "help", s->help)) != 0) {
		json_decref(row);
		return NULL;
	}
	return row;
}

/* Whether `key` is `wanted` itself or lies below it: "quic" and "quic." name all of quic.*. */
static bool matches(const char *key, const char *wanted)
{
	size_t len = strlen(wanted);

	return strncmp(key, wanted, len) == 0 &&
	       (len == 0 || key[len] == '\0' || key[len] == '.' || wanted[len - 1] == '.');
}

static void list(struct mt_appliance *a, json_t *args, struct mt_reply *reply,
	json_t *(*row)(const struct mt_appliance *a, const struct mt_setting *s))
{
	const char *wanted = json_string_value(json_object_get(args, "key"));
	const struct mt_setting *table = mt_settings_table();
	bool changed = json_is_true(json_object_get(args, "changed"));
	bool known = wanted == NULL;
	json_t *rows = json_array();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (wanted != NULL && !matches(table[i].key, wanted)) {
			continue;
		}
		known = true;
		if (changed && strcmp(a->settings.text[i], table[i].initial) == 0) {
			continue;
		}
		if (json_array_append_new(rows, row(a, &table[i])) != 0) {
			json_decref(rows);
			mt_reply_result(reply, NULL);
			return;
		}
	}
	if (!known) {
		json_decref(rows);
		unknown_key(reply, wanted);
		return;
	}
	mt_reply_result(reply, json_pack("{s:o}", "settings", rows));
}

void mt_verb_get(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	list(a, args, reply, value_json);
}

void mt_verb_describe(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	list(a, args, reply, description_json);
}

/* The answer to a change that is under way. */
struct pending {
	struct mt_appliance *a;
	struct mt_reply *reply;
	json_t *result;
	bool trial;
};

/* A daemon that could not listen takes new addresses at once; the answer says whether that helped.
 */
static void try_again(struct mt_appliance *a, json_t *result)
{
	mt_appliance_retry(a);
	if (a->facts.state == MT_STATE_DEGRADED && result != NULL) {
		/* Without memory for it the answer lacks a warning that status shows as well. */
		(void)json_array_append_new(
			json_object_get(result, "warnings"), json_string(a->facts.problem));
	}
}

static void changed(void *user, bool cancelled)
{
	struct pending *p = user;

	if (cancelled) {
		mt_reply_made(p->reply, p->result, "stopping",
			p->trial ? "the daemon is stopping: it starts with the old values"
				 : "stored, but the daemon is stopping: it is in force at the next "
				   "start",
			"");
	} else if (p->result == NULL) {
		mt_reply_made(p->reply, NULL, "failed", "done, but out of memory for the answer",
			"mytunnelctl get --changed");
	} else {
		if (p->a->worker_count == 0) {
			try_again(p->a, p->result);
		}
		mt_reply_result(p->reply, p->result);
	}
	free(p);
}

static json_t *warnings_json(const struct mt_change *change)
{
	json_t *warnings = json_array();
	int bad = 0;

	if (change->named[MT_SET_ACCESS_REQUIRE_IDENTITY] &&
		!mt_settings_bool(&change->next, MT_SET_ACCESS_REQUIRE_IDENTITY)) {
		bad |= json_array_append_new(
			warnings, json_string("access.require_identity is off: anybody who reaches "
					      "this server may use it as a proxy"));
	}
	if (bad != 0) {
		json_decref(warnings);
		return NULL;
	}
	return warnings;
}

static json_t *result_json(const struct mt_appliance *a, const struct mt_change *change)
{
	const struct mt_setting *table = mt_settings_table();
	json_t *rows = json_array();
	bool differs = false;
	int bad = 0;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		bool same = strcmp(change->next.text[i], a->settings.text[i]) == 0;
		bool listens = i == MT_SET_SERVER_BIND_ADDR || i == MT_SET_SERVER_WORKERS;
		enum mt_setting_applies applies =
			listens && a->worker_count == 0 ? MT_APPLIES_LIVE : table[i].applies;

		differs = differs || !same;
		if (change->named[i]) {
			bad |= json_array_append_new(
				rows, json_pack("{s:s, s:s, s:s, s:b, s:s}", "key", table[i].key,
					      "value", change->next.text[i], "previous",
					      a->settings.text[i], "changed", !same, "applies",
					      mt_setting_applies_text(applies)));
		}
	}
	if (bad != 0) {
		json_decref(rows);
		return NULL;
	}
	return json_pack("{s:o, s:i, s:i, s:o}", "settings", rows, "workers", (int)a->worker_count,
		"confirm_within", differs ? (int)change->trial_s : 0, "warnings",
		warnings_json(change));
}

/* Seconds from "confirm", which is absent for a change for good. */
static int read_trial(json_t *args, unsigned *out, char *why, size_t why_cap)
{
	const json_t *confirm = json_object_get(args, "confirm");
	json_int_t seconds = json_integer_value(confirm);

	if (confirm == NULL) {
		*out = 0;
		return 0;
	}
	if (!json_is_integer(confirm) || seconds < MT_TRIAL_MIN_S || seconds > MT_TRIAL_MAX_S) {
		(void)snprintf(why, why_cap, "--confirm takes %d s to %d s; nothing was changed",
			MT_TRIAL_MIN_S, MT_TRIAL_MAX_S);
		return MT_E_RANGE;
	}
	*out = (unsigned)seconds;
	return 0;
}

static void apply(
	struct mt_appliance *a, struct mt_change *change, json_t *args, struct mt_reply *reply)
{
	struct pending *p = calloc(1, sizeof(*p));
	char why[MT_WHY_MAX];
	char next[MT_WHY_MAX] = "";
	int rv;

	if (p == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	change->uid = mt_reply_uid(reply);
	rv = read_trial(args, &change->trial_s, why, sizeof(why));
	if (rv == 0) {
		*p = (struct pending){.a = a,
			.reply = reply,
			.result = result_json(a, change),
			.trial = change->trial_s != 0};
		rv = mt_change_apply(a, change, changed, p, why, sizeof(why), next, sizeof(next));
	}
	if (rv == MT_E_AGAIN) {
		mt_reply_made(reply, p->result, "failed", why, next);
		free(p);
	} else if (rv != 0) {
		json_decref(p->result);
		free(p);
		mt_reply_failure(reply, rv, why, next);
	}
}

void mt_verb_set(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *values = json_object_get(args, "values");
	struct mt_change change = {.next = a->settings};
	char why[MT_WHY_MAX];
	char message[MT_WHY_MAX + 32];
	char next[128];
	const char *key;
	json_t *value;

	if (json_object_size(values) == 0) {
		mt_reply_error(reply, "invalid", "set takes keys with their values",
			"mytunnelctl set KEY VALUE");
		return;
	}
	json_object_foreach(values, key, value)
	{
		const struct mt_setting *s = mt_setting_find(key);
		int rv;

		if (s == NULL) {
			unknown_key(reply, key);
			return;
		}
		if (!json_is_string(value)) {
			mt_reply_error(
				reply, "invalid", "values are strings; nothing was changed", "");
			return;
		}
		rv = mt_setting_normalize(
			s, json_string_value(value), change.next.text[s->id], why, sizeof(why));
		if (rv != 0) {
			(void)snprintf(message, sizeof(message), "%s; nothing was changed", why);
			(void)snprintf(next, sizeof(next), "mytunnelctl describe %s", s->key);
			mt_reply_failure(reply, rv, message, next);
			return;
		}
		change.named[s->id] = true;
	}
	apply(a, &change, args, reply);
}

void mt_verb_reset(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *keys = json_object_get(args, "keys");
	struct mt_change change = {.next = a->settings};
	struct mt_settings initial;
	size_t i;
	json_t *key;

	if (json_array_size(keys) == 0) {
		mt_reply_error(reply, "invalid", "reset takes keys", "mytunnelctl reset KEY");
		return;
	}
	mt_settings_init(&initial);
	json_array_foreach(keys, i, key)
	{
		const char *text = json_is_string(key) ? json_string_value(key) : "";
		const struct mt_setting *s = mt_setting_find(text);

		if (s == NULL) {
			unknown_key(reply, text);
			return;
		}
		memcpy(change.next.text[s->id], initial.text[s->id],
			sizeof(change.next.text[s->id]));
		change.named[s->id] = true;
	}
	apply(a, &change, args, reply);
}

void mt_verb_confirm(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	char why[MT_WHY_MAX];
	int rv = mt_trial_confirm(a, mt_reply_uid(reply), why, sizeof(why));

	(void)args;
	if (rv != 0) {
		mt_reply_failure(reply, rv, why, "mytunnelctl get --changed");
		return;
	}
	mt_reply_result(reply, json_pack("{s:b}", "confirmed", 1));
}
