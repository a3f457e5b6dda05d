#include "daemon/access.h"
#include "daemon/log.h"
#include "daemon/lookup.h"
#include "daemon/verbs.h"
#include "daemon/verbs_stored.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHY_TEXT_MAX (2 * MT_RULE_TEXT_MAX + 256)

/* ---- what is there ---- */

static json_t *rule_json(size_t index, const struct mt_rule *rule)
{
	static const char *const protocols[] = {"any", "tcp", "udp"};
	char text[MT_RULE_TEXT_MAX];
	char net[MT_NET_TEXT_MAX] = "";

	if (rule->net.addr.len != 0) {
		(void)mt_net_format(&rule->net, net, sizeof(net));
	}
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "number",
		(json_int_t)index + 1, "rule", mt_rule_format(rule, text, sizeof(text)), "action",
		rule->allow ? "allow" : "deny", "client", rule->client, "protocol",
		protocols[rule->protocol], "host", rule->host, "net", net, "port_first",
		(int)rule->port_first, "port_last", (int)rule->port_last);
}

void mt_verb_access_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *list = json_array();
	size_t count = 0;
	const struct mt_rule *rules = mt_rules_list(a->snapshot->rules, &count);

	(void)args;
	for (size_t i = 0; i < count; i++) {
		if (json_array_append_new(list, rule_json(i, &rules[i])) != 0) {
			json_decref(list);
			list = NULL;
			break;
		}
	}
	mt_reply_result(reply, json_pack("{s:o, s:b}", "rules", list, "allow_private",
				       a->snapshot->allow_private));
}

/* ---- changes ---- */

static void refuse(struct mt_reply *reply, int rv, const char *why)
{
	char message[MT_WHY_MAX + 64];

	(void)snprintf(message, sizeof(message), "%s; no rule was changed", why);
	mt_reply_failure(reply, rv, message,
		rv == MT_E_MALFORMED || rv == MT_E_TOO_LONG ? "mytunnelctl access add --help"
							    : "mytunnelctl access list");
}

static json_t *changed_json(
	struct mt_appliance *a, int64_t number, const struct mt_rule *rule, bool keep)
{
	char text[MT_RULE_TEXT_MAX];
	char warning[MT_NAME_MAX + 96];
	json_t *warnings = json_array();
	struct mt_store_client client;

	if (rule->client[0] != '\0' &&
		mt_store_client_get(a->store, rule->client, &client) == MT_E_NOT_FOUND) {
		(void)snprintf(warning, sizeof(warning),
			"there is no client '%s'; the rule waits for one of that name",
			rule->client);
		if (json_array_append_new(warnings, json_string(warning)) != 0) {
			json_decref(warnings);
			return NULL;
		}
	}
	return json_pack("{s:I, s:s, s:b, s:o}", "number", (json_int_t)number, "rule",
		mt_rule_format(rule, text, sizeof(text)), "kept", keep, "warnings", warnings);
}

void mt_verb_access_add(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *text = json_string_value(json_object_get(args, "rule"));
	int64_t number = json_integer_value(json_object_get(args, "at"));
	bool keep = json_is_true(json_object_get(args, "keep"));
	char canonical[MT_RULE_TEXT_MAX];
	char why[MT_WHY_MAX] = "a rule is needed";
	struct mt_rule rule;
	int rv = text != NULL ? mt_rule_parse(&rule, text, why, sizeof(why)) : MT_E_MALFORMED;

	if (rv == 0) {
		rv = mt_store_rule_add(a->store, &number, &rule, MT_RULES_MAX);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%s", mt_store_error(a->store));
		}
	}
	if (rv != 0) {
		refuse(reply, rv, why);
		return;
	}
	mt_log(MT_LOG_INFO, "access_rule_added", MT_LOG_NUMBER("number", (uint64_t)number),
		MT_LOG_TEXT("rule", mt_rule_format(&rule, canonical, sizeof(canonical))));
	mt_stored_publish(a, reply, false, keep, changed_json(a, number, &rule, keep));
}

void mt_verb_access_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	int64_t number = json_integer_value(json_object_get(args, "number"));
	bool keep = json_is_true(json_object_get(args, "keep"));
	char text[MT_RULE_TEXT_MAX];
	struct mt_rule rule;
	int rv = mt_store_rule_remove(a->store, number, &rule);

	if (rv != 0) {
		refuse(reply, rv, mt_store_error(a->store));
		return;
	}
	mt_rule_format(&rule, text, sizeof(text));
	mt_log(MT_LOG_INFO, "access_rule_removed", MT_LOG_NUMBER("number", (uint64_t)number),
		MT_LOG_TEXT("rule", text));
	mt_stored_publish(a, reply, false, keep,
		json_pack("{s:I, s:s, s:b}", "number", (json_int_t)number, "rule", text, "kept",
			keep));
}

