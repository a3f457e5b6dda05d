/* links: daemon/access.c daemon/rules.c daemon/snapshot.c daemon/account.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/quic/identity.c proto/wire/addr.c proto/wire/net.c
 * proto/wire/rule.c proto/wire/profile.c proto/wire/err.c proto/wire/encode.c proto/wire/bytes.c
 */
#include "daemon/access.h"

#include <gnutls/gnutls.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct mt_addr addr_of(const char *text)
{
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, text), 0);
	return addr;
}

static int judge(const struct mt_snapshot *s, const char *text)
{
	struct mt_addr addr = addr_of(text);
	const struct mt_access_request request = {
		.client = "guest", .protocol = MT_RULE_TCP, .port = mt_addr_port(&addr)};

	return mt_access_check_target(s, &request, &addr);
}

static struct mt_rules *rules_of(const char *const *texts, size_t count)
{
	struct mt_rule list[16];
	struct mt_rules *rules = NULL;
	char why[256];

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(mt_rule_parse(&list[i], texts[i], why, sizeof(why)), 0);
	}
	assert_int_equal(mt_rules_new(&rules, list, count), 0);
	return rules;
}

static int judge_name(const struct mt_snapshot *s, const char *name, const char *text)
{
	struct mt_addr addr = addr_of(text);
	const struct mt_access_request request = {.client = "guest",
		.protocol = MT_RULE_TCP,
		.name = name,
		.name_len = strlen(name),
		.port = mt_addr_port(&addr)};

	return mt_access_check_target(s, &request, &addr);
}

static void test_check_target_by_default(void **state)
{
	static const char *const refused[] = {"127.0.0.1:80", "10.1.2.3:80", "172.16.0.1:80",
		"192.168.1.1:80", "100.64.0.1:80", "169.254.1.1:80", "0.0.0.0:80", "224.0.0.1:80",
		"255.255.255.255:80", "198.18.0.1:80", "192.0.0.8:80", "[::1]:80", "[::]:80",
		"[fe80::1]:80", "[fc00::1]:80", "[fec0::1]:80", "[ff02::1]:80",
		"[::ffff:127.0.0.1]:80", "[::ffff:8.8.8.8]:80", "[64:ff9b::8.8.8.8]:80",
		"[2002:7f00:1::]:80", "[2001::1]:80", "203.0.113.7:80", "[2a00::7]:80"};
	struct mt_addr own[] = {addr_of("203.0.113.7:0"), addr_of("[2a00::7]:0")};
	const struct mt_snapshot s = {.host_addrs = own, .host_addr_count = 2};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(judge(&s, refused[i]), MT_E_DENIED);
	}
	assert_int_equal(judge(&s, "8.8.8.8:53"), 0);
	assert_int_equal(judge(&s, "203.0.113.8:80"), 0);
	assert_int_equal(judge(&s, "[2a00::8]:80"), 0);
}

static void test_check_target_allow_private(void **state)
{
	struct mt_addr own[] = {addr_of("203.0.113.7:0")};
	const struct mt_snapshot s = {
		.allow_private = true, .host_addrs = own, .host_addr_count = 1};

	(void)state;
	assert_int_equal(judge(&s, "127.0.0.1:80"), 0);
	assert_int_equal(judge(&s, "10.1.2.3:80"), 0);
	assert_int_equal(judge(&s, "[::1]:80"), 0);
	assert_int_equal(judge(&s, "[fc00::1]:80"), 0);
	assert_int_equal(judge(&s, "203.0.113.7:80"), 0);
	/* These need a rule of their own. */
	assert_int_equal(judge(&s, "169.254.1.1:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "0.0.0.0:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "224.0.0.1:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "[fe80::1]:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "[::ffff:127.0.0.1]:80"), MT_E_DENIED);
}

