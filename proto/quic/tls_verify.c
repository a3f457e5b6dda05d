#include "proto/quic/tls_verify.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <string.h>

#define CHAIN_MAX 8

static int alert_of_status(unsigned status)
{
	if (status & GNUTLS_CERT_REVOKED) {
		return GNUTLS_A_CERTIFICATE_REVOKED;
	}
	if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) {
		return GNUTLS_A_CERTIFICATE_EXPIRED;
	}
	if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA)) {
		return GNUTLS_A_UNKNOWN_CA;
	}
	return GNUTLS_A_BAD_CERTIFICATE;
}

/* Fills the two or three things that a certificate must be good for. */
static unsigned expect(const struct mt_tls_peer *peer, gnutls_typed_vdata_st data[2])
{
	static const char purpose[] = GNUTLS_KP_TLS_WWW_SERVER;
	union {
		const void *in;
		uint8_t *out;
	} purpose_alias = {.in = purpose}, name_alias = {.in = peer->name},
	  ip_alias = {.in = peer->ip};

	memset(data, 0, 2 * sizeof(data[0]));
	data[0].type = GNUTLS_DT_KEY_PURPOSE_OID;
	data[0].data = purpose_alias.out;
	if (peer->ip_len > 0) {
		data[1].type = GNUTLS_DT_IP_ADDRESS;
		data[1].data = ip_alias.out;
		data[1].size = (unsigned)peer->ip_len;
	} else {
		data[1].type = GNUTLS_DT_DNS_HOSTNAME;
		data[1].data = name_alias.out;
	}
	return 2;
}

static bool is_pinned(const struct mt_tls_peer *peer, gnutls_x509_crt_t crt)
{
	uint8_t id[MT_PIN_LEN];
	size_t len = sizeof(id);

	if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, id, &len) != 0 ||
		len != sizeof(id)) {
		return false;
	}
	for (size_t i = 0; i < peer->pin_count; i++) {
		if (memcmp(id, peer->pins[i], sizeof(id)) == 0) {
			return true;
		}
	}
	return false;
}

/* A pin names a key, not a certificate: only the key's own signature shows that this certificate,
 * with its constraints, is the authority's and was not wrapped around its public key by somebody
 * else.
 */
static bool is_signed_by_itself(gnutls_x509_crt_t crt)
{
	/* Without the first flag GnuTLS takes a certificate's presence in the list for its proof;
	 * dates are judged with the whole chain.
	 */
	const unsigned flags = GNUTLS_VERIFY_DO_NOT_ALLOW_SAME | GNUTLS_VERIFY_DISABLE_TIME_CHECKS;
	unsigned status = 0;

	return gnutls_x509_crt_check_issuer(crt, crt) != 0 &&
	       gnutls_x509_crt_get_ca_status(crt, NULL) > 0 &&
	       gnutls_x509_crt_verify(crt, &crt, 1, flags, &status) == 0 && status == 0;
}

static int verify_under_pin(
	const struct mt_tls_peer *peer, gnutls_x509_crt_t *chain, unsigned count, int *alert)
{
	gnutls_x509_trust_list_t trust = NULL;
	gnutls_typed_vdata_st data[2];
	gnutls_x509_crt_t authority = chain[count - 1];
	unsigned elements = expect(peer, data);
	unsigned status = 0;
	int err = MT_E_TLS;

	if (!is_pinned(peer, authority) || !is_signed_by_itself(authority)) {
		*alert = GNUTLS_A_UNKNOWN_CA;
		return MT_E_PIN;
	}
	if (count < 2) {
		return MT_E_TLS;
	}
	if (gnutls_x509_trust_list_init(&trust, 0) != 0) {
		goto out;
	}
	if (gnutls_x509_trust_list_add_cas(trust, &authority, 1, 0) != 1) {
		goto out;
	}
	if (gnutls_x509_trust_list_verify_crt2(
		    trust, chain, count - 1, data, elements, 0, &status, NULL) != 0) {
		goto out;
	}
	if (status != 0) {
		*alert = alert_of_status(status);
		goto out;
	}
	err = 0;
out:
	if (trust != NULL) {
		gnutls_x509_trust_list_deinit(trust, 0); /* the certificates stay the caller's */
	}
	return err;
}

/* Of the chain as it was sent; false without memory. */
static bool digest_of(uint8_t digest[32], const gnutls_datum_t *sent, unsigned count)
{
	gnutls_hash_hd_t hash = NULL;
	bool good = true;

	if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) != 0) {
		return false;
	}
	for (unsigned i = 0; good && i < count; i++) {
		good = gnutls_hash(hash, &sent[i].size, sizeof(sent[i].size)) == 0 &&
		       gnutls_hash(hash, sent[i].data, sent[i].size) == 0;
	}
	gnutls_hash_deinit(hash, digest);
	return good;
}

