#include "proto/quic/identity.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <gmp.h>
#include <gnutls/x509.h>
#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecc.h>
#include <stdlib.h>
#include <string.h>

/* 2020-01-01: the dates of client certificates mean nothing, they only have to be there. */
#define NOT_BEFORE      ((time_t)1577836800)
#define NO_EXPIRY       ((time_t)-1) /* RFC 5280, section 4.1.2.5: 99991231235959Z */
#define COORDINATE_LEN  32
#define CERTIFICATE_TAG "-----BEGIN CERTIFICATE-----"
#define PUBLIC_KEY_TAG  "-----BEGIN PUBLIC KEY-----"

struct point {
	uint8_t x[COORDINATE_LEN];
	uint8_t y[COORDINATE_LEN];
};

/* GnuTLS imports a private key only together with its public point and has no call that computes
 * one, so nettle, its own back end, does.
 */
static int public_point(const uint8_t key[MT_KEY_LEN], struct point *out)
{
	const struct ecc_curve *curve = nettle_get_secp_256r1();
	struct ecc_scalar scalar;
	struct ecc_point point;
	mpz_t k;
	mpz_t x;
	mpz_t y;
	int err = MT_E_MALFORMED;

	ecc_scalar_init(&scalar, curve);
	ecc_point_init(&point, curve);
	nettle_mpz_init_set_str_256_u(k, MT_KEY_LEN, key);
	mpz_init(x);
	mpz_init(y);
	if (ecc_scalar_set(&scalar, k)) { /* refuses 0 and what is not below the group's order */
		ecc_point_mul_g(&point, &scalar);
		ecc_point_get(&point, x, y);
		nettle_mpz_get_str_256(COORDINATE_LEN, out->x, x);
		nettle_mpz_get_str_256(COORDINATE_LEN, out->y, y);
		err = 0;
	}

	if (mpz_size(k) > 0) {
		size_t limbs = mpz_size(k);

		mt_wipe(mpz_limbs_modify(k, (mp_size_t)limbs), limbs * sizeof(mp_limb_t));
	}
	mt_wipe(scalar.p, (size_t)ecc_size(curve) * sizeof(mp_limb_t));
	mpz_clear(y);
	mpz_clear(x);
	mpz_clear(k);
	ecc_point_clear(&point);
	ecc_scalar_clear(&scalar);
	return err;
}

static gnutls_datum_t datum_of(const uint8_t *data, size_t len)
{
	/* GnuTLS' datum has no const, but what it is given to import is only read. */
	union {
		const uint8_t *in;
		uint8_t *out;
	} alias = {.in = data};

	return (gnutls_datum_t){.data = alias.out, .size = (unsigned int)len};
}

static int pubkey_of_key(const uint8_t key[MT_KEY_LEN], gnutls_pubkey_t *out)
{
	gnutls_pubkey_t pubkey = NULL;
	struct point point;
	gnutls_datum_t x;
	gnutls_datum_t y;
	int err;

	err = public_point(key, &point);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_pubkey_init(&pubkey) != 0) {
		goto out;
	}
	x = datum_of(point.x, sizeof(point.x));
	y = datum_of(point.y, sizeof(point.y));
	if (gnutls_pubkey_import_ecc_raw(pubkey, GNUTLS_ECC_CURVE_SECP256R1, &x, &y) != 0) {
		goto out;
	}
	*out = pubkey;
	pubkey = NULL;
	err = 0;
out:
	if (pubkey != NULL) {
		gnutls_pubkey_deinit(pubkey);
	}
	return err;
}

static int fingerprint_of_pubkey(gnutls_pubkey_t pubkey, uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	uint8_t id[MT_FINGERPRINT_LEN];
	size_t len = sizeof(id);

	if (gnutls_pubkey_get_key_id(pubkey, GNUTLS_KEYID_USE_SHA256, id, &len) != 0 ||
		len != sizeof(id)) {
		return MT_E_TLS;
	}
	memcpy(fingerprint, id, sizeof(id));
	return 0;
}

static int pubkey_check_p256(gnutls_pubkey_t pubkey)
{
	gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;

	if (gnutls_pubkey_get_pk_algorithm(pubkey, NULL) != GNUTLS_PK_ECDSA ||
		gnutls_pubkey_export_ecc_raw(pubkey, &curve, NULL, NULL) != 0 ||
		curve != GNUTLS_ECC_CURVE_SECP256R1) {
		return MT_E_UNSUPPORTED;
	}
	return 0;
}

