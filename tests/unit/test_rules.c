/* links: daemon/rules.c proto/wire/rule.c proto/wire/net.c proto/wire/addr.c proto/wire/profile.c
 * proto/wire/encode.c proto/wire/bytes.c
 */
#include "daemon/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#define MANY 1500

static struct mt_rule parse(const char *text)
{
	struct mt_rule rule;
	char why[256];

	assert_int_equal(mt_rule_parse(&rule, text, why, sizeof(why)), 0);
	return rule;
}

static struct mt_addr addr_of(const char *text)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, text), 0);
	return addr;
}

/* The rule that decides; its sign says nothing, `*allow` does. */
static int ask(const struct mt_rules *rules, const char *client, enum mt_rule_protocol protocol,
	const char *name, const char *address, bool *allow)
{
	struct mt_addr addr = addr_of(address);
	const struct mt_rules_query q = {.client = client,
		.protocol = protocol,
		.name = name,
		.name_len = name != NULL ? strlen(name) : 0,
		.port = mt_addr_port(&addr),
		.addr = &addr};
	struct mt_rules_verdict v;

	mt_rules_decide(rules, &q, &v);
	*allow = v.allow;
	return v.rule;
}

static void test_decide_without_rules(void **state)
{
	struct mt_rules *rules = NULL;
	size_t count = 1;
	bool allow;

	(void)state;
	assert_int_equal(ask(NULL, "", MT_RULE_TCP, "x.example", "8.8.8.8:53", &allow), -1);
	assert_int_equal(mt_rules_new(&rules, NULL, 0), 0);
	assert_false(mt_rules_keep(rules));
	mt_rules_set_keep(rules);
	assert_int_equal(ask(rules, "", MT_RULE_TCP, "x.example", "8.8.8.8:53", &allow), -1);
	assert_true(mt_rules_keep(rules));
	(void)mt_rules_list(rules, &count);
	assert_int_equal(count, 0);
	mt_rules_unref(rules);
}

static void test_decide_selectors(void **state)
{
	const struct mt_rule list[] = {
		parse("deny client guest tcp *.example.com port 25"),
		parse("allow www.example.com"),
		parse("deny udp net 8.8.8.0/24 port 50-60"),
		parse("allow client admin"),
		parse("deny net 2001:db8::/32"),
		parse("deny *"),
	};
	static const struct {
		const char *client;
		enum mt_rule_protocol protocol;
		const char *name;
		const char *addr;
		int rule;
	} rows[] = {
		{"guest", MT_RULE_TCP, "mail.example.com", "8.8.8.8:25", 0},
		{"guest", MT_RULE_TCP, "a.b.MAIL.Example.com.", "8.8.8.8:25", 0},
		{"guest", MT_RULE_TCP, "www.example.com", "8.8.8.8:25", 0},
		{"guest", MT_RULE_TCP, "www.example.com", "8.8.8.8:26", 1},
		{"guest", MT_RULE_UDP, "www.example.com", "8.8.8.8:25", 1},
		{"other", MT_RULE_TCP, "WWW.example.com", "8.8.8.8:25", 1},
		{"guest", MT_RULE_TCP, "example.com", "8.8.8.8:25", 5},
		{"guest", MT_RULE_TCP, "notexample.com", "8.8.8.8:25", 5},
		{"guest", MT_RULE_UDP, NULL, "8.8.8.8:50", 2},
		{"guest", MT_RULE_UDP, NULL, "8.8.8.8:60", 2},
		{"guest", MT_RULE_UDP, NULL, "8.8.8.8:61", -1},
		{"guest", MT_RULE_UDP, NULL, "8.8.9.8:50", -1},
		{"guest", MT_RULE_TCP, NULL, "8.8.8.8:50", -1},
		{"admin", MT_RULE_TCP, NULL, "8.8.8.8:50", 3},
		{"admin", MT_RULE_TCP, "x.org", "8.8.8.8:50", 3},
		{"Admin", MT_RULE_TCP, "x.org", "8.8.8.8:50", 5},
		{"", MT_RULE_TCP, NULL, "[2001:db8:ffff::1]:7", 4},
		{"", MT_RULE_TCP, NULL, "[2001:db9::1]:7", -1},
		{"", MT_RULE_TCP, "localhost", "127.0.0.1:7", 5},
	};
	struct mt_rules *rules = NULL;
	bool allow;

	(void)state;
	assert_int_equal(mt_rules_new(&rules, list, 6), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int rule = ask(rules, rows[i].client, rows[i].protocol, rows[i].name, rows[i].addr,
			&allow);

		if (rule != rows[i].rule || (rule >= 0 && allow != list[rule].allow)) {
			fail_msg("row %zu: rule %d", i, rule);
		}
	}
	mt_rules_unref(rules);
}

