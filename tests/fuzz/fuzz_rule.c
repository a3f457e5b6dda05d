/* links: proto/wire/rule.c proto/wire/net.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c daemon/rules.c
 */
#include "proto/wire/rule.h"

#include "daemon/rules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the compiled rule says of a question must be what its selectors say. */
static void check_decision(const struct mt_rule *rule, const char *name, size_t len)
{
	const struct mt_addr *addr = &rule->net.addr;
	struct mt_addr other;
	struct mt_rules *rules = NULL;
	struct mt_rules_verdict v;
	struct mt_rules_query q = {.client = rule->client,
		.protocol = rule->protocol == MT_RULE_UDP ? MT_RULE_UDP : MT_RULE_TCP,
		.name = name,
		.name_len = len,
		.port = rule->port_first != 0 ? rule->port_first : 7};

	if (addr->len == 0) {
		assert(mt_addr_parse(&other, "192.0.2.1:0") == 0);
		addr = &other;
	}
	q.addr = addr;
	assert(mt_rules_new(&rules, rule, 1) == 0);
	mt_rules_decide(rules, &q, &v); /* any bytes as a name must only not crash */
	if (rule->host[0] == '\0') {
		assert(v.rule == 0);
	} else if (rule->host[0] != '*') {
		q.name = rule->host;
		q.name_len = strlen(rule->host);
		mt_rules_decide(rules, &q, &v);
		assert(v.rule == 0 && v.allow == rule->allow);
	}
	mt_rules_unref(rules);
}

/* What is accepted is printed in a form that gives the same rule again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mt_rule rule;
	struct mt_rule again;
	char buf[MT_RULE_TEXT_MAX];
	char why[256] = "";
	char *text = malloc(size + 1);

	assert(text != NULL);
	if (size > 0) {
		memcpy(text, data, size);
	}
	text[size] = '\0';
	if (mt_rule_parse(&rule, text, why, sizeof(why)) == 0) {
		assert(why[0] == '\0');
		mt_rule_format(&rule, buf, sizeof(buf));
		assert(mt_rule_parse(&again, buf, why, sizeof(why)) == 0);
		assert(mt_rule_equal(&rule, &again));
		check_decision(&rule, text, strlen(text));
	} else {
		assert(why[0] != '\0');
	}
	free(text);
	return 0;
}