/* ---- what would happen ---- */

struct test {
	struct mt_appliance *appliance;
	struct mt_reply *reply;
	json_t *warnings;
	char client[MT_NAME_MAX + 1];
	char host[256];
	size_t host_len;
	bool named;
	enum mt_rule_protocol protocol;
	uint16_t port;
};

static struct mt_access_request request_of(const struct test *t)
{
	return (struct mt_access_request){
		.client = t->client,
		.protocol = t->protocol,
		.name = t->named ? t->host : NULL,
		.name_len = t->host_len,
		.port = t->port,
	};
}

static json_t *number_or_null(int rule)
{
	return rule >= 0 ? json_integer((json_int_t)rule + 1) : json_null();
}

static void rule_text(const struct mt_snapshot *s, int index, char *buf, size_t cap)
{
	size_t count = 0;
	const struct mt_rule *rules = mt_rules_list(s->rules, &count);
	char text[MT_RULE_TEXT_MAX];

	(void)snprintf(buf, cap, "rule %d (%s)", index + 1,
		mt_rule_format(&rules[index], text, sizeof(text)));
}

/* Why an address is allowed or refused, for people. */
static void explain(const struct mt_snapshot *s, const struct mt_addr *addr,
	const struct mt_access_verdict *v, char *why, size_t cap)
{
	char text[MT_RULE_TEXT_MAX + 32];
	char range[MT_NET_TEXT_MAX];
	struct mt_net net;
	size_t len;

	mt_net_of(&net, addr, v->range_bits);
	(void)mt_net_format(&net, range, sizeof(range));
	switch (v->reason) {
	case MT_ACCESS_RULE: rule_text(s, v->rule, why, cap); return;
	case MT_ACCESS_GLOBAL:
		(void)snprintf(why, cap, "no rule matches: public addresses are open");
		return;
	case MT_ACCESS_PRIVATE:
	case MT_ACCESS_OWN:
		if (v->allowed) {
			(void)snprintf(why, cap, "no rule matches, and access.allow_private is on");
			return;
		}
		(void)snprintf(why, cap,
			v->reason == MT_ACCESS_OWN
				? "%s is this server itself: closed without a rule for it"
				: "%s is private: closed without a rule for a network in it",
			range);
		break;
	case MT_ACCESS_SPECIAL:
		(void)snprintf(why, cap,
			"%s is a special range: closed without a rule for a network in it", range);
		break;
	}
	if (v->passed_over != MT_RULES_NONE) {
		len = strlen(why);
		rule_text(s, v->passed_over, text, sizeof(text));
		(void)snprintf(why + len, cap - len, "; %s names none and does not open it", text);
	}
}

static json_t *address_json(const struct test *t, const struct mt_addr *addr, bool *allowed)
{
	const struct mt_snapshot *s = t->appliance->snapshot;
	const struct mt_access_request request = request_of(t);
	struct mt_access_verdict v;
	char why[WHY_TEXT_MAX] = "";
	char host[MT_ADDR_TEXT_MAX];

	mt_access_judge(s, &request, addr, &v);
	explain(s, addr, &v, why, sizeof(why));
	*allowed = *allowed || v.allowed;
	return json_pack("{s:s, s:b, s:o, s:o, s:s}", "address",
		mt_addr_format_host(addr, host, sizeof(host)), "allowed", v.allowed, "rule",
		number_or_null(v.rule), "passed_over", number_or_null(v.passed_over), "why", why);
}

static void answer(struct test *t, bool allowed, int rule, const char *why, json_t *addresses)
{
	mt_reply_result(t->reply,
		json_pack("{s:s, s:s, s:s, s:i, s:b, s:o, s:s, s:o, s:O}", "client", t->client,
			"protocol", t->protocol == MT_RULE_UDP ? "udp" : "tcp", "host", t->host,
			"port", (int)t->port, "allowed", allowed, "rule", number_or_null(rule),
			"why", why, "addresses", addresses, "warnings", t->warnings));
	json_decref(t->warnings);
	free(t);
}

