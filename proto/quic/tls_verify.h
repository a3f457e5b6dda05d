/* Each side's judgement of the other's certificate, inside the handshake. */
#pragma once

#include "proto/quic/identity.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Whom a client expects: with pins MT_PINNED_NAME under a pinned authority, else a name or an
 * address under the system's trust store.
 */
struct mt_tls_peer {
	uint8_t pins[MT_PINS_MAX][MT_PIN_LEN];
	size_t pin_count;
	char name[256];
	uint8_t ip[16];
	size_t ip_len; /* 4 or 16 when `name` is a literal, else 0 */
};

/* The chain that was found good last under a pinned authority: a server shows the same one at every
 * handshake, and whether it is good depends on its bytes and on the time alone. Shared by threads.
 */
struct mt_tls_proven {
	pthread_mutex_t lock;
	uint8_t digest[32]; /* of all its certificates */
	time_t from;        /* when all of them are within their dates */
	time_t until;       /* 0: none yet */
};

/* 0 when the chain that the peer of `session` sent is good; else MT_E_PIN (no pinned authority at
 * its end) or MT_E_TLS, and `*alert` is what to tell the peer. `proven` belongs to that very peer:
 * it spares the signatures of a chain that is the same as before.
 */
int mt_tls_verify_peer(gnutls_session_t session, const struct mt_tls_peer *peer,
	struct mt_tls_proven *proven, int *alert) MT_MUST_CHECK;

#define MT_TLS_KNOWN 256 /* client certificates whose key a server remembers; a power of 2 */

/* Fingerprints of client certificates that were taken apart before: a client shows the same one at
 * every handshake. What a fingerprint is allowed is asked anew each time, and so is the proof that
 * the client has the key. Shared by threads.
 */
struct mt_tls_known {
	pthread_mutex_t lock;
	struct {
		bool used;
		uint8_t digest[32]; /* SHA-256 of the certificate */
		uint8_t fingerprint[MT_FINGERPRINT_LEN];
	} slots[MT_TLS_KNOWN];
};

/* mt_identity_fingerprint_client, by way of `known`. */
int mt_tls_identify_client(struct mt_tls_known *known, const gnutls_datum_t *certificate,
	uint8_t fingerprint[MT_FINGERPRINT_LEN]) MT_MUST_CHECK;