int mt_identity_generate(uint8_t key[MT_KEY_LEN])
{
	gnutls_x509_privkey_t privkey = NULL;
	gnutls_datum_t k = {NULL, 0};
	const uint8_t *digits;
	size_t len;
	int err = MT_E_TLS;

	if (gnutls_x509_privkey_init(&privkey) != 0) {
		goto out;
	}
	if (gnutls_x509_privkey_generate2(privkey, GNUTLS_PK_ECDSA,
		    GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0, NULL, 0) != 0) {
		goto out;
	}
	if (gnutls_x509_privkey_export_ecc_raw(privkey, NULL, NULL, NULL, &k) != 0) {
		goto out;
	}
	/* As a DER integer: a leading zero, or fewer digits, are possible. */
	digits = k.data;
	len = k.size;
	while (len > 0 && *digits == 0) {
		digits++;
		len--;
	}
	if (len == 0 || len > MT_KEY_LEN) {
		goto out;
	}
	memset(key, 0, MT_KEY_LEN - len);
	memcpy(key + MT_KEY_LEN - len, digits, len);
	err = 0;
out:
	mt_wipe(k.data, k.size);
	gnutls_free(k.data);
	if (privkey != NULL) {
		gnutls_x509_privkey_deinit(privkey);
	}
	return err;
}

int mt_identity_fingerprint(const uint8_t key[MT_KEY_LEN], uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	gnutls_pubkey_t pubkey = NULL;
	int err;

	err = pubkey_of_key(key, &pubkey);
	if (err != 0) {
		return err;
	}
	err = fingerprint_of_pubkey(pubkey, fingerprint);
	gnutls_pubkey_deinit(pubkey);
	return err;
}

int mt_identity_public_pem(const uint8_t key[MT_KEY_LEN], char **pem)
{
	gnutls_pubkey_t pubkey = NULL;
	gnutls_datum_t text = {NULL, 0};
	char *copy;
	int err;

	err = pubkey_of_key(key, &pubkey);
	if (err != 0) {
		goto out;
	}
	if (gnutls_pubkey_export2(pubkey, GNUTLS_X509_FMT_PEM, &text) != 0) {
		err = MT_E_TLS;
		goto out;
	}
	/* GnuTLS may have another allocator than the caller's free(). */
	copy = strndup((const char *)text.data, text.size);
	if (copy == NULL) {
		err = -ENOMEM;
		goto out;
	}
	*pem = copy;
out:
	gnutls_free(text.data);
	if (pubkey != NULL) {
		gnutls_pubkey_deinit(pubkey);
	}
	return err;
}

static int pubkey_import_certificate(
	gnutls_pubkey_t pubkey, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t format)
{
	gnutls_x509_crt_t crt = NULL;
	int err = MT_E_MALFORMED;

	if (gnutls_x509_crt_init(&crt) != 0) {
		return MT_E_TLS;
	}
	if (gnutls_x509_crt_import(crt, data, format) == 0 &&
		gnutls_pubkey_import_x509(pubkey, crt, 0) == 0) {
		err = 0;
	}
	gnutls_x509_crt_deinit(crt);
	return err;
}

int mt_identity_fingerprint_pem(
	const char *pem, size_t len, uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	gnutls_datum_t data = datum_of((const uint8_t *)pem, len);
	gnutls_pubkey_t pubkey = NULL;
	int err = MT_E_MALFORMED;

	if (gnutls_pubkey_init(&pubkey) != 0) {
		return MT_E_TLS;
	}
	if (memmem(pem, len, PUBLIC_KEY_TAG, strlen(PUBLIC_KEY_TAG)) != NULL) {
		if (gnutls_pubkey_import(pubkey, &data, GNUTLS_X509_FMT_PEM) == 0) {
			err = 0;
		}
	} else if (memmem(pem, len, CERTIFICATE_TAG, strlen(CERTIFICATE_TAG)) != NULL) {
		err = pubkey_import_certificate(pubkey, &data, GNUTLS_X509_FMT_PEM);
	}
	if (err == 0) {
		err = pubkey_check_p256(pubkey);
	}
	if (err == 0) {
		err = fingerprint_of_pubkey(pubkey, fingerprint);
	}
	gnutls_pubkey_deinit(pubkey);
	return err;
}

