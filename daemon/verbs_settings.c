#include "daemon/log.h"
#include "daemon/verbs.h"
#include "proto/wire/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void unknown_key(struct mt_reply *reply, const char *key)
{
	const char *near = mt_setting_suggest(key);
	char message[MT_WHY_MAX];

	(void)snprintf(message, sizeof(message),
		"there is no setting '%.128s'%s%s%s; nothing was changed", key,
		near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
		near != NULL ? "'?" : "");
	mt_reply_error(reply, "not_found", message, "mytunnelctl describe");
}

static json_t *value_json(const struct mt_appliance *a, const struct mt_setting *s)
{
	const char *value = mt_settings_text(&a->settings, s->id);

	return json_pack("{s:s, s:s, s:s, s:b}", "key", s->key, "value", value, "default",
		s->initial, "changed", strcmp(value, s->initial) != 0);
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
	json_t *rows = json_array();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (wanted != NULL && !matches(table[i].key, wanted)) {
			continue;
		}
		if (json_array_append_new(rows, row(a, &table[i])) != 0) {
			json_decref(rows);
			mt_reply_result(reply, NULL);
			return;
		}
	}
	if (json_array_size(rows) == 0) {
		json_decref(rows);
		unknown_key(reply, wanted != NULL ? wanted : "");
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

/* A change of settings under way. */
struct change {
	struct mt_reply *reply;
	json_t *result;
};

static void changed(void *user, bool cancelled)
{
	struct change *c = user;

	if (cancelled) {
		json_decref(c->result);
		mt_reply_error(c->reply, "stopping", "stored, but the daemon is stopping", "");
	} else {
		mt_reply_result(c->reply, c->result);
	}
	free(c);
}

static json_t *result_json(
	const struct mt_appliance *a, const struct mt_settings *next, const bool *named)
{
	const struct mt_setting *table = mt_settings_table();
	json_t *rows = json_array();
	json_t *warnings = json_array();
	int bad = 0;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		bool same = strcmp(next->text[i], a->settings.text[i]) == 0;
		bool listens = i == MT_SET_SERVER_BIND_ADDR || i == MT_SET_SERVER_WORKERS;
		enum mt_setting_applies applies =
			listens && a->worker_count == 0 ? MT_APPLIES_LIVE : table[i].applies;

		if (named[i]) {
			bad |= json_array_append_new(rows,
				json_pack("{s:s, s:s, s:s, s:b, s:s}", "key", table[i].key, "value",
					next->text[i], "previous", a->settings.text[i], "changed",
					!same, "applies", mt_setting_applies_text(applies)));
		}
	}
	if (named[MT_SET_ACCESS_REQUIRE_IDENTITY] &&
		!mt_settings_bool(next, MT_SET_ACCESS_REQUIRE_IDENTITY)) {
		bad |= json_array_append_new(
			warnings, json_string("access.require_identity is off: anybody who reaches "
					      "this server may use it as a proxy"));
	}
	if (bad != 0) {
		json_decref(rows);
		json_decref(warnings);
		return NULL;
	}
	return json_pack("{s:o, s:o}", "settings", rows, "warnings", warnings);
}

static bool differs(const struct mt_settings *x, const struct mt_settings *y, enum mt_setting_id id)
{
	return strcmp(x->text[id], y->text[id]) != 0;
}

static bool is_live(enum mt_setting_id id)
{
	return mt_settings_table()[id].applies != MT_APPLIES_RESTART;
}

static bool moves_web(const struct mt_appliance *a, const struct mt_settings *next)
{
	return (differs(next, &a->settings, MT_SET_METRICS_ENABLED) &&
		       is_live(MT_SET_METRICS_ENABLED)) ||
	       (differs(next, &a->settings, MT_SET_METRICS_BIND_ADDR) &&
		       is_live(MT_SET_METRICS_BIND_ADDR));
}

static int store(struct mt_appliance *a, const struct mt_settings *next, const bool *named)
{
	struct mt_store_change changes[MT_SETTING_COUNT];
	const struct mt_setting *table = mt_settings_table();
	size_t n = 0;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (named[i]) {
			bool initial = strcmp(next->text[i], table[i].initial) == 0;

			changes[n++] = (struct mt_store_change){
				table[i].id, initial ? NULL : next->text[i]};
		}
	}
	return mt_store_settings_write(a->store, changes, n);
}

