#include "proto/quic/tls.h"

#include "proto/quic/tls_verify.h"
#include "proto/wire/encode.h"
#include "proto/wire/request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* X25519 first: it is the key share that most clients send unasked, so a HelloRetryRequest is rare.
 * On TCP the compatibility mode (RFC 8446, appendix D.4) helps past boxes in the way; ngtcp2 and
 * RFC 9001, section 8.4, want none.
 */
#define PRIORITY_TCP                                                                               \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:"  \
	"-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:%SERVER_PRECEDENCE"
#define PRIORITY_QUIC PRIORITY_TCP ":%DISABLE_TLS13_COMPAT_MODE"
/* With kernel TLS neither tickets nor a change of keys reach GnuTLS. */
#define FLAGS_QUIC (GNUTLS_NO_TICKETS | GNUTLS_NO_END_OF_EARLY_DATA)
#define FLAGS_TCP  (GNUTLS_NO_TICKETS | GNUTLS_NO_AUTO_REKEY)
/* The largest handshake message that is taken: a client sends one small certificate, a server a
 * chain. */
#define SERVER_MESSAGE_MAX 16384
#define CLIENT_MESSAGE_MAX 65536

struct mt_tls_server {
	atomic_uint refs;
	gnutls_priority_t quic;
	gnutls_priority_t tcp;
	gnutls_certificate_credentials_t appliance;
	gnutls_certificate_credentials_t imported; /* NULL: none */
	bool require_identity;
	struct mt_tls_known known;
};

struct mt_tls_client {
	atomic_uint refs;
	gnutls_priority_t quic;
	gnutls_priority_t tcp;
	gnutls_certificate_credentials_t credentials;
	struct mt_tls_peer peer;
	struct mt_tls_proven proven;
};

static int credentials_of_pem(
	gnutls_certificate_credentials_t *out, const char *chain, const char *key)
{
	gnutls_certificate_credentials_t credentials = NULL;
	union {
		const char *in;
		uint8_t *out;
	} chain_alias = {.in = chain}, key_alias = {.in = key};
	gnutls_datum_t chain_pem = {.data = chain_alias.out, .size = (unsigned)strlen(chain)};
	gnutls_datum_t key_pem = {.data = key_alias.out, .size = (unsigned)strlen(key)};

	if (gnutls_certificate_allocate_credentials(&credentials) != 0) {
		return MT_E_TLS;
	}
	/* Also checks that the key belongs to the certificate. */
	if (gnutls_certificate_set_x509_key_mem(
		    credentials, &chain_pem, &key_pem, GNUTLS_X509_FMT_PEM) < 0) {
		gnutls_certificate_free_credentials(credentials);
		return MT_E_TLS;
	}
	*out = credentials;
	return 0;
}

static void server_free(struct mt_tls_server *tls)
{
	if (tls->imported != NULL) {
		gnutls_certificate_free_credentials(tls->imported);
	}
	if (tls->appliance != NULL) {
		gnutls_certificate_free_credentials(tls->appliance);
	}
	if (tls->quic != NULL) {
		gnutls_priority_deinit(tls->quic);
	}
	if (tls->tcp != NULL) {
		gnutls_priority_deinit(tls->tcp);
	}
	pthread_mutex_destroy(&tls->known.lock);
	free(tls);
}

int mt_tls_server_new(struct mt_tls_server **out, const struct mt_tls_server_config *config)
{
	struct mt_tls_server *tls;
	int err = MT_E_TLS;

	if (config->appliance_chain == NULL || config->appliance_key == NULL ||
		(config->imported_chain != NULL && config->imported_key == NULL)) {
		return MT_E_TLS;
	}
	tls = calloc(1, sizeof(*tls));
	if (tls == NULL) {
		return -ENOMEM;
	}
	atomic_init(&tls->refs, 1);
	pthread_mutex_init(&tls->known.lock, NULL); /* of the default kind: cannot fail */
	tls->require_identity = config->require_identity;
	if (gnutls_priority_init(&tls->quic, PRIORITY_QUIC, NULL) != 0 ||
		gnutls_priority_init(&tls->tcp, PRIORITY_TCP, NULL) != 0) {
		goto out;
	}
	err = credentials_of_pem(&tls->appliance, config->appliance_chain, config->appliance_key);
	if (err != 0) {
		goto out;
	}
	if (config->imported_chain != NULL) {
		err = credentials_of_pem(
			&tls->imported, config->imported_chain, config->imported_key);
		if (err != 0) {
			goto out;
		}
	}
	*out = tls;
	tls = NULL;
out:
	if (tls != NULL) {
		server_free(tls);
	}
	return err;
}

