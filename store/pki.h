/* The appliance's own authority and the checks on certificates that somebody imports. No database
 * in here. */
#pragma once

#include "proto/quic/identity.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <stddef.h>
#include <stdint.h>

struct mt_cert_info {
	char subject[256];
	char issuer[256];
	char names[512];    /* subjectAltName, comma list */
	int64_t not_before; /* Unix seconds */
	int64_t not_after;
	char fingerprint[65];    /* SHA-256 of the first certificate, hex */
	uint8_t pin[MT_PIN_LEN]; /* SHA-256 of the LAST certificate's SubjectPublicKeyInfo */
	size_t chain_len;
};

/* A P-256 authority valid for decades. Strings for free(). */
int mt_pki_make_ca(char **cert_pem, char **key_pem) MT_MUST_CHECK;
/* A server certificate for MT_PINNED_NAME signed by the CA (keyUsage, serverAuth, SKI, AKI, valid
 * from a week ago, for 825 days); `chain_pem` ends in the CA.
 */
int mt_pki_make_server(const char *ca_cert_pem, const char *ca_key_pem, char **chain_pem,
	char **key_pem) MT_MUST_CHECK;
int mt_pki_describe(const char *chain_pem, struct mt_cert_info *out) MT_MUST_CHECK;
/* Checks a pair before it is imported: it parses, the key fits the first certificate, each
 * certificate is signed by the next, the dates hold now, a server may use it, and it carries a
 * name. On failure `why` explains.
 */
int mt_pki_check_pair(
	const char *chain_pem, const char *key_pem, char *why, size_t why_cap) MT_MUST_CHECK;
