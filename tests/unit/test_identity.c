/* links: proto/quic/identity.c proto/wire/encode.c */
#include "proto/quic/identity.h"

#include "proto/wire/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

/* RFC 6979, section A.2.5: the key pair of its P-256 examples. */
static const char known_key[] = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
static const char known_x[] = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
static const char known_y[] = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

static void decode(uint8_t *out, const char *hex)
{
	assert_int_equal(mt_hex_decode(out, 32, hex, strlen(hex)), 0);
}

static void test_privkey_known_point(void **state)
{
	uint8_t key[MT_KEY_LEN];
	uint8_t want_x[32];
	uint8_t want_y[32];
	gnutls_x509_privkey_t privkey = NULL;
	gnutls_datum_t x = {NULL, 0};
	gnutls_datum_t y = {NULL, 0};

	(void)state;
	decode(key, known_key);
	decode(want_x, known_x);
	decode(want_y, known_y);
	assert_int_equal(mt_identity_privkey(key, &privkey), 0);
	assert_int_equal(gnutls_x509_privkey_export_ecc_raw(privkey, NULL, &x, &y, NULL), 0);
	assert_true(x.size >= 32 && y.size >= 32);
	assert_memory_equal(x.data + x.size - 32, want_x, 32);
	assert_memory_equal(y.data + y.size - 32, want_y, 32);
	gnutls_free(x.data);
	gnutls_free(y.data);
	gnutls_x509_privkey_deinit(privkey);
}

static void test_generate_roundtrip(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) { /* enough for scalars and coordinates with leading zeros */
		uint8_t key[MT_KEY_LEN];
		uint8_t direct[MT_FINGERPRINT_LEN];
		uint8_t from_pem[MT_FINGERPRINT_LEN];
		uint8_t of_privkey[MT_FINGERPRINT_LEN];
		size_t len = sizeof(of_privkey);
		gnutls_x509_privkey_t privkey = NULL;
		char *pem = NULL;

		assert_int_equal(mt_identity_generate(key), 0);
		assert_int_equal(mt_identity_fingerprint(key, direct), 0);
		assert_int_equal(mt_identity_public_pem(key, &pem), 0);
		assert_non_null(strstr(pem, "BEGIN PUBLIC KEY"));
		assert_int_equal(mt_identity_fingerprint_pem(pem, strlen(pem), from_pem), 0);
		assert_memory_equal(direct, from_pem, sizeof(direct));
		assert_int_equal(mt_identity_privkey(key, &privkey), 0);
		assert_int_equal(gnutls_x509_privkey_verify_params(privkey), 0);
		assert_int_equal(gnutls_x509_privkey_get_key_id(
					 privkey, GNUTLS_KEYID_USE_SHA256, of_privkey, &len),
			0);
		assert_memory_equal(direct, of_privkey, sizeof(direct));
		gnutls_x509_privkey_deinit(privkey);
		free(pem);
	}
}

static void test_fingerprint_is_sha256_of_der(void **state)
{
	uint8_t key[MT_KEY_LEN];
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	uint8_t digest[32];
	gnutls_datum_t text;
	gnutls_datum_t der = {NULL, 0};
	char *pem = NULL;

	(void)state;
	decode(key, known_key);
	assert_int_equal(mt_identity_fingerprint(key, fingerprint), 0);
	assert_int_equal(mt_identity_public_pem(key, &pem), 0);
	text.data = (unsigned char *)pem;
	text.size = (unsigned)strlen(pem);
	assert_int_equal(gnutls_pem_base64_decode2("PUBLIC KEY", &text, &der), 0);
	assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, der.data, der.size, digest), 0);
	assert_memory_equal(digest, fingerprint, 32);
	gnutls_free(der.data);
	free(pem);
}