struct mt_tls_server *mt_tls_server_ref(struct mt_tls_server *tls)
{
	atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
	return tls;
}

void mt_tls_server_unref(struct mt_tls_server *tls)
{
	if (tls != NULL && atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) == 1) {
		server_free(tls);
	}
}

static void client_free(struct mt_tls_client *tls)
{
	if (tls->credentials != NULL) {
		gnutls_certificate_free_credentials(tls->credentials);
	}
	if (tls->quic != NULL) {
		gnutls_priority_deinit(tls->quic);
	}
	if (tls->tcp != NULL) {
		gnutls_priority_deinit(tls->tcp);
	}
	pthread_mutex_destroy(&tls->proven.lock);
	free(tls);
}

/* Notes whom to expect: the pins, else a name, else an address literal (a zone is of local meaning
 * and not in any certificate).
 */
static int peer_init(struct mt_tls_peer *peer, const struct mt_tls_client_config *config)
{
	char *zone;
	size_t len;

	if (config->pin_count > MT_PINS_MAX) {
		return MT_E_RANGE;
	}
	peer->pin_count = config->pin_count;
	if (config->pin_count > 0) {
		memcpy(peer->pins, config->pins, sizeof(peer->pins));
		memcpy(peer->name, MT_PINNED_NAME, sizeof(MT_PINNED_NAME));
		return 0;
	}
	len = config->host == NULL ? 0 : strlen(config->host);
	if (len == 0 || len >= sizeof(peer->name)) {
		return MT_E_MALFORMED;
	}
	memcpy(peer->name, config->host, len + 1);
	zone = strchr(peer->name, '%');
	if (zone != NULL) {
		*zone = '\0';
	}
	if (inet_pton(AF_INET, peer->name, peer->ip) == 1) {
		peer->ip_len = 4;
	} else if (inet_pton(AF_INET6, peer->name, peer->ip) == 1) {
		peer->ip_len = 16;
	}
	return 0;
}

int mt_tls_client_new(struct mt_tls_client **out, const struct mt_tls_client_config *config)
{
	struct mt_tls_client *tls;
	int err;

	tls = calloc(1, sizeof(*tls));
	if (tls == NULL) {
		return -ENOMEM;
	}
	atomic_init(&tls->refs, 1);
	pthread_mutex_init(&tls->proven.lock, NULL); /* of the default kind: cannot fail */
	err = peer_init(&tls->peer, config);
	if (err != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (gnutls_priority_init(&tls->quic, PRIORITY_QUIC, NULL) != 0 ||
		gnutls_priority_init(&tls->tcp, PRIORITY_TCP, NULL) != 0) {
		goto out;
	}
	if (config->has_key) {
		err = mt_identity_credentials(config->key, &tls->credentials);
		if (err != 0) {
			goto out;
		}
	} else if (gnutls_certificate_allocate_credentials(&tls->credentials) != 0) {
		goto out;
	}
	err = MT_E_TLS;
	if (config->pin_count == 0 &&
		gnutls_certificate_set_x509_system_trust(tls->credentials) < 0) {
		goto out;
	}
	*out = tls;
	tls = NULL;
	err = 0;
out:
	if (tls != NULL) {
		client_free(tls);
	}
	return err;
}

struct mt_tls_client *mt_tls_client_ref(struct mt_tls_client *tls)
{
	atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
	return tls;
}

void mt_tls_client_unref(struct mt_tls_client *tls)
{
	if (tls != NULL && atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) == 1) {
		client_free(tls);
	}
}

/* GnuTLS' "mandatory" holds only for a peer that sends the extension at all; RFC 9001, section 8.1,
 * wants every handshake without an agreed protocol refused.
 */
static bool has_protocol(gnutls_session_t session)
{
	gnutls_datum_t chosen = {NULL, 0};

	return gnutls_alpn_get_selected_protocol(session, &chosen) == 0 &&
	       chosen.size == sizeof(MT_ALPN) - 1 && memcmp(chosen.data, MT_ALPN, chosen.size) == 0;
}

/* Both kinds of certificate live side by side: who asks for the pinned name gets the appliance's
 * chain. */
