/* links: proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c proto/wire/encode.c
 * store/pki.c tests/unit/cert_maker.c -Wl,--wrap=gnutls_certificate_set_x509_system_trust
 */
#include "proto/quic/tls.h"

#include "proto/wire/request.h"
#include "store/pki.h"
#include "tests/unit/cert_maker.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#define PIPE_MAX 65536

/* One direction of a connection in memory. */
struct pipe {
	uint8_t data[PIPE_MAX];
	size_t len;
	gnutls_session_t writer;
	gnutls_session_t reader;
};

struct fixture {
	char *ca_cert;
	char *ca_key;
	char *chain;
	char *key;
	uint8_t pin[MT_PIN_LEN];
	uint8_t client_key[MT_KEY_LEN];
	uint8_t client_fingerprint[MT_FINGERPRINT_LEN];
};

/* What the server's user was asked, and what it answers. */
struct door {
	int answer;
	unsigned calls;
	bool had_fingerprint;
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
};

struct outcome {
	int server_rc;
	int client_rc;
	int alert_at_client; /* what the client received, -1 for none */
	int alert_at_server;
	int client_error;
	bool has_fingerprint;
	unsigned char server_name[128]; /* of the certificate that the client saw */
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
	struct door *door = user;

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

/* What the server shows instead of its own; NULL: its own. */
static gnutls_certificate_credentials_t presented;

/* Makes the client's session another client's than ours; NULL: ours. */
static void (*tweak_client)(struct mt_tls_session *client);

static int on_hello(gnutls_session_t session)
{
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, presented);
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

static void note_server_name(struct outcome *out, gnutls_session_t session)
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

static void shake(struct outcome *out, struct mt_tls_server *server, struct mt_tls_client *client,
	struct door *door)
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
	if (tweak_client != NULL) {
		tweak_client(&at_client);
	}
	if (presented != NULL) {
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

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
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

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->ca_cert);
	free(f->ca_key);
	free(f->chain);
	free(f->key);
	free(f);
	return 0;
}

static struct mt_tls_server *make_server(const struct fixture *f, bool require_identity)
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

static struct mt_tls_client *make_client(const struct fixture *f, bool has_key)
{
	struct mt_tls_client_config config = {
		.has_key = has_key, .host = "127.0.0.1", .pin_count = 1};
	struct mt_tls_client *client = NULL;

