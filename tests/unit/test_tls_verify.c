/* links: proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c proto/wire/encode.c
 * store/pki.c tests/unit/cert_maker.c tests/unit/tls_pair.c
 * -Wl,--wrap=gnutls_certificate_set_x509_system_trust -Wl,--wrap=gnutls_x509_crt_verify
 * -Wl,--wrap=time -Wl,--wrap=mt_identity_fingerprint_client
 */
#include "proto/quic/tls_verify.h"

#include "proto/wire/request.h"
#include "store/pki.h"
#include "tests/unit/cert_maker.h"
#include "tests/unit/tls_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>

static void test_handshake_pins(void **state)
{
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client_config config = {.has_key = true, .host = "127.0.0.1", .pin_count = 3};
	struct mt_tls_client *client = NULL;
	struct pair_door door = {0};
	struct pair_outcome out;

	memcpy(config.key, f->client_key, sizeof(config.key));
	memset(config.pins, 0x55, sizeof(config.pins));
	memcpy(config.pins[2], f->pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(out.server_rc, 0);
	mt_tls_client_unref(client);

	config.pins[2][0] ^= 1;
	door.calls = 0;
	assert_int_equal(mt_tls_client_new(&client, &config), 0);
	pair_shake(&out, server, client, &door);
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
	assert_int_equal(gnutls_certificate_allocate_credentials(&pair_presented), 0);
	assert_true(gnutls_certificate_set_key(
			    pair_presented, NULL, 0, certs, (int)count, privkey) >= 0);
	free(text.data);
	free(key_text.data);
}

static void check_presented(struct mt_tls_client *client, const struct pair_fixture *f,
	const char *chain, const char *key, int want)
{
	struct mt_tls_server *server = pair_make_server(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;

	present(chain, key);
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.client_error, want);
	assert_int_equal(out.client_rc == 0, want == 0);
	gnutls_certificate_free_credentials(pair_presented);
	pair_presented = NULL;
	mt_tls_server_unref(server);
}

/* The pinned key appears at the end of the chain, but did not make the chain. */
static void test_handshake_borrowed_authority(void **state)
{
	const struct pair_fixture *f = *state;
	struct mt_tls_client *client = pair_make_client(f, true);
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

static struct mt_tls_client *make_client_for(const struct pair_fixture *f, const char *host)
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
	const struct pair_fixture *f = *state;
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
	struct pair_door door = {0};
	struct pair_outcome out;
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
			pair_shake(&out, server, client, &door);
			assert_string_equal((char *)out.server_name, "vpn.example.org");
			assert_int_equal(out.client_rc == 0, cases[i].good);
			assert_int_equal(out.client_error, cases[i].good ? 0 : MT_E_TLS);
			mt_tls_client_unref(client);
		}
		/* Pinned profiles keep working beside it, and there is no way from one to the
		 * other. */
		client = pair_make_client(f, true);
		pair_shake(&out, server, client, &door);
		assert_int_equal(out.client_rc, 0);
		assert_string_equal((char *)out.server_name, MT_PINNED_NAME);
		mt_tls_client_unref(client);
		system_trust = f->ca_cert;
		client = make_client_for(f, "vpn.example.org");
		pair_shake(&out, server, client, &door);
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client;
	struct pair_door door = {0};
	struct pair_outcome out;

	system_trust = f->ca_cert;
	client = make_client_for(f, "vpn.example.org");
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.client_error, MT_E_TLS);
	assert_string_equal((char *)out.server_name, MT_PINNED_NAME);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

