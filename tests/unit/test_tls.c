/* links: proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c proto/wire/encode.c
 * store/pki.c tests/unit/cert_maker.c tests/unit/tls_pair.c */
#include "proto/quic/tls.h"

#include "proto/wire/request.h"
#include "tests/unit/cert_maker.h"
#include "tests/unit/tls_pair.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_handshake_good(void **state)
{
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;

	pair_shake(&out, server, client, &door);
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);

	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		struct pair_door door = {.answer = alerts[i]};
		struct pair_outcome out;

		pair_shake(&out, server, client, &door);
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, false);
	struct pair_door door = {0};
	struct pair_outcome out;

	pair_shake(&out, server, client, &door);
	assert_true(out.server_rc < 0);
	assert_int_equal(out.alert_at_client, GNUTLS_A_CERTIFICATE_REQUIRED);
	assert_int_equal(door.calls, 0);
	mt_tls_server_unref(server);
	mt_tls_client_unref(client);
}

static void test_handshake_open_tunnel(void **state)
{
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, false);
	struct mt_tls_client *nobody = pair_make_client(f, false);
	struct mt_tls_client *somebody = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;

	pair_shake(&out, server, nobody, &door);
	assert_int_equal(out.server_rc, 0);
	assert_int_equal(out.client_rc, 0);
	assert_int_equal(door.calls, 1);
	assert_false(door.had_fingerprint);
	assert_false(out.has_fingerprint);

	door.answer = GNUTLS_A_ACCESS_DENIED;
	pair_shake(&out, server, nobody, &door);
	assert_int_equal(out.alert_at_client, GNUTLS_A_ACCESS_DENIED);

	door.answer = 0;
	pair_shake(&out, server, somebody, &door);
	assert_int_equal(out.server_rc, 0);
	assert_true(door.had_fingerprint);
	mt_tls_server_unref(server);
	mt_tls_client_unref(nobody);
	mt_tls_client_unref(somebody);
}

static void test_server_new_mismatch(void **state)
{
	const struct pair_fixture *f = *state;
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);
	struct pair_door door = {0};
	struct pair_outcome out;

	assert_int_equal(gnutls_certificate_allocate_credentials(&other_identity), 0);
	for (int i = 0; i < 2; i++) {
		pair_tweak_client = i == 0 ? speak_http : start_plain;
		pair_shake(&out, server, client, &door);
		pair_tweak_client = NULL;
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
	const struct pair_fixture *f = *state;
	struct mt_tls_server *server = pair_make_server(f, true);
	struct mt_tls_client *client = pair_make_client(f, true);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pair_door door = {0};
		struct pair_outcome out;
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
		pair_tweak_client = show_other_identity;
		pair_shake(&out, server, client, &door);
		pair_tweak_client = NULL;
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
	struct pair_door door = {0};
	struct pair_outcome out;
	uintptr_t good = 0;

	for (int i = 0; i < 10; i++) {
		pair_shake(&out, shared->server, shared->client, &door);
		good += out.server_rc == 0 && out.client_rc == 0;
	}
	return (void *)good;
}

static void test_credentials_shared_by_threads(void **state)
{
	const struct pair_fixture *f = *state;
	struct shared shared = {pair_make_server(f, true), pair_make_client(f, true)};
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
		cmocka_unit_test(test_server_new_mismatch),
		cmocka_unit_test(test_session_keeps_credentials),
		cmocka_unit_test(test_handshake_other_protocol),
		cmocka_unit_test(test_handshake_client_certificates),
		cmocka_unit_test(test_credentials_shared_by_threads),
		cmocka_unit_test(test_alert_text_unknown),
	};

	return cmocka_run_group_tests(tests, pair_setup, pair_teardown);
}