static bool matches_host(const struct mt_rule *rule, const char *name)
{
	size_t len = name != NULL ? strlen(name) : 0;
	size_t tail = strlen(rule->host);

	if (rule->host[0] == '\0') {
		return true;
	}
	if (name == NULL) {
		return false;
	}
	if (rule->host[0] != '*') {
		return strcasecmp(rule->host, name) == 0;
	}
	tail--; /* ".example.com" */
	return tail == 0 || (len > tail && strcasecmp(name + len - tail, rule->host + 1) == 0);
}

/* What the compiled rules must say, one rule after the other. */
static int decide_slowly(const struct mt_rule *list, size_t count, const struct mt_rules_query *q)
{
	for (size_t i = 0; i < count; i++) {
		const struct mt_rule *r = &list[i];

		if ((r->client[0] == '\0' || strcmp(r->client, q->client) == 0) &&
			(r->protocol == MT_RULE_ANY || r->protocol == q->protocol) &&
			matches_host(r, q->name) &&
			(r->net.addr.len == 0 || mt_net_contains(&r->net, q->addr)) &&
			(r->port_first == 0 ||
				(q->port >= r->port_first && q->port <= r->port_last)) &&
			(!r->allow || q->guard_bits == 0 ||
				(r->net.addr.len != 0 && r->net.bits >= q->guard_bits))) {
			return (int)i;
		}
	}
	return MT_RULES_NONE;
}

static unsigned pick(unsigned below)
{
	return (unsigned)rand() % below;
}

static void random_rule(char *text, size_t cap)
{
	static const char *const clients[] = {"", "", "", " client a", " client b", " client c"};
	static const char *const protocols[] = {"", "", " tcp", " udp"};
	char host[64] = "";
	char net[64] = "";
	char port[32] = "";
	unsigned first = 1 + pick(65535);

	switch (pick(5)) {
	case 0: (void)snprintf(host, sizeof(host), " n%u.d%u.example", pick(9), pick(9)); break;
	case 1: (void)snprintf(host, sizeof(host), " *.d%u.example", pick(9)); break;
	case 2:
		(void)snprintf(host, sizeof(host), pick(40) == 0 ? " *" : " *.n1.d3.example");
		break;
	default: break;
	}
	switch (pick(5)) {
	case 0: (void)snprintf(net, sizeof(net), " net %u.0.0.0/8", 1 + pick(60)); break;
	case 1: (void)snprintf(net, sizeof(net), " net 8.%u.%u.0/24", pick(4), pick(4)); break;
	case 2: (void)snprintf(net, sizeof(net), " net 2a0%u::/%u", pick(9), 16 + pick(113)); break;
	case 3: (void)snprintf(net, sizeof(net), " net 8.1.1.%u", pick(256)); break;
	default: break;
	}
	if (pick(3) > 0) {
		(void)snprintf(
			port, sizeof(port), " port %u-%u", first, first + pick(65536 - first));
	}
	(void)snprintf(text, cap, "%s%s%s%s%s%s", pick(2) ? "allow" : "deny", clients[pick(6)],
		protocols[pick(4)], host, net, port);
}

