#include "store/pki.h"

#include "proto/wire/encode.h"
#include "proto/wire/request.h"
#include "store/pki_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_SECS          ((time_t)86400)
#define BACKDATED_SECS    (DAY_SECS * 7) /* clocks of clients may be behind */
#define CA_VALID_SECS     (DAY_SECS * 365 * 30)
#define SERVER_VALID_SECS (DAY_SECS * 825)
#define SERIAL_LEN        16
#define CA_NAME           "MyTunnel appliance authority"

/* A string for free(), as GnuTLS may have an allocator of its own; `in` is wiped and freed. */
static int take_text(gnutls_datum_t *in, char **out)
{
	char *text = strndup((const char *)in->data, in->size);

	mt_wipe(in->data, in->size);
	gnutls_free(in->data);
	in->data = NULL;
	in->size = 0;
	if (text == NULL) {
		return -ENOMEM;
	}
	*out = text;
	return 0;
}

static void free_secret(char *text)
{
	if (text != NULL) {
		mt_wipe(text, strlen(text));
		free(text);
	}
}

gnutls_datum_t mt_pki_datum(const char *text)
{
	/* GnuTLS' datum has no const, but what it is given to import is only read. */
	union {
		const char *in;
		uint8_t *out;
	} alias = {.in = text};

	return (gnutls_datum_t){.data = alias.out, .size = (unsigned)strlen(text)};
}

static int make_key(gnutls_x509_privkey_t *out)
{
	gnutls_x509_privkey_t key = NULL;

	if (gnutls_x509_privkey_init(&key) != 0) {
		return MT_E_TLS;
	}
	if (gnutls_x509_privkey_generate2(key, GNUTLS_PK_ECDSA,
		    GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0, NULL, 0) != 0) {
		gnutls_x509_privkey_deinit(key);
		return MT_E_TLS;
	}
	*out = key;
	return 0;
}

static int set_common(
	gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *name, time_t valid_secs)
{
	uint8_t serial[SERIAL_LEN];
	uint8_t id[20];
	size_t id_len = sizeof(id);
	time_t start = time(NULL) - BACKDATED_SECS;

	if (gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial)) != 0) {
		return MT_E_TLS;
	}
	/* RFC 5280, section 4.1.2.2: positive, and never with leading zeros. */
	serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
	if (gnutls_x509_crt_set_version(crt, 3) != 0 ||
		gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)) != 0 ||
		gnutls_x509_crt_set_dn_by_oid(
			crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name)) != 0 ||
		gnutls_x509_crt_set_activation_time(crt, start) != 0 ||
		gnutls_x509_crt_set_expiration_time(crt, start + valid_secs) != 0 ||
		gnutls_x509_crt_set_key(crt, key) != 0 ||
		gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA1, id, &id_len) != 0 ||
		gnutls_x509_crt_set_subject_key_id(crt, id, id_len) != 0) {
		return MT_E_TLS;
	}
	return 0;
}

static int export_pair(
	gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, char **cert_pem, char **key_pem)
{
	gnutls_datum_t text = {NULL, 0};
	char *cert_text = NULL;
	char *key_text = NULL;
	int err = MT_E_TLS;

	if (gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text) != 0) {
		goto out;
	}
	err = take_text(&text, &cert_text);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_x509_privkey_export2_pkcs8(
		    key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text) != 0) {
		goto out;
	}
	err = take_text(&text, &key_text);
	if (err != 0) {
		goto out;
	}
	*cert_pem = cert_text;
	*key_pem = key_text;
	cert_text = NULL;
	key_text = NULL;
out:
	free_secret(key_text);
	free(cert_text);
	return err;
}