static void test_fingerprint_bad_scalar(void **state)
{
	static const char order[] =
		"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
	uint8_t key[MT_KEY_LEN] = {0};
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	gnutls_x509_privkey_t privkey = NULL;
	gnutls_certificate_credentials_t credentials = NULL;
	char *pem = NULL;

	(void)state;
	assert_int_equal(mt_identity_fingerprint(key, fingerprint), MT_E_MALFORMED);
	assert_int_equal(mt_identity_credentials(key, &credentials), MT_E_MALFORMED);
	decode(key, order);
	assert_int_equal(mt_identity_fingerprint(key, fingerprint), MT_E_MALFORMED);
	assert_int_equal(mt_identity_public_pem(key, &pem), MT_E_MALFORMED);
	assert_int_equal(mt_identity_privkey(key, &privkey), MT_E_MALFORMED);
	memset(key, 0xff, sizeof(key));
	assert_int_equal(mt_identity_fingerprint(key, fingerprint), MT_E_MALFORMED);
	decode(key, order);
	key[31]--;
	assert_int_equal(mt_identity_fingerprint(key, fingerprint), 0);
}

static void test_fingerprint_pem_refusals(void **state)
{
	static const char *const bad[] = {
		"",
		"hello",
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"-----BEGIN PUBLIC KEY-----",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	};
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	gnutls_x509_privkey_t rsa;
	gnutls_privkey_t privkey;
	gnutls_pubkey_t pubkey;
	gnutls_datum_t text = {NULL, 0};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(mt_identity_fingerprint_pem(bad[i], strlen(bad[i]), fingerprint),
			MT_E_MALFORMED);
	}
	assert_int_equal(gnutls_x509_privkey_init(&rsa), 0);
	assert_int_equal(gnutls_x509_privkey_generate(rsa, GNUTLS_PK_RSA, 2048, 0), 0);
	assert_int_equal(gnutls_privkey_init(&privkey), 0);
	assert_int_equal(gnutls_privkey_import_x509(privkey, rsa, 0), 0);
	assert_int_equal(gnutls_pubkey_init(&pubkey), 0);
	assert_int_equal(gnutls_pubkey_import_privkey(pubkey, privkey, 0, 0), 0);
	assert_int_equal(gnutls_pubkey_export2(pubkey, GNUTLS_X509_FMT_PEM, &text), 0);
	assert_int_equal(mt_identity_fingerprint_pem((char *)text.data, text.size, fingerprint),
		MT_E_UNSUPPORTED);
	gnutls_free(text.data);
	gnutls_pubkey_deinit(pubkey);
	gnutls_privkey_deinit(privkey);
	gnutls_x509_privkey_deinit(rsa);
}

static void test_credentials_certificate(void **state)
{
	uint8_t key[MT_KEY_LEN];
	uint8_t want[MT_FINGERPRINT_LEN];
	uint8_t got[MT_FINGERPRINT_LEN];
	gnutls_certificate_credentials_t credentials = NULL;
	gnutls_x509_crt_t *chain = NULL;
	gnutls_datum_t der = {NULL, 0};
	gnutls_datum_t pem = {NULL, 0};
	unsigned count = 0;

	(void)state;
	decode(key, known_key);
	assert_int_equal(mt_identity_fingerprint(key, want), 0);
	assert_int_equal(mt_identity_credentials(key, &credentials), 0);
	assert_int_equal(gnutls_certificate_get_x509_crt(credentials, 0, &chain, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(gnutls_x509_crt_export2(chain[0], GNUTLS_X509_FMT_DER, &der), 0);
	assert_int_equal(mt_identity_fingerprint_der(&der, got), 0);
	assert_memory_equal(want, got, sizeof(want));
	assert_int_equal(mt_identity_fingerprint_client(&der, got), 0);
	assert_memory_equal(want, got, sizeof(want));
	assert_int_equal(gnutls_x509_crt_export2(chain[0], GNUTLS_X509_FMT_PEM, &pem), 0);
	assert_int_equal(mt_identity_fingerprint_pem((char *)pem.data, pem.size, got), 0);
	assert_memory_equal(want, got, sizeof(want));
	der.size -= 1;
	assert_int_equal(mt_identity_fingerprint_der(&der, got), MT_E_MALFORMED);
	gnutls_x509_crt_deinit(chain[0]);
	gnutls_free(chain);
	gnutls_free(der.data);
	gnutls_free(pem.data);
	gnutls_certificate_free_credentials(credentials);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_privkey_known_point),
		cmocka_unit_test(test_generate_roundtrip),
		cmocka_unit_test(test_fingerprint_is_sha256_of_der),
		cmocka_unit_test(test_fingerprint_bad_scalar),
		cmocka_unit_test(test_fingerprint_pem_refusals),
		cmocka_unit_test(test_credentials_certificate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
