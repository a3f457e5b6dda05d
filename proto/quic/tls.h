/* TLS credentials of both sides, and sessions made from them. Credentials are immutable, counted by
 * reference, and may be shared between threads; a session holds a reference for as long as it
 * lives.
 */
#pragma once

#include "proto/quic/identity.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

struct mt_tls_server;
struct mt_tls_client;

struct mt_tls_server_config {
	/* PEM, NUL-terminated, borrowed for the call. The appliance's chain ends in its CA. */
	const char *appliance_chain;
	const char *appliance_key;
	const char *imported_chain; /* NULL: none */
	const char *imported_key;
	bool require_identity; /* off: a client without a certificate gets in */
};

/* Called in the handshake, on the thread that drives the session, with the fingerprint of the
 * client's key (NULL when it sent no certificate and none is required). Returns 0 to let it in, or
 * a TLS alert (RFC 8446, section 6) that tells it why not, for example
 * GNUTLS_A_CERTIFICATE_REVOKED. It is called once a handshake, by the session itself, after the
 * client has proved that it holds the key.
 */
typedef int (*mt_tls_authorize_fn)(void *user, const uint8_t *fingerprint);

/* MT_E_TLS when a pair does not match or cannot be read. */
int mt_tls_server_new(
	struct mt_tls_server **out, const struct mt_tls_server_config *config) MT_MUST_CHECK;
struct mt_tls_server *mt_tls_server_ref(struct mt_tls_server *tls);
void mt_tls_server_unref(struct mt_tls_server *tls); /* NULL is allowed */

struct mt_tls_client_config {
	uint8_t key[MT_KEY_LEN];
	bool has_key;     /* off: no certificate is sent */
	const char *host; /* name or literal, for the name check without pins */
	uint8_t pins[MT_PINS_MAX][MT_PIN_LEN];
	size_t pin_count; /* 0: system trust store and host name */
};

int mt_tls_client_new(
	struct mt_tls_client **out, const struct mt_tls_client_config *config) MT_MUST_CHECK;
struct mt_tls_client *mt_tls_client_ref(struct mt_tls_client *tls);
void mt_tls_client_unref(struct mt_tls_client *tls);

/* One side of one TLS session. Its address is what GnuTLS' callbacks are given: keep it in place
 * until mt_tls_session_deinit.
 */
struct mt_tls_session {
	gnutls_session_t session;     /* NULL once dropped */
	struct mt_tls_server *server; /* one of these two, referenced */
	struct mt_tls_client *client;
	mt_tls_authorize_fn authorize; /* server */
	void *user;
	uint8_t fingerprint[MT_FINGERPRINT_LEN]; /* server: valid when has_fingerprint */
	bool has_fingerprint;
	int alert; /* what to send instead of GnuTLS' own choice; 0 = none */
	int error; /* client: MT_E_PIN or MT_E_TLS when the server's certificate was refused */
};

/* GnuTLS' callbacks find the struct through gnutls_db_set_ptr, as the session's own pointer is free
 * for the caller (ngtcp2's conn_ref); no session cache is used, so nothing else reads it. A
 * handshake that fails must be answered with `alert` when that is not 0, else with what GnuTLS
 * chose.
 *
 * For QUIC: no tickets, no 0-RTT, ALPN "mytunnel" mandatory, TLS 1.3 with AES-GCM first and the
 * server's order deciding. The caller then configures it for ngtcp2. On failure nothing is held.
 */
int mt_tls_session_init_server(struct mt_tls_session *s, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user) MT_MUST_CHECK;
int mt_tls_session_init_client(struct mt_tls_session *s, struct mt_tls_client *tls) MT_MUST_CHECK;
/* For TLS over TCP: the same, and the caller gives the session its transport. Nothing is rekeyed by
 * itself. */
int mt_tls_session_init_server_tcp(struct mt_tls_session *s, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user) MT_MUST_CHECK;
int mt_tls_session_init_client_tcp(
	struct mt_tls_session *s, struct mt_tls_client *tls) MT_MUST_CHECK;
/* Frees the GnuTLS session and the reference; `fingerprint`, `alert` and `error` stay readable. */
void mt_tls_session_deinit(struct mt_tls_session *s);

/* A sentence about a TLS alert that a server of ours sent to a client, for example "the server does
 * not know this identity"; and whether trying again is pointless.
 */
const char *mt_tls_alert_text(int alert);
bool mt_tls_alert_is_permanent(int alert);
