/* A server's and a client's TLS session that shake hands in memory, with plain TLS records. */
#pragma once

#include "proto/quic/tls.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

/* An appliance's authority and server certificate, and a client's key. */
struct pair_fixture {
	char *ca_cert;
	char *ca_key;
	char *chain;
	char *key;
	uint8_t pin[MT_PIN_LEN];
	uint8_t client_key[MT_KEY_LEN];
	uint8_t client_fingerprint[MT_FINGERPRINT_LEN];
};

/* What the server's user was asked, and what it answers. */
struct pair_door {
	int answer;
	unsigned calls;
	bool had_fingerprint;
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
};

struct pair_outcome {
	int server_rc;
	int client_rc;
	int alert_at_client; /* what the client received, -1 for none */
	int alert_at_server;
	int client_error;
	bool has_fingerprint;
	unsigned char server_name[128]; /* of the certificate that the client saw */
};

/* What the server shows instead of its own certificate; NULL: its own. */
extern gnutls_certificate_credentials_t pair_presented;
/* Makes the client's session another client's than ours; NULL: ours. */
extern void (*pair_tweak_client)(struct mt_tls_session *client);

int pair_setup(void **state);
int pair_teardown(void **state);
struct mt_tls_server *pair_make_server(const struct pair_fixture *f, bool require_identity);
struct mt_tls_client *pair_make_client(const struct pair_fixture *f, bool has_key);
/* One handshake; `door` NULL: the server has no authorize function. */
void pair_shake(struct pair_outcome *out, struct mt_tls_server *server,
	struct mt_tls_client *client, struct pair_door *door);
