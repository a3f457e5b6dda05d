/* links: daemon/access.c daemon/snapshot.c proto/quic/tls.c proto/quic/tls_verify.c
 * proto/quic/identity.c proto/wire/addr.c proto/wire/err.c proto/wire/encode.c
 * proto/wire/bytes.c
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

	return mt_access_check_target(s, &addr);
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
		cmocka_unit_test(test_check_identity_alerts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