	memcpy(config.key, f->client_key, sizeof(config.key));
	memcpy(config.pins[0], f->pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	return client;
}

static void test_handshake_good(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client = make_client(f, true);
	struct door door = {0};
	struct outcome out;

	shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(out.server_rc, 0);
	assert_int_equal(out.alert_at_client, -1);
	assert_true(out.has_fingerprint);
	assert_int_equal(door.calls, 1);
	assert_memory_equal(door.fingerprint, f->client_fingerprint, MT_FINGERPRINT_LEN);
	assert_string_equal((char *)out.server_name, MT_PINNED_NAME);
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

static void test_handshake_refused_identity(void **state)
{
	static const int alerts[] = {GNUTLS_A_ACCESS_DENIED, GNUTLS_A_CERTIFICATE_REVOKED,
		GNUTLS_A_CERTIFICATE_EXPIRED, GNUTLS_A_UNKNOWN_CA};
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client = make_client(f, true);

	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		struct door door = {.answer = alerts[i]};
		struct outcome out;

		shake(&out, server, client, &door);
		assert_int_equal(out.server_rc, GNUTLS_E_CERTIFICATE_ERROR);
		assert_int_equal(out.alert_at_client, alerts[i]);
		assert_int_equal(door.calls, 1);
		assert_true(mt_tls_alert_is_permanent(out.alert_at_client));
	}
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

static void test_handshake_no_certificate(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client = make_client(f, false);
	struct door door = {0};
	struct outcome out;

	shake(&out, server, client, &door);
	assert_true(out.server_rc < 0);
	assert_int_equal(out.alert_at_client, GNUTLS_A_CERTIFICATE_REQUIRED);
	assert_int_equal(door.calls, 0);
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

static void test_handshake_open_tunnel(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, false);
	struct mt_tls_client *nobody = make_client(f, false);
	struct mt_tls_client *somebody = make_client(f, true);
	struct door door = {0};
	struct outcome out;

	shake(&out, server, nobody, &door);
	assert_int_equal(out.server_rc, 0);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(door.calls, 1);
	assert_false(door.had_fingerprint);
	assert_false(out.has_fingerprint);

	door.answer = GNUTLS_A_ACCESS_DENIED;
	shake(&out, server, nobody, &door);
	assert_int_equal(out.alert_at_client, GNUTLS_A_ACCESS_DENIED);

	door.answer = 0;
	shake(&out, server, somebody, &door);
	assert_int_equal(out.server_rc, 0);
	assert_true(door.had_fingerprint);
	mt_tls_server_unref(server);
	mt_tls_client_unref(nobody);
	mt_tls_client_unref(somebody);
}

static void test_handshake_pins(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client_config config = {.has_key = true, .host = "127.0.0.1", .pin_count = 3};
	struct mt_tls_client *client = NULL;
	struct door door = {0};
	struct outcome out;

	memcpy(config.key, f->client_key, sizeof(config.key));
	memset(config.pins, 0x55, sizeof(config.pins));
	memcpy(config.pins[2], f->pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(out.server_rc, 0);
	mt_tls_client_unref(client);

	config.pins[2][0] ^= 1;
	door.calls = 0;
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, GNUTLS_E_CERTIFICATE_ERROR);
	assert_int_equal(out.client_error, MT_E_PIN);
	assert_int_equal(out.alert_at_server, GNUTLS_A_UNKNOWN_CA);
	assert_int_equal(door.calls, 0);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

/* Presents a chain exactly as given, which mt_tls_server_new would not. */
static void present(const char *chain, const char *key)
{
	gnutls_pcert_st certs[4];
	unsigned count = 4;
	gnutls_privkey_t privkey = NULL;
	gnutls_datum_t text = {
		.data = (unsigned char *)strdup(chain), .size = (unsigned)strlen(chain)};
	gnutls_datum_t key_text = {
		.data = (unsigned char *)strdup(key), .size = (unsigned)strlen(key)};

	assert_int_equal(
		gnutls_pcert_list_import_x509_raw(certs, &count, &text, GNUTLS_X509_FMT_PEM, 0), 0);
	assert_int_equal(gnutls_privkey_init(&privkey), 0);
	assert_int_equal(
		gnutls_privkey_import_x509_raw(privkey, &key_text, GNUTLS_X509_FMT_PEM, NULL, 0),
		0);
	assert_int_equal(gnutls_certificate_allocate_credentials(&presented), 0);
	assert_true(
		gnutls_certificate_set_key(presented, NULL, 0, certs, (int)count, privkey) >= 0);
	free(text.data);
	free(key_text.data);
}

static void check_presented(struct mt_tls_client *client, const struct fixture *f,
	const char *chain, const char *key, int want)
{
	struct mt_tls_server *server = make_server(f, true);
	struct door door = {0};
	struct outcome out;

	present(chain, key);
	shake(&out, server, client, &door);
	assert_int_equal(out.client_error, want);
	assert_int_equal(out.client_rc == 0, want == 0);
	gnutls_certificate_free_credentials(presented);
	presented = NULL;
	mt_tls_server_unref(server);
}

/* The pinned key appears at the end of the chain, but did not make the chain. */
static void test_handshake_borrowed_authority(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_client *client = make_client(f, true);
	struct cert_spec fake_ca = {.common_name = "MyTunnel appliance authority", .is_ca = true};
	struct cert_spec wrap = fake_ca;
	char *fake_cert = NULL;
	char *fake_key = NULL;
	char *wrap_cert = NULL;
	char *wrap_key = NULL;
	char *leaf = NULL;
	char *leaf_key = NULL;
	char *chain = NULL;

	check_presented(client, f, f->chain, f->key, 0);

	/* A stranger's leaf in front of the true authority. */
	assert_int_equal(mt_pki_make_ca(&fake_cert, &fake_key), 0);
	assert_int_equal(mt_pki_make_server(fake_cert, fake_key, &leaf, &leaf_key), 0);
	leaf[strlen(leaf) - strlen(fake_cert)] = '\0';
	chain = cert_join(leaf, f->ca_cert);
	check_presented(client, f, chain, leaf_key, MT_E_TLS);
	free(chain);

	/* A stranger's authority behind the true one. */
	chain = cert_join(f->chain, fake_cert);
	check_presented(client, f, chain, f->key, MT_E_PIN);
	free(chain);
	free(fake_cert);
	free(fake_key);

	/* The true leaf, and a certificate that somebody else made for the authority's public key.
	 */
	cert_make(&fake_ca, &fake_cert, &fake_key);
	wrap.subject_key = f->ca_key;
	wrap.issuer_cert = fake_cert;
	wrap.issuer_key = fake_key;
	cert_make(&wrap, &wrap_cert, &wrap_key);
	chain = strndup(f->chain, strlen(f->chain) - strlen(f->ca_cert));
	leaf = realloc(leaf, strlen(chain) + strlen(wrap_cert) + 1);
	assert_non_null(leaf);
	memcpy(leaf, chain, strlen(chain));
	memcpy(leaf + strlen(chain), wrap_cert, strlen(wrap_cert) + 1);
	check_presented(client, f, leaf, f->key, MT_E_PIN);
	check_presented(client, f, chain, f->key, MT_E_PIN);
	free(chain);
	free(wrap_cert);
	free(wrap_key);

	/* An authority alone, playing the server. */
	wrap = (struct cert_spec){.common_name = "MyTunnel appliance authority",
		.is_ca = true,
		.dns = MT_PINNED_NAME,
		.subject_key = f->ca_key};
	cert_make(&wrap, &wrap_cert, &wrap_key);
	check_presented(client, f, wrap_cert, wrap_key, MT_E_TLS);
	free(wrap_cert);
	free(wrap_key);
	free(fake_cert);
	free(fake_key);
	free(leaf);
	free(leaf_key);
	mt_tls_client_unref(client);
}

/* What the system trusts, for these tests. */
static const char *system_trust;

int __wrap_gnutls_certificate_set_x509_system_trust(gnutls_certificate_credentials_t credentials);
int __wrap_gnutls_certificate_set_x509_system_trust(gnutls_certificate_credentials_t credentials)
{
	union {
		const char *in;
		uint8_t *out;
	} alias = {.in = system_trust};
	gnutls_datum_t text = {.data = alias.out, .size = (unsigned)strlen(system_trust)};

	return gnutls_certificate_set_x509_trust_mem(credentials, &text, GNUTLS_X509_FMT_PEM);
}

static struct mt_tls_client *make_client_for(const struct fixture *f, const char *host)
{
	struct mt_tls_client_config config = {.has_key = true, .host = host};
	struct mt_tls_client *client = NULL;

	memcpy(config.key, f->client_key, sizeof(config.key));
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	return client;
}

static void test_handshake_imported(void **state)
{
	static const struct {
		const char *host;
		bool good;
	} cases[] = {
		{"vpn.example.org", true},
		{"VPN.example.org", true},
		{"192.0.2.7", true},
		{"192.0.2.8", false},
		{"2001:db8::1", false},
		{"other.example.org", false},
	};
	const struct fixture *f = *state;
	struct mt_tls_server_config config = {
		.appliance_chain = f->chain,
		.appliance_key = f->key,
		.require_identity = true,
	};
	struct cert_spec ca = {
		.common_name = "Public CA", .is_ca = true, .usage = GNUTLS_KEY_KEY_CERT_SIGN};
	struct cert_spec leaf = {
		.common_name = "vpn",
		.dns = "vpn.example.org",
		.ip = "192.0.2.7",
		.purpose = GNUTLS_KP_TLS_WWW_SERVER,
		.usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
	};
	struct mt_tls_server *server = NULL;
	struct mt_tls_client *client;
	struct door door = {0};
	struct outcome out;
	char *ca_cert = NULL;
	char *ca_key = NULL;
	char *cert = NULL;
	char *key = NULL;

	for (unsigned rsa_bits = 0; rsa_bits <= 2048; rsa_bits += 2048) {
		cert_make(&ca, &ca_cert, &ca_key);
		leaf.issuer_cert = ca_cert;
		leaf.issuer_key = ca_key;
		leaf.rsa_bits = rsa_bits;
		cert_make(&leaf, &cert, &key);
		config.imported_chain = cert;
		config.imported_key = key;
		assert_int_equal(mt_tls_server_new(&server, &config), 0);
		system_trust = ca_cert;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			client = make_client_for(f, cases[i].host);
			shake(&out, server, client, &door);
			assert_string_equal((char *)out.server_name, "vpn.example.org");
			assert_int_equal(out.client_rc == 0, cases[i].good);
			assert_int_equal(out.client_error, cases[i].good ? 0 : MT_E_TLS);
			mt_tls_client_unref(client);
		}
		/* Pinned profiles keep working beside it, and there is no way from one to the
		 * other. */
		client = make_client(f, true);
		shake(&out, server, client, &door);
		assert_int_equal(out.client_rc, 0);
		assert_string_equal((char *)out.server_name, MT_PINNED_NAME);
		mt_tls_client_unref(client);
		system_trust = f->ca_cert;
		client = make_client_for(f, "vpn.example.org");
		shake(&out, server, client, &door);
		assert_int_equal(out.client_error, MT_E_TLS);
		assert_int_equal(out.alert_at_server, GNUTLS_A_UNKNOWN_CA);
		mt_tls_client_unref(client);
		mt_tls_server_unref(server);
		free(ca_cert);
		free(ca_key);
		free(cert);
		free(key);
	}
}

/* Without an imported certificate an unpinned client sees the appliance's and does not trust it. */
static void test_handshake_unpinned_appliance(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client;
	struct door door = {0};
	struct outcome out;

	system_trust = f->ca_cert;
	client = make_client_for(f, "vpn.example.org");
	shake(&out, server, client, &door);
	assert_int_equal(out.client_error, MT_E_TLS);
	assert_string_equal((char *)out.server_name, MT_PINNED_NAME);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

/* The pinned authority signed it, but it is not for servers, not for this name, or out of date. */
static void test_handshake_pinned_bad_leaf(void **state)
{
	const struct fixture *f = *state;
	const struct cert_spec specs[] = {
		{.common_name = "a",
			.dns = "other.example.org",
			.purpose = GNUTLS_KP_TLS_WWW_SERVER},
		{.common_name = "b", .dns = MT_PINNED_NAME, .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
		{.common_name = "c",
			.dns = MT_PINNED_NAME,
			.not_before = 1000000000,
			.not_after = 1100000000},
	};
	struct mt_tls_client *client = make_client(f, true);

	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct mt_tls_server_config config = {.require_identity = true};
		struct cert_spec spec = specs[i];
		struct mt_tls_server *server = NULL;
		struct door door = {0};
		struct outcome out;
		char *cert = NULL;
		char *key = NULL;
		char *chain;

		spec.issuer_cert = f->ca_cert;
		spec.issuer_key = f->ca_key;
		cert_make(&spec, &cert, &key);
		chain = cert_join(cert, f->ca_cert);
		config.appliance_chain = chain;
		config.appliance_key = key;
		assert_int_equal(mt_tls_server_new(&server, &config), 0);
		shake(&out, server, client, &door);
		assert_true(out.client_rc < 0);
		assert_int_equal(out.client_error, MT_E_TLS);
		assert_int_equal(door.calls, 0);
		mt_tls_server_unref(server);
		free(chain);
		free(cert);
		free(key);
	}
	mt_tls_client_unref(client);
}

static void test_server_new_mismatch(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server_config config = {
		.appliance_chain = f->chain, .appliance_key = f->ca_key};
	struct mt_tls_server *server = NULL;

	assert_int_equal(mt_tls_server_new(&server, &config), MT_E_TLS);
	config.appliance_key = "nonsense";
	assert_int_equal(mt_tls_server_new(&server, &config), MT_E_TLS);
	config.appliance_key = f->key;
	config.imported_chain = f->chain;
	config.imported_key = f->ca_key;
	assert_int_equal(mt_tls_server_new(&server, &config), MT_E_TLS);
	assert_null(server);
	mt_tls_server_unref(NULL);
	mt_tls_client_unref(NULL);
}

/* Credentials may be dropped by their owner while a session still uses them. */
static void test_session_keeps_credentials(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_session session;

	assert_int_equal(mt_tls_session_init_server(&session, server, NULL, NULL), 0);
	mt_tls_server_unref(server);
	mt_tls_session_deinit(&session);
	mt_tls_session_deinit(&session);
}

static gnutls_certificate_credentials_t other_identity;

static void start_plain(struct mt_tls_session *client)
{
	gnutls_deinit(client->session);
	assert_int_equal(gnutls_init(&client->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	assert_int_equal(gnutls_set_default_priority(client->session), 0);
	assert_int_equal(
		gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, other_identity), 0);
}

static void speak_http(struct mt_tls_session *client)
{
	const gnutls_datum_t alpn = {.data = (unsigned char *)"h3", .size = 2};

	start_plain(client);
	assert_int_equal(gnutls_alpn_set_protocols(client->session, &alpn, 1, 0), 0);
}

static void test_handshake_other_protocol(void **state)
{
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client = make_client(f, true);
	struct door door = {0};
	struct outcome out;

	assert_int_equal(gnutls_certificate_allocate_credentials(&other_identity), 0);
	for (int i = 0; i < 2; i++) {
		tweak_client = i == 0 ? speak_http : start_plain;
		shake(&out, server, client, &door);
		tweak_client = NULL;
		assert_true(out.server_rc < 0);
		assert_int_equal(out.alert_at_client, GNUTLS_A_NO_APPLICATION_PROTOCOL);
		assert_int_equal(door.calls, 0);
	}
	gnutls_certificate_free_credentials(other_identity);
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

static void show_other_identity(struct mt_tls_session *client)
{
	assert_int_equal(
		gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, other_identity), 0);
}

/* Dates and names of a client's certificate do not matter, the kind of its key does. */
static void test_handshake_client_certificates(void **state)
{
	static const struct {
		struct cert_spec spec;
		int alert;
	} cases[] = {
		{{.common_name = "old", .not_before = 1000000000, .not_after = 1100000000}, -1},
		{{.common_name = "young", .not_before = 4000000000, .not_after = 4100000000}, -1},
		{{.common_name = "rsa", .rsa_bits = 2048}, GNUTLS_A_UNSUPPORTED_CERTIFICATE},
	};
	const struct fixture *f = *state;
	struct mt_tls_server *server = make_server(f, true);
	struct mt_tls_client *client = make_client(f, true);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct door door = {0};
		struct outcome out;
		char *cert = NULL;
		char *key = NULL;
		gnutls_datum_t cert_pem;
		gnutls_datum_t key_pem;

		cert_make(&cases[i].spec, &cert, &key);
		cert_pem = (gnutls_datum_t){(unsigned char *)cert, (unsigned)strlen(cert)};
		key_pem = (gnutls_datum_t){(unsigned char *)key, (unsigned)strlen(key)};
		assert_int_equal(gnutls_certificate_allocate_credentials(&other_identity), 0);
		assert_true(gnutls_certificate_set_x509_key_mem(
				    other_identity, &cert_pem, &key_pem, GNUTLS_X509_FMT_PEM) >= 0);
		tweak_client = show_other_identity;
		shake(&out, server, client, &door);
		tweak_client = NULL;
		assert_int_equal(out.alert_at_client, cases[i].alert);
		assert_int_equal(door.calls, cases[i].alert == -1 ? 1 : 0);
		gnutls_certificate_free_credentials(other_identity);
		free(cert);
		free(key);
	}
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

struct shared {
	struct mt_tls_server *server;
	struct mt_tls_client *client;
};

static void *shake_many(void *user)
{
	struct shared *shared = user;
	struct door door = {0};
	struct outcome out;
	uintptr_t good = 0;

	for (int i = 0; i < 10; i++) {
		shake(&out, shared->server, shared->client, &door);
		good += out.server_rc == 0 && out.client_rc == 0;
	}
	return (void *)good;
}

static void test_credentials_shared_by_threads(void **state)
{
	const struct fixture *f = *state;
	struct shared shared = {make_server(f, true), make_client(f, true)};
	pthread_t threads[3];
	void *good = NULL;

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, shake_many, &shared), 0);
	}
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], &good), 0);
		assert_int_equal((uintptr_t)good, 10);
	}
	mt_tls_server_unref(shared.server);
	mt_tls_client_unref(shared.client);
}

static void test_alert_text_unknown(void **state)
{
	(void)state;
	assert_non_null(mt_tls_alert_text(-1));
	assert_false(mt_tls_alert_is_permanent(-1));
	assert_string_equal(
		mt_tls_alert_text(GNUTLS_A_CERTIFICATE_REVOKED), "this identity has been revoked");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_good),
		cmocka_unit_test(test_handshake_refused_identity),
		cmocka_unit_test(test_handshake_no_certificate),
		cmocka_unit_test(test_handshake_open_tunnel),
		cmocka_unit_test(test_handshake_pins),
		cmocka_unit_test(test_handshake_borrowed_authority),
		cmocka_unit_test(test_handshake_imported),
		cmocka_unit_test(test_handshake_unpinned_appliance),
		cmocka_unit_test(test_handshake_pinned_bad_leaf),
		cmocka_unit_test(test_server_new_mismatch),
		cmocka_unit_test(test_session_keeps_credentials),
		cmocka_unit_test(test_handshake_other_protocol),
		cmocka_unit_test(test_handshake_client_certificates),
		cmocka_unit_test(test_credentials_shared_by_threads),
		cmocka_unit_test(test_alert_text_unknown),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