int mt_pki_make_ca(char **cert_pem, char **key_pem)
{
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t crt = NULL;
	int err;

	err = make_key(&key);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_x509_crt_init(&crt) != 0) {
		goto out;
	}
	if (set_common(crt, key, CA_NAME, CA_VALID_SECS) != 0 ||
		gnutls_x509_crt_set_basic_constraints(crt, 1, 0) != 0 ||
		gnutls_x509_crt_set_key_usage(
			crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN) != 0 ||
		gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) != 0) {
		goto out;
	}
	err = export_pair(crt, key, cert_pem, key_pem);
out:
	if (crt != NULL) {
		gnutls_x509_crt_deinit(crt);
	}
	if (key != NULL) {
		gnutls_x509_privkey_deinit(key);
	}
	return err;
}

static int import_pair(const char *cert_pem, const char *key_pem, gnutls_x509_crt_t *crt,
	gnutls_x509_privkey_t *key)
{
	gnutls_datum_t cert_text = mt_pki_datum(cert_pem);
	gnutls_datum_t key_text = mt_pki_datum(key_pem);

	if (gnutls_x509_crt_init(crt) != 0) {
		*crt = NULL;
		return MT_E_TLS;
	}
	if (gnutls_x509_privkey_init(key) != 0) {
		*key = NULL;
		return MT_E_TLS;
	}
	if (gnutls_x509_crt_import(*crt, &cert_text, GNUTLS_X509_FMT_PEM) != 0 ||
		gnutls_x509_privkey_import2(
			*key, &key_text, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN) != 0) {
		return MT_E_MALFORMED;
	}
	return 0;
}

static int sign_server(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, gnutls_x509_crt_t ca,
	gnutls_x509_privkey_t ca_key)
{
	uint8_t ca_id[64];
	size_t ca_id_len = sizeof(ca_id);

	if (set_common(crt, key, MT_PINNED_NAME, SERVER_VALID_SECS) != 0 ||
		gnutls_x509_crt_set_basic_constraints(crt, 0, -1) != 0 ||
		gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE) != 0 ||
		gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0) != 0 ||
		gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, MT_PINNED_NAME,
			sizeof(MT_PINNED_NAME) - 1, GNUTLS_FSAN_SET) != 0 ||
		gnutls_x509_crt_get_subject_key_id(ca, ca_id, &ca_id_len, NULL) != 0 ||
		gnutls_x509_crt_set_authority_key_id(crt, ca_id, ca_id_len) != 0 ||
		gnutls_x509_crt_sign2(crt, ca, ca_key, GNUTLS_DIG_SHA256, 0) != 0) {
		return MT_E_TLS;
	}
	return 0;
}

int mt_pki_make_server(
	const char *ca_cert_pem, const char *ca_key_pem, char **chain_pem, char **key_pem)
{
	gnutls_x509_privkey_t ca_key = NULL;
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t ca = NULL;
	gnutls_x509_crt_t crt = NULL;
	char *cert_text = NULL;
	char *key_text = NULL;
	char *chain = NULL;
	int err;

	err = import_pair(ca_cert_pem, ca_key_pem, &ca, &ca_key);
	if (err != 0) {
		goto out;
	}
	err = make_key(&key);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_x509_crt_init(&crt) != 0 || sign_server(crt, key, ca, ca_key) != 0) {
		goto out;
	}
	err = export_pair(crt, key, &cert_text, &key_text);
	if (err != 0) {
		goto out;
	}
	if (asprintf(&chain, "%s%s", cert_text, ca_cert_pem) < 0) {
		err = -ENOMEM;
		goto out;
	}
	*chain_pem = chain;
	*key_pem = key_text;
	key_text = NULL;
out:
	free_secret(key_text);
	free(cert_text);
	if (crt != NULL) {
		gnutls_x509_crt_deinit(crt);
	}
	if (key != NULL) {
		gnutls_x509_privkey_deinit(key);
	}
	if (ca_key != NULL) {
		gnutls_x509_privkey_deinit(ca_key);
	}
	if (ca != NULL) {
		gnutls_x509_crt_deinit(ca);
	}
	return err;
}