static bool is_proven(struct mt_tls_proven *proven, const uint8_t digest[32])
{
	const time_t now = time(NULL);
	bool found;

	pthread_mutex_lock(&proven->lock);
	found = proven->from <= now && now < proven->until &&
		memcmp(proven->digest, digest, sizeof(proven->digest)) == 0;
	pthread_mutex_unlock(&proven->lock);
	return found;
}

static void note_proven(struct mt_tls_proven *proven, const uint8_t digest[32],
	const gnutls_x509_crt_t *chain, unsigned count)
{
	time_t from = gnutls_x509_crt_get_activation_time(chain[0]);
	time_t until = gnutls_x509_crt_get_expiration_time(chain[0]);

	for (unsigned i = 1; i < count; i++) {
		const time_t begin = gnutls_x509_crt_get_activation_time(chain[i]);
		const time_t end = gnutls_x509_crt_get_expiration_time(chain[i]);

		from = begin > from ? begin : from;
		until = end < until ? end : until;
	}
	pthread_mutex_lock(&proven->lock);
	memcpy(proven->digest, digest, sizeof(proven->digest));
	proven->from = from;
	proven->until = until;
	pthread_mutex_unlock(&proven->lock);
}

static int verify_pinned(gnutls_session_t session, const struct mt_tls_peer *peer,
	struct mt_tls_proven *proven, int *alert)
{
	const gnutls_datum_t *sent;
	gnutls_x509_crt_t chain[CHAIN_MAX];
	unsigned sent_count = 0;
	uint8_t digest[32];
	unsigned count = 0;
	int err = MT_E_TLS;

	sent = gnutls_certificate_get_peers(session, &sent_count);
	if (sent == NULL || sent_count == 0 || sent_count > CHAIN_MAX ||
		!digest_of(digest, sent, sent_count)) {
		goto out;
	}
	if (is_proven(proven, digest)) {
		return 0;
	}
	for (; count < sent_count; count++) {
		if (gnutls_x509_crt_init(&chain[count]) != 0) {
			goto out;
		}
		if (gnutls_x509_crt_import(chain[count], &sent[count], GNUTLS_X509_FMT_DER) != 0) {
			gnutls_x509_crt_deinit(chain[count]);
			goto out;
		}
	}
	err = verify_under_pin(peer, chain, count, alert);
	if (err == 0) {
		note_proven(proven, digest, chain, count);
	}
out:
	while (count > 0) {
		gnutls_x509_crt_deinit(chain[--count]);
	}
	return err;
}

int mt_tls_verify_peer(gnutls_session_t session, const struct mt_tls_peer *peer,
	struct mt_tls_proven *proven, int *alert)
{
	gnutls_typed_vdata_st data[2];
	unsigned elements;
	unsigned status = 0;

	if (peer->pin_count > 0) {
		return verify_pinned(session, peer, proven, alert);
	}
	elements = expect(peer, data);
	if (gnutls_certificate_verify_peers(session, data, elements, &status) != 0) {
		return MT_E_TLS;
	}
	if (status != 0) {
		*alert = alert_of_status(status);
		return MT_E_TLS;
	}
	return 0;
}

int mt_tls_identify_client(struct mt_tls_known *known, const gnutls_datum_t *certificate,
	uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	uint8_t digest[32];
	uint8_t found[MT_FINGERPRINT_LEN];
	size_t at;
	bool hit;
	int err;

	if (!digest_of(digest, certificate, 1)) {
		return MT_E_TLS;
	}
	at = digest[0] % MT_TLS_KNOWN;
	pthread_mutex_lock(&known->lock);
	hit = known->slots[at].used && memcmp(known->slots[at].digest, digest, sizeof(digest)) == 0;
	if (hit) {
		memcpy(fingerprint, known->slots[at].fingerprint, MT_FINGERPRINT_LEN);
	}
	pthread_mutex_unlock(&known->lock);
	if (hit) {
		return 0;
	}
	err = mt_identity_fingerprint_client(certificate, found);
	if (err != 0) {
		return err;
	}
	pthread_mutex_lock(&known->lock);
	known->slots[at].used = true;
	memcpy(known->slots[at].digest, digest, sizeof(digest));
	memcpy(known->slots[at].fingerprint, found, sizeof(found));
	pthread_mutex_unlock(&known->lock);
	memcpy(fingerprint, found, sizeof(found));
	return 0;
}