/* The pinned authority signed it, but it is not for servers, not for this name, or out of date. */
static void test_handshake_pinned_bad_leaf(void **state)
{
	const struct pair_fixture *f = *state;
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
	struct mt_tls_client *client = pair_make_client(f, true);

	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct mt_tls_server_config config = {.require_identity = true};
		struct cert_spec spec = specs[i];
		struct mt_tls_server *server = NULL;
		struct pair_door door = {0};
		struct pair_outcome out;
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
		pair_shake(&out, server, client, &door);
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

static unsigned verified;

int __wrap_gnutls_x509_crt_verify(gnutls_x509_crt_t crt, const gnutls_x509_crt_t *cas, unsigned n,
	unsigned flags, unsigned *status);
int __real_gnutls_x509_crt_verify(gnutls_x509_crt_t crt, const gnutls_x509_crt_t *cas, unsigned n,
	unsigned flags, unsigned *status);

/* The authority's own signature: the first step with every chain that has to be proven. */
int __wrap_gnutls_x509_crt_verify(gnutls_x509_crt_t crt, const gnutls_x509_crt_t *cas, unsigned n,
	unsigned flags, unsigned *status)
{
	verified++;
	return __real_gnutls_x509_crt_verify(crt, cas, n, flags, status);
}

static time_t shift;

time_t __wrap_time(time_t *out);
time_t __real_time(time_t *out);

time_t __wrap_time(time_t *out)
{
	time_t now = __real_time(NULL) + shift;

	if (out != NULL) {
		*out = now;
	}
	return now;
}

/* A chain is proven once; another one, and the same one outside its dates, is judged anew. */
static void test_handshake_proven_chain(void **state)
{
	const struct pair_fixture *f = *state;
	struct cert_spec spec = {.common_name = "a",
		.dns = MT_PINNED_NAME,
		.purpose = GNUTLS_KP_TLS_WWW_CLIENT,
		.issuer_cert = f->ca_cert,
		.issuer_key = f->ca_key};
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;
	char *cert = NULL;
	char *key = NULL;
	char *chain;

	verified = 0;
	for (int i = 0; i < 3; i++) {
		pair_shake(&out, server, client, &door);
		assert_int_equal(out.client_rc, 0);
		assert_int_equal(verified, 1);
	}

	/* Of the same authority, but not for servers: refused every time, and the first one is
	 * still known. */
	cert_make(&spec, &cert, &key);
	chain = cert_join(cert, f->ca_cert);
	for (unsigned i = 0; i < 2; i++) {
		check_presented(client, f, chain, key, MT_E_TLS);
		assert_int_equal(verified, 2 + i);
	}
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(verified, 3);

	shift = 100 * 365 * 86400L;
	gnutls_global_set_time_function(__wrap_time);
	pair_shake(&out, server, client, &door);
	shift = 0;
	gnutls_global_set_time_function(__real_time);
	assert_int_equal(out.client_error, MT_E_TLS);
	assert_int_equal(verified, 4);
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(verified, 4);
	free(chain);
	free(cert);
	free(key);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

static unsigned taken_apart;

int __wrap_mt_identity_fingerprint_client(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN]);
int __real_mt_identity_fingerprint_client(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN]);

int __wrap_mt_identity_fingerprint_client(
	const gnutls_datum_t *certificate, uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	taken_apart++;
	return __real_mt_identity_fingerprint_client(certificate, fingerprint);
}

