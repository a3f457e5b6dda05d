#include "tests/unit/tls_pair.h"

#include "store/pki.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/x509.h>

#define PIPE_MAX 65536

/* One direction of a connection in memory. */
struct pipe {
	uint8_t data[PIPE_MAX];
	size_t len;
	gnutls_session_t writer;
	gnutls_session_t reader;
};

struct wire {
	struct pipe *in;
	struct pipe *out;
};

static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
	struct wire *wire = ptr;

	assert_true(len <= PIPE_MAX - wire->out->len);
	memcpy(wire->out->data + wire->out->len, data, len);
	wire->out->len += len;
	return (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
	struct wire *wire = ptr;
	size_t n = wire->in->len < len ? wire->in->len : len;

	if (n == 0) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(data, wire->in->data, n);
	wire->in->len -= n;
	memmove(wire->in->data, wire->in->data + n, wire->in->len);
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
	const struct wire *wire = ptr;

	(void)ms;
	return wire->in->len > 0;
}

static int on_authorize(void *user, const uint8_t *fingerprint)
{
	struct pair_door *door = user;

	door->calls++;
	door->had_fingerprint = fingerprint != NULL;
	if (fingerprint != NULL) {
		memcpy(door->fingerprint, fingerprint, MT_FINGERPRINT_LEN);
	}
	return door->answer;
}

/* One step of one side; the alert goes out as the QUIC core does it. */
static int step(struct mt_tls_session *s, int rc, int *alert_received)
{
	if (rc == 0 || (rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED)) {
		return rc;
	}
	do {
		rc = gnutls_handshake(s->session);
		if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED || rc == GNUTLS_E_WARNING_ALERT_RECEIVED) {
			*alert_received = (int)gnutls_alert_get(s->session);
		}
	} while (rc < 0 && rc != GNUTLS_E_AGAIN && gnutls_error_is_fatal(rc) == 0);
	if (rc < 0 && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_FATAL_ALERT_RECEIVED) {
		int level = 0;
		int alert = s->alert != 0 ? s->alert : gnutls_error_to_alert(rc, &level);

		assert_int_equal(gnutls_alert_send(s->session, GNUTLS_AL_FATAL,
					 (gnutls_alert_description_t)alert),
			0);
	}
	return rc;
}

gnutls_certificate_credentials_t pair_presented;

void (*pair_tweak_client)(struct mt_tls_session *client);

static int on_hello(gnutls_session_t session)
{
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, pair_presented);
}

static void attach(struct mt_tls_session *s, struct wire *wire)
{
	gnutls_transport_set_ptr(s->session, wire);
	gnutls_transport_set_push_function(s->session, push);
	gnutls_transport_set_pull_function(s->session, pull);
	gnutls_transport_set_pull_timeout_function(s->session, pull_timeout);
	/* Taken by ngtcp2's conn_ref in the program: nothing of ours may lean on it. */
	gnutls_session_set_ptr(s->session, (void *)(uintptr_t)0xdead);
}

static void note_server_name(struct pair_outcome *out, gnutls_session_t session)
{
	unsigned count = 0;
	const gnutls_datum_t *peers = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t crt;
	size_t len = sizeof(out->server_name) - 1;

	if (peers == NULL) {
		return;
	}
	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	assert_int_equal(gnutls_x509_crt_import(crt, &peers[0], GNUTLS_X509_FMT_DER), 0);
	(void)gnutls_x509_crt_get_subject_alt_name(crt, 0, out->server_name, &len, NULL);
	gnutls_x509_crt_deinit(crt);
}

void pair_shake(struct pair_outcome *out, struct mt_tls_server *server,
	struct mt_tls_client *client, struct pair_door *door)
{
	static _Thread_local struct pipe up;
	static _Thread_local struct pipe down;
	struct mt_tls_session at_server;
	struct mt_tls_session at_client;
	struct wire server_wire = {.in = &up, .out = &down};
	struct wire client_wire = {.in = &down, .out = &up};
	char byte;
	ssize_t n;

	memset(out, 0, sizeof(*out));
	out->alert_at_client = -1;
	out->alert_at_server = -1;
	up.len = 0;
	down.len = 0;
	assert_int_equal(
		mt_tls_session_init_server(&at_server, server, door ? on_authorize : NULL, door),
		0);
	assert_int_equal(mt_tls_session_init_client(&at_client, client), 0);
	attach(&at_server, &server_wire);
	if (pair_tweak_client != NULL) {
		pair_tweak_client(&at_client);
	}
	if (pair_presented != NULL) {
		gnutls_handshake_set_post_client_hello_function(at_server.session, on_hello);
	}
	attach(&at_client, &client_wire);
	out->server_rc = GNUTLS_E_AGAIN;
	out->client_rc = GNUTLS_E_AGAIN;
	for (int i = 0; i < 20; i++) {
		out->client_rc = step(&at_client, out->client_rc, &out->alert_at_client);
		out->server_rc = step(&at_server, out->server_rc, &out->alert_at_server);
	}
	if (out->client_rc ==
		0) { /* an alert to the client's certificate comes behind its Finished */
		n = gnutls_record_recv(at_client.session, &byte, 1);
		if (n == GNUTLS_E_FATAL_ALERT_RECEIVED) {
			out->alert_at_client = (int)gnutls_alert_get(at_client.session);
		}
	}
	note_server_name(out, at_client.session);
	out->client_error = at_client.error;
	out->has_fingerprint = at_server.has_fingerprint;
	mt_tls_session_deinit(&at_server);
	mt_tls_session_deinit(&at_client);
	assert_null(at_server.session);
	assert_null(at_client.session);
}

int pair_setup(void **state)
{
	struct pair_fixture *f = calloc(1, sizeof(*f));
	gnutls_datum_t der = {NULL, 0};
	gnutls_datum_t pem;

	assert_non_null(f);
	assert_int_equal(mt_pki_make_ca(&f->ca_cert, &f->ca_key), 0);
	assert_int_equal(mt_pki_make_server(f->ca_cert, f->ca_key, &f->chain, &f->key), 0);
	pem.data = (unsigned char *)f->ca_cert;
	pem.size = (unsigned)strlen(f->ca_cert);
	assert_int_equal(gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der), 0);
	assert_int_equal(mt_identity_fingerprint_der(&der, f->pin), 0);
	gnutls_free(der.data);
	assert_int_equal(mt_identity_generate(f->client_key), 0);
	assert_int_equal(mt_identity_fingerprint(f->client_key, f->client_fingerprint), 0);
	*state = f;
	return 0;
}

int pair_teardown(void **state)
{
	struct pair_fixture *f = *state;

	free(f->ca_cert);
	free(f->ca_key);
	free(f->chain);
	free(f->key);
	free(f);
	return 0;
}

struct mt_tls_server *pair_make_server(const struct pair_fixture *f, bool require_identity)
{
	const struct mt_tls_server_config config = {
		.appliance_chain = f->chain,
		.appliance_key = f->key,
		.require_identity = require_identity,
	};
	struct mt_tls_server *server = NULL;

	assert_int_equal(mt_tls_server_new(&server, &config), 0);
	return server;
}

struct mt_tls_client *pair_make_client(const struct pair_fixture *f, bool has_key)
{
	struct mt_tls_client_config config = {
		.has_key = has_key, .host = "127.0.0.1", .pin_count = 1};
	struct mt_tls_client *client = NULL;

	memcpy(config.key, f->client_key, sizeof(config.key));
	memcpy(config.pins[0], f->pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	return client;
}