static void on_addresses(void *user, int err, const struct mt_addr *addrs, size_t count)
{
	struct test *t = user;
	json_t *list = json_array();
	bool allowed = false;
	char message[MT_WHY_MAX];

	if (count == 0) {
		(void)snprintf(message, sizeof(message),
			"'%s' cannot be looked up: %s; no rule refuses the name itself", t->host,
			mt_strerror(err));
		mt_reply_failure(t->reply, err, message, "mytunnelctl access list");
		json_decref(list);
		json_decref(t->warnings);
		free(t);
		return;
	}
	for (size_t i = 0; i < count && list != NULL; i++) {
		if (json_array_append_new(list, address_json(t, &addrs[i], &allowed)) != 0) {
			json_decref(list);
			list = NULL;
		}
	}
	answer(t, allowed, MT_RULES_NONE, "", list);
}

/* True when the name itself is refused, and the answer given. */
static bool answer_by_name(struct test *t)
{
	const struct mt_access_request request = request_of(t);
	char text[MT_RULE_TEXT_MAX + 32];
	char why[WHY_TEXT_MAX];
	int rule = MT_RULES_NONE;

	if (mt_access_check_name(t->appliance->snapshot, &request, &rule) == 0) {
		return false;
	}
	rule_text(t->appliance->snapshot, rule, text, sizeof(text));
	(void)snprintf(why, sizeof(why), "%s; the name is not looked up", text);
	answer(t, false, rule, why, json_array());
	return true;
}

/* Fills in the client, with a warning when it cannot connect at all. */
static int take_client(struct test *t, const char *name, char *why, size_t why_cap)
{
	struct mt_store_client client;
	char warning[MT_NAME_MAX + 64];
	int rv;

	if (strcmp(name, "-") == 0) {
		return 0; /* without identity */
	}
	rv = mt_store_client_get(t->appliance->store, name, &client);
	if (rv != 0) {
		(void)snprintf(why, why_cap, "%s", mt_store_error(t->appliance->store));
		return rv;
	}
	memcpy(t->client, client.name, sizeof(t->client));
	if (client.revoked_at != 0 || client.disabled_at != 0) {
		(void)snprintf(warning, sizeof(warning), "client '%s' is %s: it cannot connect",
			client.name, client.revoked_at != 0 ? "revoked" : "disabled");
		rv = json_array_append_new(t->warnings, json_string(warning)) == 0 ? 0 : -ENOMEM;
	}
	return rv;
}

static int take_arguments(
	struct test *t, const json_t *args, struct mt_addr *literal, char *why, size_t why_cap)
{
	const char *client = json_string_value(json_object_get(args, "client"));
	const char *protocol = json_string_value(json_object_get(args, "protocol"));
	const char *host = json_string_value(json_object_get(args, "host"));
	json_int_t port = json_integer_value(json_object_get(args, "port"));
	enum mt_host_kind kind;

	if (client == NULL || protocol == NULL || host == NULL ||
		(strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)) {
		(void)snprintf(why, why_cap, "a client, tcp or udp, a host and a port are needed");
		return MT_E_MALFORMED;
	}
	t->host_len = strlen(host);
	if (port < 1 || port > UINT16_MAX || t->host_len >= sizeof(t->host) ||
		mt_host_parse(&kind, literal, host, t->host_len, (uint16_t)port) != 0) {
		(void)snprintf(why, why_cap, "this host or port cannot be a target");
		return MT_E_MALFORMED;
	}
	memcpy(t->host, host, t->host_len + 1);
	t->named = kind == MT_HOST_NAME;
	t->port = (uint16_t)port;
	t->protocol = strcmp(protocol, "udp") == 0 ? MT_RULE_UDP : MT_RULE_TCP;
	return take_client(t, client, why, why_cap);
}

void mt_verb_access_test(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	struct test *t = calloc(1, sizeof(*t));
	json_t *warnings = json_array();
	struct mt_addr literal = {.len = 0};
	char why[MT_WHY_MAX] = "out of memory";
	int rv = -ENOMEM;

	if (t != NULL && warnings != NULL) {
		*t = (struct test){.appliance = a, .reply = reply, .warnings = warnings};
		rv = take_arguments(t, args, &literal, why, sizeof(why));
	}
	if (rv == 0 && t->named && a->lookup == NULL) {
		rv = mt_lookup_new(&a->lookup, a->loop);
		(void)snprintf(why, sizeof(why), "names cannot be looked up: %s", mt_strerror(rv));
	}
	if (rv != 0) {
		mt_reply_failure(reply, rv, why,
			rv == MT_E_NOT_FOUND ? "mytunnelctl client list"
					     : "mytunnelctl access test --help");
		json_decref(warnings);
		free(t);
		return;
	}
	if (!t->named) {
		on_addresses(t, 0, &literal, 1);
	} else if (!answer_by_name(t)) {
		mt_lookup_start(a->lookup, t->host, t->host_len, on_addresses, t);
	}
}
