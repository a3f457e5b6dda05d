/* links: store/pki.c store/pki_check.c proto/wire/encode.c tests/unit/cert_maker.c
 * proto/quic/identity.c
 */
#include "store/pki.h"

#include "proto/wire/request.h"
#include "tests/unit/cert_maker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <gnutls/x509.h>

#define DAY_SECS 86400

static void refuse(const char *chain, const char *key, const char *expected)
{
	char why[256] = "";

	assert_true(mt_pki_check_pair(chain, key, why, sizeof(why)) < 0);
	if (strstr(why, expected) == NULL) {
		fail_msg("'%s' has no '%s'", why, expected);
	}
}

static void test_make_ca_is_authority(void **state)
{
	struct mt_cert_info info;
	char *cert = NULL;
	char *key = NULL;
	char *other_cert = NULL;
	char *other_key = NULL;
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	time_t now = time(NULL);

	(void)state;
	assert_int_equal(mt_pki_make_ca(&cert, &key), 0);
	assert_int_equal(mt_pki_make_ca(&other_cert, &other_key), 0);
	assert_string_not_equal(cert, other_cert);
	assert_non_null(strstr(key, "BEGIN PRIVATE KEY"));
	assert_int_equal(mt_pki_describe(cert, &info), 0);
	assert_int_equal(info.chain_len, 1);
	assert_string_equal(info.subject, info.issuer);
	assert_true(info.not_before <= now - 6 * DAY_SECS);
	assert_true(info.not_after >= now + 20LL * 365 * DAY_SECS);
	assert_int_equal(mt_identity_fingerprint_pem(cert, strlen(cert), fingerprint), 0);
	assert_memory_equal(info.pin, fingerprint, MT_PIN_LEN);
	free(cert);
	free(key);
	free(other_cert);
	free(other_key);
}

static void test_make_server_chain(void **state)
{
	struct mt_cert_info ca_info;
	struct mt_cert_info info;
	char why[256] = "";
	char *cert = NULL;
	char *key = NULL;
	char *chain = NULL;
	char *server_key = NULL;
	char *nothing = NULL;
	time_t now = time(NULL);

	(void)state;
	assert_int_equal(mt_pki_make_ca(&cert, &key), 0);
	assert_int_equal(mt_pki_make_server(cert, key, &chain, &server_key), 0);
	assert_int_equal(mt_pki_describe(cert, &ca_info), 0);
	assert_int_equal(mt_pki_describe(chain, &info), 0);
	assert_int_equal(info.chain_len, 2);
	assert_string_equal(info.names, MT_PINNED_NAME);
	assert_string_equal(info.issuer, ca_info.subject);
	assert_memory_equal(info.pin, ca_info.pin, MT_PIN_LEN);
	assert_string_not_equal(info.fingerprint, ca_info.fingerprint);
	assert_int_equal(strlen(info.fingerprint), 64);
	assert_true(info.not_before <= now - 6 * DAY_SECS);
	assert_int_equal(info.not_after - info.not_before, 825LL * DAY_SECS);
	if (mt_pki_check_pair(chain, server_key, why, sizeof(why)) != 0) {
		fail_msg("%s", why);
	}
	assert_true(mt_pki_make_server("junk", key, &nothing, &nothing) < 0);
	assert_true(mt_pki_make_server(cert, "junk", &nothing, &nothing) < 0);
	assert_null(nothing);
	free(cert);
	free(key);
	free(chain);
	free(server_key);
}