static int on_client_hello(gnutls_session_t session)
{
	struct mt_tls_session *s = gnutls_db_get_ptr(session);
	gnutls_certificate_credentials_t chosen = s->server->imported;
	char name[MT_HOST_MAX + 1];
	size_t len = sizeof(name);
	unsigned type = 0;

	if (!has_protocol(session)) {
		s->alert = GNUTLS_A_NO_APPLICATION_PROTOCOL;
		return GNUTLS_E_NO_APPLICATION_PROTOCOL;
	}
	if (chosen == NULL ||
		(gnutls_server_name_get(session, name, &len, &type, 0) == 0 &&
			type == GNUTLS_NAME_DNS && strcasecmp(name, MT_PINNED_NAME) == 0)) {
		chosen = s->server->appliance;
	}
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, chosen);
}

static int refuse(struct mt_tls_session *s, int alert)
{
	s->alert = alert;
	return GNUTLS_E_CERTIFICATE_ERROR;
}

static int on_verify_client(gnutls_session_t session)
{
	struct mt_tls_session *s = gnutls_db_get_ptr(session);
	const gnutls_datum_t *certificates;
	unsigned count = 0;
	int alert;
	int err;

	certificates = gnutls_certificate_get_peers(session, &count);
	if (certificates == NULL || count == 0) {
		if (s->server->require_identity) {
			return refuse(s, GNUTLS_A_CERTIFICATE_REQUIRED);
		}
		alert = s->authorize == NULL ? 0 : s->authorize(s->user, NULL);
		return alert == 0 ? 0 : refuse(s, alert);
	}

	err = mt_tls_identify_client(&s->server->known, &certificates[0], s->fingerprint);
	if (err == MT_E_UNSUPPORTED) {
		return refuse(s, GNUTLS_A_UNSUPPORTED_CERTIFICATE);
	}
	if (err != 0) {
		return refuse(s, GNUTLS_A_BAD_CERTIFICATE);
	}
	s->has_fingerprint = true;
	alert = s->authorize == NULL ? 0 : s->authorize(s->user, s->fingerprint);
	return alert == 0 ? 0 : refuse(s, alert);
}

static int on_verify_server(gnutls_session_t session)
{
	struct mt_tls_session *s = gnutls_db_get_ptr(session);
	int alert = GNUTLS_A_BAD_CERTIFICATE;
	int err;

	if (!has_protocol(session)) {
		s->error = MT_E_TLS;
		return refuse(s, GNUTLS_A_NO_APPLICATION_PROTOCOL);
	}
	err = mt_tls_verify_peer(session, &s->client->peer, &s->client->proven, &alert);
	if (err == 0) {
		return 0;
	}
	s->error = err;
	return refuse(s, alert);
}

static int set_common(gnutls_session_t session, gnutls_priority_t priority,
	gnutls_certificate_credentials_t credentials)
{
	static const char name[] = MT_ALPN;
	union {
		const char *in;
		uint8_t *out;
	} alias = {.in = name};
	const gnutls_datum_t alpn = {.data = alias.out, .size = sizeof(name) - 1};

	if (gnutls_priority_set(session, priority) != 0 ||
		gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials) != 0 ||
		gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY) != 0) {
		return MT_E_TLS;
	}
	return 0;
}

static int init_server(struct mt_tls_session *s, struct mt_tls_server *tls, bool tcp,
	mt_tls_authorize_fn authorize, void *user)
{
	gnutls_session_t session = NULL;

	memset(s, 0, sizeof(*s));
	if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
					  GNUTLS_NO_AUTO_SEND_TICKET |
					  (tcp ? FLAGS_TCP : FLAGS_QUIC)) != 0) {
		return MT_E_TLS;
	}
	if (set_common(session, tcp ? tls->tcp : tls->quic, tls->appliance) != 0) {
		gnutls_deinit(session);
		return MT_E_TLS;
	}
	gnutls_db_set_ptr(session, s);
	gnutls_handshake_set_max_packet_length(session, SERVER_MESSAGE_MAX);
	gnutls_handshake_set_post_client_hello_function(session, on_client_hello);
	gnutls_session_set_verify_function(session, on_verify_client);
	gnutls_certificate_server_set_request(
		session, tls->require_identity ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
	s->session = session;
	s->server = mt_tls_server_ref(tls);
	s->authorize = authorize;
	s->user = user;
	return 0;
}