/* A client's certificate is taken apart once; whether its key may come in is asked every time. */
static void test_handshake_known_client(void **state)
{
	enum { OTHERS = 2 * MT_TLS_KNOWN }; /* more than are remembered */
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;
	uint8_t key[MT_KEY_LEN];
	uint8_t fingerprint[MT_FINGERPRINT_LEN];

	taken_apart = 0;
	for (unsigned i = 1; i <= 3; i++) {
		pair_shake(&out, server, client, &door);
		assert_int_equal(out.server_rc, 0);
		assert_int_equal(door.calls, i);
		assert_memory_equal(door.fingerprint, f->client_fingerprint, MT_FINGERPRINT_LEN);
	}
	assert_int_equal(taken_apart, 1);
	door.answer = GNUTLS_A_CERTIFICATE_REVOKED;
	pair_shake(&out, server, client, &door);
	assert_int_equal(out.alert_at_client, GNUTLS_A_CERTIFICATE_REVOKED);
	door.answer = 0;
	assert_int_equal(taken_apart, 1);

	for (unsigned i = 0; i < OTHERS; i++) {
		struct mt_tls_client_config config = {.has_key = true, .pin_count = 1};
		struct mt_tls_client *other = NULL;

		assert_int_equal(mt_identity_generate(key), 0);
		assert_int_equal(mt_identity_fingerprint(key, fingerprint), 0);
		memcpy(config.key, key, sizeof(key));
		memcpy(config.pins[0], f->pin, MT_PIN_LEN);
		assert_int_equal(mt_tls_client_new(&other, &config), 0);
		pair_shake(&out, server, other, &door);
		assert_int_equal(out.server_rc, 0);
		assert_memory_equal(door.fingerprint, fingerprint, MT_FINGERPRINT_LEN);
		mt_tls_client_unref(other);
	}
	assert_int_equal(taken_apart, 1 + OTHERS);
	pair_shake(&out, server, client, &door);
	assert_memory_equal(door.fingerprint, f->client_fingerprint, MT_FINGERPRINT_LEN);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

static gnutls_certificate_credentials_t shown; /* by the client, instead of its own */

static void show(struct mt_tls_session *client)
{
	assert_int_equal(gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, shown), 0);
}

/* The certificate of `theirs` with another key. */
static gnutls_certificate_credentials_t steal(gnutls_certificate_credentials_t theirs)
{
	gnutls_certificate_credentials_t stolen = NULL;
	gnutls_x509_privkey_t privkey = NULL;
	gnutls_x509_crt_t *list = NULL;
	uint8_t key[MT_KEY_LEN];
	unsigned count = 0;

	assert_int_equal(mt_identity_generate(key), 0);
	assert_int_equal(mt_identity_privkey(key, &privkey), 0);
	assert_int_equal(gnutls_certificate_get_x509_crt(theirs, 0, &list, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(gnutls_certificate_allocate_credentials(&stolen), 0);
	gnutls_certificate_set_flags(stolen, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
	assert_int_equal(gnutls_certificate_set_x509_key(stolen, list, 1, privkey), 0);
	gnutls_x509_crt_deinit(list[0]);
	gnutls_free(list);
	gnutls_x509_privkey_deinit(privkey);
	return stolen;
}

/* A certificate is no secret: who shows one that the server remembers, and cannot sign with its
 * key, stays outside. */
static void test_handshake_stolen_certificate(void **state)
{
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;
	gnutls_certificate_credentials_t theirs = NULL;
	gnutls_certificate_credentials_t stolen;

	assert_int_equal(mt_identity_credentials(f->client_key, &theirs), 0);
	stolen = steal(theirs);
	pair_tweak_client = show;
	taken_apart = 0;
	for (unsigned i = 0; i < 2; i++) {
		shown = theirs;
		pair_shake(&out, server, client, &door);
		assert_int_equal(out.server_rc, 0);
		assert_memory_equal(door.fingerprint, f->client_fingerprint, MT_FINGERPRINT_LEN);
		shown = stolen;
		pair_shake(&out, server, client, &door);
		assert_true(out.server_rc < 0 && out.server_rc != GNUTLS_E_AGAIN);
		assert_int_equal(out.alert_at_client, GNUTLS_A_DECRYPT_ERROR);
		assert_int_equal(taken_apart, 1);
	}
	pair_tweak_client = NULL;
	gnutls_certificate_free_credentials(stolen);
	gnutls_certificate_free_credentials(theirs);
	mt_tls_client_unref(client);
	mt_tls_server_unref(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_pins),
		cmocka_unit_test(test_handshake_borrowed_authority),
		cmocka_unit_test(test_handshake_imported),
		cmocka_unit_test(test_handshake_unpinned_appliance),
		cmocka_unit_test(test_handshake_pinned_bad_leaf),
		cmocka_unit_test(test_handshake_proven_chain),
		cmocka_unit_test(test_handshake_known_client),
		cmocka_unit_test(test_handshake_stolen_certificate),
	};

	return cmocka_run_group_tests(tests, pair_setup, pair_teardown);
}