static void test_describe_refusals(void **state)
{
	struct mt_cert_info info;

	(void)state;
	assert_int_equal(mt_pki_describe("", &info), MT_E_MALFORMED);
	assert_int_equal(mt_pki_describe("junk", &info), MT_E_MALFORMED);
	assert_int_equal(
		mt_pki_describe(
			"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &info),
		MT_E_MALFORMED);
}

static void test_describe_names(void **state)
{
	const struct cert_spec spec = {
		.common_name = "x", .dns = "vpn.example.org", .ip = "192.0.2.7"};
	struct mt_cert_info info;
	char *cert = NULL;
	char *key = NULL;

	(void)state;
	cert_make(&spec, &cert, &key);
	assert_int_equal(mt_pki_describe(cert, &info), 0);
	assert_string_equal(info.names, "vpn.example.org, 192.0.2.7");
	assert_non_null(strstr(info.subject, "CN=x"));
	free(cert);
	free(key);
}

struct pair {
	char *cert;
	char *key;
};

static struct pair make(const struct cert_spec *spec, const struct pair *issuer)
{
	struct cert_spec with_issuer = *spec;
	struct pair pair;

	if (issuer != NULL) {
		with_issuer.issuer_cert = issuer->cert;
		with_issuer.issuer_key = issuer->key;
	}
	cert_make(&with_issuer, &pair.cert, &pair.key);
	return pair;
}

static void drop(struct pair *pair)
{
	free(pair->cert);
	free(pair->key);
}

static void test_check_pair_chain(void **state)
{
	const struct cert_spec root_spec = {.common_name = "root", .is_ca = true};
	const struct cert_spec middle_spec = {.common_name = "middle", .is_ca = true};
	const struct cert_spec leaf_spec = {.common_name = "leaf",
		.dns = "vpn.example.org",
		.purpose = GNUTLS_KP_TLS_WWW_SERVER,
		.usage = GNUTLS_KEY_DIGITAL_SIGNATURE};
	struct pair root = make(&root_spec, NULL);
	struct pair middle = make(&middle_spec, &root);
	struct pair leaf = make(&leaf_spec, &middle);
	struct pair other = make(&leaf_spec, &root);
	char *two = cert_join(leaf.cert, middle.cert);
	char *three = cert_join(two, root.cert);
	char *skipped = cert_join(leaf.cert, root.cert);
	char *turned = cert_join(middle.cert, leaf.cert);
	char *swapped = cert_join(skipped, middle.cert);
	char why[256];

	(void)state;
	assert_int_equal(mt_pki_check_pair(leaf.cert, leaf.key, why, sizeof(why)), 0);
	assert_int_equal(mt_pki_check_pair(two, leaf.key, why, sizeof(why)), 0);
	assert_int_equal(mt_pki_check_pair(three, leaf.key, why, sizeof(why)), 0);
	refuse(two, other.key, "does not belong");
	refuse(two, middle.key, "does not belong");
	refuse(skipped, leaf.key, "certificate 1 is not signed by certificate 2");
	refuse(swapped, leaf.key, "certificate 1 is not signed by certificate 2");
	refuse(turned, leaf.key, "first");
	refuse("junk", leaf.key, "chain cannot be read");
	refuse("", leaf.key, "chain cannot be read");
	refuse(two, "junk", "private key cannot be read");
	refuse(leaf.key, leaf.cert, "chain cannot be read");
	free(two);
	free(three);
	free(skipped);
	free(turned);
	free(swapped);
	drop(&root);
	drop(&middle);
	drop(&leaf);
	drop(&other);
}

static void test_check_pair_leaf(void **state)
{
	time_t now = time(NULL);
	const struct {
		struct cert_spec spec;
		const char *expected;
	} cases[] = {
		{{.common_name = "a"}, "subjectAltName"},
		{{.common_name = "b",
			 .dns = "b.example.org",
			 .not_before = now - 9 * DAY_SECS,
			 .not_after = now - DAY_SECS},
			"has expired at 20"},
		{{.common_name = "c",
			 .dns = "c.example.org",
			 .not_before = now + DAY_SECS,
			 .not_after = now + 9 * DAY_SECS},
			"not valid before 20"},
		{{.common_name = "d", .dns = "d.example.org", .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
			"serverAuth"},
		{{.common_name = "e", .dns = "e.example.org", .usage = GNUTLS_KEY_KEY_ENCIPHERMENT},
			"digitalSignature"},
		{{.common_name = "f", .dns = "f.example.org", .is_ca = true}, "authority"},
		{{.common_name = "g", .dns = "g.example.org", .rsa_bits = 1024}, "1024 bits"},
	};
	const struct cert_spec good = {.common_name = "h", .ip = "192.0.2.7", .rsa_bits = 2048};
	struct pair pair;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pair = make(&cases[i].spec, NULL);
		refuse(pair.cert, pair.key, cases[i].expected);
		drop(&pair);
	}
	pair = make(&good, NULL);
	assert_int_equal(mt_pki_check_pair(pair.cert, pair.key, why, sizeof(why)), 0);
	drop(&pair);
}

/* The issuer's name is right, its key is not. */
static void test_check_pair_forged(void **state)
{
	const struct cert_spec ca_spec = {.common_name = "root", .is_ca = true};
	const struct cert_spec leaf_spec = {.common_name = "leaf", .dns = "vpn.example.org"};
	struct pair true_ca = make(&ca_spec, NULL);
	struct pair false_ca = make(&ca_spec, NULL);
	struct pair leaf = make(&leaf_spec, &false_ca);
	char *chain = cert_join(leaf.cert, true_ca.cert);

	(void)state;
	refuse(chain, leaf.key, "certificate 1 is not signed by certificate 2");
	free(chain);
	drop(&true_ca);
	drop(&false_ca);
	drop(&leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make_ca_is_authority),
		cmocka_unit_test(test_make_server_chain),
		cmocka_unit_test(test_describe_refusals),
		cmocka_unit_test(test_describe_names),
		cmocka_unit_test(test_check_pair_chain),
		cmocka_unit_test(test_check_pair_leaf),
		cmocka_unit_test(test_check_pair_forged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