/* Against the plain definition, with rules and questions that often meet. */
static void test_decide_like_a_list(void **state)
{
	static struct mt_rule list[MANY];
	static const char *const clients[] = {"", "a", "b", "c", "d"};
	static const unsigned guards[] = {0, 0, 8, 24, 32};
	struct mt_rules *rules = NULL;
	size_t count = 0;
	char text[256];

	(void)state;
	srand(7);
	while (count < MANY) {
		random_rule(text, sizeof(text));
		list[count] = parse(text);
		/* Wide rules would answer every question at once. */
		if (list[count].host[0] != '\0' || list[count].net.addr.len != 0) {
			count++;
		}
	}
	for (size_t used = 1; used <= MANY; used = used < 70 ? used + 3 : used + 477) {
		assert_int_equal(mt_rules_new(&rules, list + MANY - used, used), 0);
		for (unsigned i = 0; i < 3000; i++) {
			char name[64];
			struct mt_addr addr;
			struct mt_rules_query q = {.client = clients[pick(5)],
				.protocol = pick(2) ? MT_RULE_TCP : MT_RULE_UDP,
				.port = (uint16_t)(1 + pick(65535)),
				.addr = &addr,
				.guard_bits = guards[pick(5)]};
			struct mt_rules_verdict v;

			(void)snprintf(name, sizeof(name), "%s%u.D%u.example",
				pick(2) ? "n" : "x.n", pick(9), pick(9));
			if (pick(3) > 0) {
				q.name = name;
				q.name_len = strlen(name);
			}
			(void)snprintf(text, sizeof(text),
				pick(4) ? "%u.%u.%u.%u:0" : "[2a0%u::%u%u%u]:0",
				pick(2) ? 8 : pick(9), pick(4), pick(4), pick(9));
			addr = addr_of(text);
			mt_rules_decide(rules, &q, &v);
			assert_int_equal(v.rule, decide_slowly(list + MANY - used, used, &q));
		}
		mt_rules_unref(rules);
	}
}

static void test_decide_limits(void **state)
{
	struct mt_rule *list = calloc(MT_RULES_MAX + 1, sizeof(*list));
	struct mt_rules *rules = NULL;
	char name[254];
	bool allow;

	(void)state;
	assert_non_null(list);
	for (size_t i = 0; i < MT_RULES_MAX + 1; i++) {
		list[i] = parse("deny client nobody");
	}
	list[MT_RULES_MAX - 1] = parse("allow *.a");
	assert_int_equal(mt_rules_new(&rules, list, MT_RULES_MAX + 1), MT_E_LIMIT);
	assert_int_equal(mt_rules_new(&rules, list, MT_RULES_MAX), 0);
	/* As many labels as a name can have. */
	for (size_t i = 0; i < sizeof(name); i++) {
		name[i] = i % 2 == 0 ? 'a' : '.';
	}
	name[253] = '\0';
	assert_int_equal(ask(rules, "x", MT_RULE_TCP, name, "8.8.8.8:1", &allow), MT_RULES_MAX - 1);
	assert_int_equal(ask(rules, "nobody", MT_RULE_TCP, name, "8.8.8.8:1", &allow), 0);
	mt_rules_unref(rules);
	free(list);
}

static void test_decide_passed_over(void **state)
{
	const struct mt_rule list[] = {parse("allow port 80"), parse("allow net 0.0.0.0/0"),
		parse("allow net 10.0.0.0/8 port 81"), parse("deny")};
	struct mt_rules *rules = NULL;
	struct mt_addr addr = addr_of("10.0.0.1:80");
	struct mt_rules_query q = {
		.client = "", .protocol = MT_RULE_TCP, .port = 80, .addr = &addr, .guard_bits = 8};
	struct mt_rules_verdict v;

	(void)state;
	assert_int_equal(mt_rules_new(&rules, list, 4), 0);
	mt_rules_decide(rules, &q, &v);
	assert_int_equal(v.rule, 3);
	assert_int_equal(v.passed_over, 0);
	q.port = 81;
	mt_rules_decide(rules, &q, &v);
	assert_int_equal(v.rule, 2);
	assert_true(v.allow);
	assert_int_equal(v.passed_over, 1);
	mt_rules_unref(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decide_without_rules),
		cmocka_unit_test(test_decide_selectors),
		cmocka_unit_test(test_decide_like_a_list),
		cmocka_unit_test(test_decide_limits),
		cmocka_unit_test(test_decide_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