/* A rule opens a closed range only by a network inside it. */
static void test_check_target_opened_by_a_network(void **state)
{
	static const char *const texts[] = {"allow tcp port 443", "allow net 0.0.0.0/0 port 80",
		"allow net ::/0", "allow net 10.1.0.0/16 port 22-443", "allow net 169.254.7.0/24",
		"allow net 203.0.113.0/24", "allow net 2a00::7", "allow net 127.0.0.0/8 port 53",
		"allow net ::ffff:10.0.0.0/104"};
	struct mt_addr own[] = {addr_of("203.0.113.7:0"), addr_of("[2a00::7]:0")};
	struct mt_snapshot s = {.host_addrs = own, .host_addr_count = 2};

	(void)state;
	s.rules = rules_of(texts, sizeof(texts) / sizeof(texts[0]));
	assert_int_equal(judge(&s, "10.1.2.3:22"), 0);
	assert_int_equal(judge(&s, "10.1.2.3:443"), 0); /* rule 1 is passed over */
	assert_int_equal(judge(&s, "10.1.2.3:21"), MT_E_DENIED);
	assert_int_equal(judge(&s, "10.2.2.3:22"), MT_E_DENIED);
	assert_int_equal(judge(&s, "10.2.2.3:80"), MT_E_DENIED); /* 0.0.0.0/0 names no range */
	assert_int_equal(judge(&s, "169.254.7.1:9"), 0);
	assert_int_equal(judge(&s, "169.254.169.254:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "127.0.0.1:53"), 0);
	assert_int_equal(judge(&s, "127.0.0.1:443"), MT_E_DENIED);
	assert_int_equal(judge(&s, "[::1]:9"), MT_E_DENIED);
	assert_int_equal(judge(&s, "[fe80::1]:9"), MT_E_DENIED);
	assert_int_equal(judge(&s, "203.0.113.7:9"), MT_E_DENIED); /* the host itself */
	assert_int_equal(judge(&s, "203.0.113.8:9"), 0);
	assert_int_equal(judge(&s, "[2a00::7]:9"), 0);
	assert_int_equal(judge(&s, "[::ffff:10.0.0.1]:9"), 0);
	assert_int_equal(judge(&s, "[::ffff:127.0.0.1]:9"), MT_E_DENIED);
	assert_int_equal(judge(&s, "8.8.8.8:9"), 0);
	mt_rules_unref(s.rules);
}

/* Whoever owns a name chooses its addresses. */
static void test_check_target_by_name(void **state)
{
	static const char *const texts[] = {"allow *.corp.example",
		"allow a.example net 10.0.0.0/8", "deny net 192.168.0.0/16", "deny *.bad.example"};
	struct mt_snapshot s = {.host_addr_count = 0};

	(void)state;
	s.rules = rules_of(texts, sizeof(texts) / sizeof(texts[0]));
	assert_int_equal(judge_name(&s, "x.corp.example", "8.8.8.8:80"), 0);
	assert_int_equal(judge_name(&s, "x.corp.example", "10.0.0.1:80"), MT_E_DENIED);
	assert_int_equal(judge_name(&s, "a.example", "10.0.0.1:80"), 0);
	assert_int_equal(judge_name(&s, "b.example", "10.0.0.1:80"), MT_E_DENIED);
	assert_int_equal(judge(&s, "10.0.0.1:80"), MT_E_DENIED);
	assert_int_equal(judge_name(&s, "x.bad.example", "8.8.8.8:80"), MT_E_DENIED);
	assert_int_equal(judge_name(&s, "bad.example", "8.8.8.8:80"), 0);
	s.allow_private = true;
	assert_int_equal(judge_name(&s, "x.corp.example", "192.168.0.1:80"), 0);
	assert_int_equal(judge_name(&s, "c.example", "192.168.0.1:80"), MT_E_DENIED);
	assert_int_equal(judge_name(&s, "c.example", "10.0.0.1:80"), 0);
	mt_rules_unref(s.rules);
}

static void test_judge_reasons(void **state)
{
	static const char *const texts[] = {
		"deny client other", "allow port 443", "deny net 8.8.4.0/24"};
	struct mt_addr own[] = {addr_of("203.0.113.7:0")};
	struct mt_snapshot s = {.host_addrs = own, .host_addr_count = 1};
	const struct mt_access_request request = {
		.client = "guest", .protocol = MT_RULE_UDP, .port = 443};
	struct mt_access_verdict v;
	struct mt_addr addr = addr_of("10.0.0.1:443");

	(void)state;
	s.rules = rules_of(texts, sizeof(texts) / sizeof(texts[0]));
	mt_access_judge(&s, &request, &addr, &v);
	assert_false(v.allowed);
	assert_int_equal(v.reason, MT_ACCESS_PRIVATE);
	assert_int_equal(v.rule, MT_RULES_NONE);
	assert_int_equal(v.passed_over, 1);
	assert_int_equal(v.range_bits, 8);
	addr = addr_of("203.0.113.7:443");
	mt_access_judge(&s, &request, &addr, &v);
	assert_int_equal(v.reason, MT_ACCESS_OWN);
	assert_int_equal(v.range_bits, 32);
	addr = addr_of("8.8.4.4:443");
	mt_access_judge(&s, &request, &addr, &v);
	assert_true(v.allowed);
	assert_int_equal(v.reason, MT_ACCESS_RULE);
	assert_int_equal(v.rule, 1);
	addr.len = 0;
	mt_access_judge(&s, &request, &addr, &v);
	assert_false(v.allowed);
	mt_rules_unref(s.rules);
}

/* Only what no address can change is decided before the look-up. */
static void test_check_name(void **state)
{
	static const char *const texts[] = {"deny net 10.0.0.0/8", "deny *.ads.example",
		"allow www.example net 8.8.8.0/24", "allow a.b.example", "deny *.b.example",
		"deny www.example port 25"};
	struct mt_snapshot s = {.host_addr_count = 0};
	struct mt_access_request request = {
		.client = "guest", .protocol = MT_RULE_TCP, .name = "x.ADS.example.", .port = 25};
	int rule = -2;

	(void)state;
	s.rules = rules_of(texts, sizeof(texts) / sizeof(texts[0]));
	request.name_len = strlen(request.name);
	assert_int_equal(mt_access_check_name(&s, &request, &rule), MT_E_DENIED);
	assert_int_equal(rule, 1);
	request.name = "www.example";
	request.name_len = strlen(request.name);
	assert_int_equal(mt_access_check_name(&s, &request, &rule), 0);
	request.name = "a.b.example";
	request.name_len = strlen(request.name);
	assert_int_equal(mt_access_check_name(&s, &request, &rule), 0);
	request.name = "c.b.example";
	assert_int_equal(mt_access_check_name(&s, &request, &rule), MT_E_DENIED);
	assert_int_equal(rule, 4);
	mt_rules_unref(s.rules);
}

static void test_check_identity_alerts(void **state)
{
	struct mt_snapshot_client clients[3];
	struct mt_snapshot s = {.require_identity = true, .clients = clients, .client_count = 3};
	uint8_t fingerprint[MT_FINGERPRINT_LEN];

	(void)state;
	memset(clients, 0, sizeof(clients));
	for (unsigned i = 0; i < 3; i++) {
		memset(clients[i].fingerprint, (int)(10 * (i + 1)), MT_FINGERPRINT_LEN);
	}
	clients[1].revoked = true;
	memset(fingerprint, 10, sizeof(fingerprint));
	assert_int_equal(mt_access_check_identity(&s, fingerprint), 0);
	memset(fingerprint, 30, sizeof(fingerprint));
	assert_int_equal(mt_access_check_identity(&s, fingerprint), 0);
	memset(fingerprint, 20, sizeof(fingerprint));
	assert_int_equal(mt_access_check_identity(&s, fingerprint), GNUTLS_A_CERTIFICATE_REVOKED);
	memset(fingerprint, 21, sizeof(fingerprint));
	assert_int_equal(mt_access_check_identity(&s, fingerprint), GNUTLS_A_ACCESS_DENIED);
	assert_int_equal(mt_access_check_identity(&s, NULL), GNUTLS_A_CERTIFICATE_REQUIRED);
	s.require_identity = false;
	assert_int_equal(mt_access_check_identity(&s, NULL), 0);
	assert_int_equal(mt_access_check_identity(&s, fingerprint), GNUTLS_A_ACCESS_DENIED);
	s.client_count = 0;
	assert_int_equal(mt_access_check_identity(&s, fingerprint), GNUTLS_A_ACCESS_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_target_by_default),
		cmocka_unit_test(test_check_target_allow_private),
		cmocka_unit_test(test_check_target_opened_by_a_network),
		cmocka_unit_test(test_check_target_by_name),
		cmocka_unit_test(test_judge_reasons),
		cmocka_unit_test(test_check_name),
		cmocka_unit_test(test_check_identity_alerts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