int mt_tls_session_init_server(struct mt_tls_session *s, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user)
{
	return init_server(s, tls, false, authorize, user);
}

int mt_tls_session_init_server_tcp(struct mt_tls_session *s, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user)
{
	return init_server(s, tls, true, authorize, user);
}

static int init_client(struct mt_tls_session *s, struct mt_tls_client *tls, bool tcp)
{
	const struct mt_tls_peer *peer = &tls->peer;
	gnutls_session_t session = NULL;
	int err = MT_E_TLS;

	memset(s, 0, sizeof(*s));
	/* One key share only: every server of ours takes the first group. */
	if (gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
					  GNUTLS_FORCE_CLIENT_CERT | GNUTLS_KEY_SHARE_TOP |
					  (tcp ? FLAGS_TCP : FLAGS_QUIC)) != 0) {
		goto out;
	}
	err = set_common(session, tcp ? tls->tcp : tls->quic, tls->credentials);
	if (err != 0) {
		goto out;
	}
	/* RFC 6066, section 3: literals are not permitted as a server name. */
	if (peer->ip_len == 0 && gnutls_server_name_set(session, GNUTLS_NAME_DNS, peer->name,
					 strlen(peer->name)) != 0) {
		err = MT_E_TLS;
		goto out;
	}
	gnutls_db_set_ptr(session, s);
	gnutls_handshake_set_max_packet_length(session, CLIENT_MESSAGE_MAX);
	gnutls_session_set_verify_function(session, on_verify_server);
	s->session = session;
	session = NULL;
	s->client = mt_tls_client_ref(tls);
out:
	if (session != NULL) {
		gnutls_deinit(session);
	}
	return err;
}

int mt_tls_session_init_client(struct mt_tls_session *s, struct mt_tls_client *tls)
{
	return init_client(s, tls, false);
}

int mt_tls_session_init_client_tcp(struct mt_tls_session *s, struct mt_tls_client *tls)
{
	return init_client(s, tls, true);
}

void mt_tls_session_deinit(struct mt_tls_session *s)
{
	if (s->session != NULL) {
		gnutls_deinit(s->session);
		s->session = NULL;
	}
	mt_tls_server_unref(s->server);
	s->server = NULL;
	mt_tls_client_unref(s->client);
	s->client = NULL;
}

static const struct {
	int alert;
	bool is_permanent;
	const char *text;
} alerts[] = {
	{GNUTLS_A_HANDSHAKE_FAILURE, true, "the server found no common TLS parameters"},
	{GNUTLS_A_BAD_CERTIFICATE, true, "the server could not read this identity's certificate"},
	{GNUTLS_A_UNSUPPORTED_CERTIFICATE, true, "the server takes P-256 identities only"},
	{GNUTLS_A_CERTIFICATE_REVOKED, true, "this identity has been revoked"},
	{GNUTLS_A_CERTIFICATE_EXPIRED, true, "this identity has expired"},
	{GNUTLS_A_CERTIFICATE_UNKNOWN, true, "the server has disabled this identity"},
	{GNUTLS_A_UNKNOWN_CA, true, "the server does not know this identity"},
	{GNUTLS_A_ACCESS_DENIED, true, "the server does not know this identity"},
	{GNUTLS_A_DECRYPT_ERROR, true, "the server could not verify this identity's signature"},
	{GNUTLS_A_PROTOCOL_VERSION, true, "the server does not offer TLS 1.3"},
	{GNUTLS_A_INTERNAL_ERROR, false, "the server had an internal error"},
	{GNUTLS_A_USER_CANCELED, false, "the server gave the handshake up"},
	{GNUTLS_A_UNRECOGNIZED_NAME, true, "the server does not serve this name"},
	{GNUTLS_A_CERTIFICATE_REQUIRED, true,
		"the server requires an identity, and this profile has none"},
	{GNUTLS_A_NO_APPLICATION_PROTOCOL, true, "the server does not speak MyTunnel"},
};

const char *mt_tls_alert_text(int alert)
{
	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		if (alerts[i].alert == alert) {
			return alerts[i].text;
		}
	}
	return "the server refused the TLS handshake";
}

bool mt_tls_alert_is_permanent(int alert)
{
	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		if (alerts[i].alert == alert) {
			return alerts[i].is_permanent;
		}
	}
	return false;
}