int mt_identity_fingerprint_der(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	gnutls_pubkey_t pubkey = NULL;
	int err;

	if (gnutls_pubkey_init(&pubkey) != 0) {
		return MT_E_TLS;
	}
	err = pubkey_import_certificate(pubkey, certificate, GNUTLS_X509_FMT_DER);
	if (err == 0) {
		err = fingerprint_of_pubkey(pubkey, fingerprint);
	}
	gnutls_pubkey_deinit(pubkey);
	return err;
}

int mt_identity_fingerprint_client(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	gnutls_pubkey_t pubkey = NULL;
	int err;

	if (gnutls_pubkey_init(&pubkey) != 0) {
		return MT_E_TLS;
	}
	err = pubkey_import_certificate(pubkey, certificate, GNUTLS_X509_FMT_DER);
	if (err == 0) {
		err = pubkey_check_p256(pubkey);
	}
	if (err == 0) {
		err = fingerprint_of_pubkey(pubkey, fingerprint);
	}
	gnutls_pubkey_deinit(pubkey);
	return err;
}

int mt_identity_privkey(const uint8_t key[MT_KEY_LEN], gnutls_x509_privkey_t *out)
{
	gnutls_x509_privkey_t privkey = NULL;
	struct point point;
	gnutls_datum_t x;
	gnutls_datum_t y;
	gnutls_datum_t k = datum_of(key, MT_KEY_LEN);
	int err;

	err = public_point(key, &point);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_x509_privkey_init(&privkey) != 0) {
		goto out;
	}
	x = datum_of(point.x, sizeof(point.x));
	y = datum_of(point.y, sizeof(point.y));
	if (gnutls_x509_privkey_import_ecc_raw(privkey, GNUTLS_ECC_CURVE_SECP256R1, &x, &y, &k) !=
		0) {
		goto out;
	}
	*out = privkey;
	privkey = NULL;
	err = 0;
out:
	if (privkey != NULL) {
		gnutls_x509_privkey_deinit(privkey);
	}
	return err;
}

/* A certificate that carries the public key and nothing that identifies anybody. */
static int make_self_signed(gnutls_x509_privkey_t privkey, gnutls_x509_crt_t *out)
{
	static const char name[] = "mytunnel client";
	static const uint8_t serial[] = {0x01};
	gnutls_x509_crt_t crt = NULL;

	if (gnutls_x509_crt_init(&crt) != 0) {
		return MT_E_TLS;
	}
	if (gnutls_x509_crt_set_version(crt, 3) != 0 ||
		gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)) != 0 ||
		gnutls_x509_crt_set_dn_by_oid(
			crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, sizeof(name) - 1) != 0 ||
		gnutls_x509_crt_set_activation_time(crt, NOT_BEFORE) != 0 ||
		gnutls_x509_crt_set_expiration_time(crt, NO_EXPIRY) != 0 ||
		gnutls_x509_crt_set_key(crt, privkey) != 0 ||
		gnutls_x509_crt_set_basic_constraints(crt, 0, -1) != 0 ||
		gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE) != 0 ||
		gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0) != 0 ||
		gnutls_x509_crt_sign2(crt, crt, privkey, GNUTLS_DIG_SHA256, 0) != 0) {
		gnutls_x509_crt_deinit(crt);
		return MT_E_TLS;
	}
	*out = crt;
	return 0;
}

int mt_identity_credentials(const uint8_t key[MT_KEY_LEN], gnutls_certificate_credentials_t *out)
{
	gnutls_certificate_credentials_t credentials = NULL;
	gnutls_x509_privkey_t privkey = NULL;
	gnutls_x509_crt_t crt = NULL;
	int err;

	err = mt_identity_privkey(key, &privkey);
	if (err != 0) {
		goto out;
	}
	err = make_self_signed(privkey, &crt);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_certificate_allocate_credentials(&credentials) != 0) {
		goto out;
	}
	if (gnutls_certificate_set_x509_key(credentials, &crt, 1, privkey) != 0) {
		goto out;
	}
	*out = credentials;
	credentials = NULL;
	err = 0;
out:
	if (credentials != NULL) {
		gnutls_certificate_free_credentials(credentials);
	}
	if (crt != NULL) {
		gnutls_x509_crt_deinit(crt);
	}
	if (privkey != NULL) {
		gnutls_x509_privkey_deinit(privkey);
	}
	return err;
}