static void log_changes(const struct mt_settings *before, const struct mt_settings *after)
{
	const struct mt_setting *table = mt_settings_table();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (differs(before, after, table[i].id)) {
			mt_log(MT_LOG_INFO, "setting_changed", MT_LOG_TEXT("key", table[i].key),
				MT_LOG_TEXT("value", after->text[i]),
				MT_LOG_TEXT("previous", before->text[i]));
		}
	}
}

static void fail(struct mt_reply *reply, int rv, const char *why)
{
	char message[MT_WHY_MAX + 32];

	(void)snprintf(message, sizeof(message), "%s; nothing was changed", why);
	mt_reply_failure(reply, rv, message, "mytunnelctl describe");
}

/* Makes everything that can fail: builds, moves the HTTP endpoint, and at last writes the store. On
 * failure all is as before. */
static int make(struct mt_appliance *a, struct mt_publication *p, const struct mt_settings *next,
	const bool *named, char *why, size_t why_cap)
{
	char lost[MT_WHY_MAX];
	bool moves = moves_web(a, next);
	int rv = mt_settings_check(next, why, why_cap);

	if (rv == 0) {
		rv = mt_appliance_prepare(a, p, next, false, why, why_cap);
	}
	if (rv == 0 && moves) {
		rv = mt_appliance_swap_web(a, next, why, why_cap);
	}
	if (rv == 0) {
		rv = store(a, next, named);
		if (rv != 0) {
			(void)snprintf(why, why_cap, "%s",
				mt_store_error(a->store)); /* for people: cut when too long */
			if (moves &&
				mt_appliance_swap_web(a, &a->settings, lost, sizeof(lost)) != 0) {
				mt_log(MT_LOG_ERROR, "http_failed", MT_LOG_TEXT("problem", lost));
			}
		}
	}
	if (rv != 0) {
		mt_publication_drop(p);
	}
	return rv;
}

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

static void apply(struct mt_appliance *a, const struct mt_settings *next, const bool *named,
	struct mt_reply *reply)
{
	struct mt_settings before = a->settings;
	struct mt_publication p = {.snapshot = NULL};
	struct change *c = calloc(1, sizeof(*c));
	char why[MT_WHY_MAX] = "out of memory";
	bool idle = a->worker_count == 0;
	int rv;

	if (c == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	c->reply = reply;
	c->result = result_json(a, next, named);
	rv = make(a, &p, next, named, why, sizeof(why));
	if (rv != 0) {
		fail(reply, rv, why);
		goto out;
	}
	rv = mt_appliance_commit(a, &p, idle ? NULL : changed, c);
	log_changes(&before, next);
	if (rv != 0) {
		mt_reply_failure(reply, rv,
			"stored, but the workers could not be told for want of memory",
			"restart the daemon");
	} else if (idle) {
		try_again(a, c->result);
		mt_reply_result(reply, c->result);
		c->result = NULL;
	} else {
		c = NULL; /* the workers have it */
	}
out:
	if (c != NULL) {
		json_decref(c->result);
		free(c);
	}
}

void mt_verb_set(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *values = json_object_get(args, "values");
	struct mt_settings next = a->settings;
	bool named[MT_SETTING_COUNT] = {false};
	char why[MT_WHY_MAX];
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
			s, json_string_value(value), next.text[s->id], why, sizeof(why));
		if (rv != 0) {
			fail(reply, rv, why);
			return;
		}
		named[s->id] = true;
	}
	apply(a, &next, named, reply);
}

void mt_verb_reset(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *keys = json_object_get(args, "keys");
	struct mt_settings next = a->settings;
	struct mt_settings initial;
	bool named[MT_SETTING_COUNT] = {false};
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
		memcpy(next.text[s->id], initial.text[s->id], sizeof(next.text[s->id]));
		named[s->id] = true;
	}
	apply(a, &next, named, reply);
}
