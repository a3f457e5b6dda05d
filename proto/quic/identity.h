/* Client identities: P-256 key pairs whose certificates are self-signed and known by the SHA-256 of
 * their DER SubjectPublicKeyInfo.
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdint.h>

#define MT_FINGERPRINT_LEN 32

/* A new private scalar from the system's random numbers. MT_E_TLS. */
int mt_identity_generate(uint8_t key[MT_KEY_LEN]) MT_MUST_CHECK;
/* MT_E_MALFORMED when `key` is no scalar of P-256. */
int mt_identity_fingerprint(
	const uint8_t key[MT_KEY_LEN], uint8_t fingerprint[MT_FINGERPRINT_LEN]) MT_MUST_CHECK;
/* The public key as PEM ("BEGIN PUBLIC KEY"), a string for free(). */
int mt_identity_public_pem(const uint8_t key[MT_KEY_LEN], char **pem) MT_MUST_CHECK;
/* The fingerprint of a public key, or of a certificate's public key, in PEM; P-256 only:
 * MT_E_UNSUPPORTED for other keys, MT_E_MALFORMED for other text.
 */
int mt_identity_fingerprint_pem(
	const char *pem, size_t len, uint8_t fingerprint[MT_FINGERPRINT_LEN]) MT_MUST_CHECK;
/* The fingerprint of a certificate in DER, whatever its key. */
int mt_identity_fingerprint_der(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN]) MT_MUST_CHECK;
/* The same for a client's certificate: MT_E_UNSUPPORTED when its key is not P-256. */
int mt_identity_fingerprint_client(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN]) MT_MUST_CHECK;
/* The private key object of `key`; the caller calls gnutls_x509_privkey_deinit. */
int mt_identity_privkey(const uint8_t key[MT_KEY_LEN], gnutls_x509_privkey_t *out) MT_MUST_CHECK;
/* Credentials with `key` and a self-signed certificate; gnutls_certificate_free_credentials. */
int mt_identity_credentials(
	const uint8_t key[MT_KEY_LEN], gnutls_certificate_credentials_t *out) MT_MUST_CHECK;
