#include "tests/unit/cert_maker.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/x509.h>

static gnutls_datum_t datum_of(const char *text)
{
	union {
		const char *in;
		uint8_t *out;
	} alias = {.in = text};

	return (gnutls_datum_t){.data = alias.out, .size = (unsigned)strlen(text)};
}

static void set_names(gnutls_x509_crt_t crt, const struct cert_spec *spec)
{
	struct in_addr ip;

	if (spec->dns != NULL) {
		assert_int_equal(
			gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, spec->dns,
				(unsigned)strlen(spec->dns), GNUTLS_FSAN_APPEND),
			0);
	}
	if (spec->ip != NULL) {
		assert_int_equal(inet_pton(AF_INET, spec->ip, &ip), 1);
		assert_int_equal(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS,
					 &ip, sizeof(ip), GNUTLS_FSAN_APPEND),
			0);
	}
}

static void sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const struct cert_spec *spec)
{
	gnutls_x509_crt_t issuer;
	gnutls_x509_privkey_t issuer_key;
	gnutls_datum_t text;

	if (spec->issuer_cert == NULL) {
		assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
		return;
	}
	assert_int_equal(gnutls_x509_crt_init(&issuer), 0);
	assert_int_equal(gnutls_x509_privkey_init(&issuer_key), 0);
	text = datum_of(spec->issuer_cert);
	assert_int_equal(gnutls_x509_crt_import(issuer, &text, GNUTLS_X509_FMT_PEM), 0);
	text = datum_of(spec->issuer_key);
	assert_int_equal(gnutls_x509_privkey_import2(
				 issuer_key, &text, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN),
		0);
	assert_int_equal(gnutls_x509_crt_sign2(crt, issuer, issuer_key, GNUTLS_DIG_SHA256, 0), 0);
	gnutls_x509_privkey_deinit(issuer_key);
	gnutls_x509_crt_deinit(issuer);
}

static gnutls_x509_privkey_t subject_key(const struct cert_spec *spec)
{
	gnutls_x509_privkey_t key;
	gnutls_datum_t text;

	assert_int_equal(gnutls_x509_privkey_init(&key), 0);
	if (spec->subject_key != NULL) {
		text = datum_of(spec->subject_key);
		assert_int_equal(gnutls_x509_privkey_import2(
					 key, &text, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN),
			0);
	} else if (spec->rsa_bits > 0) {
		assert_int_equal(
			gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, spec->rsa_bits, 0), 0);
	} else {
		assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
			0);
	}
	return key;
}

void cert_make(const struct cert_spec *spec, char **cert, char **key)
{
	static const uint8_t serial[] = {0x11};
	gnutls_x509_privkey_t privkey = subject_key(spec);
	gnutls_x509_crt_t crt;
	gnutls_datum_t text = {NULL, 0};
	time_t now = time(NULL);

	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
	assert_int_equal(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)), 0);
	assert_int_equal(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0,
				 spec->common_name, (unsigned)strlen(spec->common_name)),
		0);
	assert_int_equal(gnutls_x509_crt_set_activation_time(
				 crt, spec->not_before != 0 ? spec->not_before : now - 3600),
		0);
	assert_int_equal(gnutls_x509_crt_set_expiration_time(
				 crt, spec->not_after != 0 ? spec->not_after : now + 3600),
		0);
	assert_int_equal(gnutls_x509_crt_set_key(crt, privkey), 0);
	assert_int_equal(gnutls_x509_crt_set_basic_constraints(crt, spec->is_ca ? 1 : 0, -1), 0);
	if (spec->usage != 0) {
		assert_int_equal(gnutls_x509_crt_set_key_usage(crt, spec->usage), 0);
	}
	if (spec->purpose != NULL) {
		assert_int_equal(gnutls_x509_crt_set_key_purpose_oid(crt, spec->purpose, 0), 0);
	}
	set_names(crt, spec);
	sign(crt, privkey, spec);
	assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text), 0);
	*cert = strndup((const char *)text.data, text.size);
	gnutls_free(text.data);
	assert_int_equal(gnutls_x509_privkey_export2_pkcs8(
				 privkey, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text),
		0);
	*key = strndup((const char *)text.data, text.size);
	gnutls_free(text.data);
	assert_non_null(*cert);
	assert_non_null(*key);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(privkey);
}

char *cert_join(const char *first, const char *second)
{
	char *joined = NULL;

	assert_true(asprintf(&joined, "%s%s", first, second) > 0);
	return joined;
}
