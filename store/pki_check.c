#include "store/pki.h"

#include "proto/wire/encode.h"
#include "store/pki_private.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHAIN_MAX    16
#define RSA_BITS_MIN 2048

struct chain {
	gnutls_x509_crt_t *certs;
	unsigned count;
};

static int chain_init(struct chain *chain, const char *pem)
{
	gnutls_datum_t text = mt_pki_datum(pem);

	memset(chain, 0, sizeof(*chain));
	/* Without the flag that sorts: the order is for check_pair to judge. */
	if (gnutls_x509_crt_list_import2(
		    &chain->certs, &chain->count, &text, GNUTLS_X509_FMT_PEM, 0) < 0) {
		memset(chain, 0, sizeof(*chain));
		return MT_E_MALFORMED;
	}
	return 0;
}

static void chain_deinit(struct chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++) {
		gnutls_x509_crt_deinit(chain->certs[i]);
	}
	gnutls_free(chain->certs);
	memset(chain, 0, sizeof(*chain));
}

/* Adds one name to the comma list; false when it does not fit, and the list then ends in dots. */
static bool append_name(char *names, size_t cap, const char *name)
{
	static const char more[] = ", ...";
	size_t used = strlen(names);
	const char *comma = used == 0 ? "" : ", ";

	if (used + strlen(comma) + strlen(name) + sizeof(more) > cap) {
		(void)snprintf(names + used, cap - used, "%s", used == 0 ? "..." : more);
		return false;
	}
	(void)snprintf(names + used, cap - used, "%s%s", comma, name);
	return true;
}

/* The names of a certificate as a comma list; returns how many DNS names and addresses it has. */
static unsigned list_names(gnutls_x509_crt_t crt, char *names, size_t cap)
{
	unsigned found = 0;
	bool fits = true;

	names[0] = '\0';
	for (unsigned i = 0;; i++) {
		char san[256];
		char text[INET6_ADDRSTRLEN];
		size_t len = sizeof(san) - 1;
		int type = gnutls_x509_crt_get_subject_alt_name(crt, i, san, &len, NULL);

		if (type == GNUTLS_E_SHORT_MEMORY_BUFFER) {
			continue;
		}
		if (type < 0) {
			break;
		}
		if (type == GNUTLS_SAN_IPADDRESS && (len == 4 || len == 16)) {
			found++;
			(void)inet_ntop(len == 4 ? AF_INET : AF_INET6, san, text, sizeof(text));
			fits = fits && append_name(names, cap, text);
		} else if (type == GNUTLS_SAN_DNSNAME) {
			found++;
			san[len] = '\0';
			fits = fits && append_name(names, cap, san);
		}
	}
	return found;
}

static void format_dn(gnutls_x509_crt_t crt, bool issuer, char *out, size_t cap)
{
	size_t len = cap;
	int rc = issuer ? gnutls_x509_crt_get_issuer_dn(crt, out, &len)
			: gnutls_x509_crt_get_dn(crt, out, &len);

	if (rc == GNUTLS_E_SHORT_MEMORY_BUFFER) {
		(void)snprintf(out, cap, "(longer than %zu bytes)", cap);
	} else if (rc != 0) {
		(void)snprintf(out, cap, "(none)");
	}
}

int mt_pki_describe(const char *chain_pem, struct mt_cert_info *out)
{
	struct mt_cert_info info;
	struct chain chain;
	uint8_t digest[32];
	size_t len = sizeof(digest);
	int err;

	memset(&info, 0, sizeof(info));
	err = chain_init(&chain, chain_pem);
	if (err != 0) {
		return err;
	}
	err = MT_E_MALFORMED;
	if (chain.count == 0) {
		goto out;
	}
	format_dn(chain.certs[0], false, info.subject, sizeof(info.subject));
	format_dn(chain.certs[0], true, info.issuer, sizeof(info.issuer));
	(void)list_names(chain.certs[0], info.names, sizeof(info.names));
	info.not_before = gnutls_x509_crt_get_activation_time(chain.certs[0]);
	info.not_after = gnutls_x509_crt_get_expiration_time(chain.certs[0]);
	info.chain_len = chain.count;
	if (gnutls_x509_crt_get_fingerprint(chain.certs[0], GNUTLS_DIG_SHA256, digest, &len) != 0) {
		goto out;
	}
	mt_hex_encode(info.fingerprint, digest, sizeof(digest));
	len = sizeof(info.pin);
	if (gnutls_x509_crt_get_key_id(
		    chain.certs[chain.count - 1], GNUTLS_KEYID_USE_SHA256, info.pin, &len) != 0) {
		goto out;
	}
	*out = info;
	err = 0;
out:
	chain_deinit(&chain);
	return err;
}

__attribute__((format(printf, 3, 4))) static int say(char *why, size_t cap, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, cap, format, args);
	va_end(args);
	return MT_E_MALFORMED;
}

static int check_key(gnutls_x509_crt_t crt, const char *key_pem, char *why, size_t why_cap)
{
	gnutls_datum_t text = mt_pki_datum(key_pem);
	gnutls_x509_privkey_t key = NULL;
	uint8_t of_key[32];
	uint8_t of_crt[32];
	size_t key_len = sizeof(of_key);
	size_t crt_len = sizeof(of_crt);
	unsigned bits = 0;
	int rc;
	int err;

	if (gnutls_x509_privkey_init(&key) != 0) {
		return say(why, why_cap, "there is no memory to read the private key");
	}
	rc = gnutls_x509_privkey_import2(key, &text, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN);
	if (rc == GNUTLS_E_DECRYPTION_FAILED) {
		err = say(why, why_cap,
			"the private key is encrypted: give it without a passphrase "
			"(openssl pkey -in KEY -out PLAIN)");
		goto out;
	}
	if (rc != 0) {
		err = say(why, why_cap, "the private key cannot be read as PEM");
		goto out;
	}
	if (gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, of_key, &key_len) != 0 ||
		gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &crt_len) != 0 ||
		memcmp(of_key, of_crt, sizeof(of_key)) != 0) {
		err = say(why, why_cap,
			"the private key does not belong to the first certificate of the chain");
		goto out;
	}
	if (gnutls_x509_crt_get_pk_algorithm(crt, &bits) == GNUTLS_PK_RSA && bits < RSA_BITS_MIN) {
		err = say(why, why_cap, "the RSA key has %u bits, at least %d are needed", bits,
			RSA_BITS_MIN);
		goto out;
	}
	err = 0;
out:
	gnutls_x509_privkey_deinit(key);
	return err;
}

static int check_dates(gnutls_x509_crt_t crt, unsigned number, char *why, size_t why_cap)
{
	time_t now = time(NULL);
	time_t start = gnutls_x509_crt_get_activation_time(crt);
	time_t end = gnutls_x509_crt_get_expiration_time(crt);
	struct tm tm;
	char date[32];

	if (now >= start && now <= end) {
		return 0;
	}
	if (gmtime_r(now < start ? &start : &end, &tm) == NULL ||
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", &tm) == 0) {
		(void)snprintf(date, sizeof(date), "an unknown time");
	}
	if (now < start) {
		return say(why, why_cap, "certificate %u is not valid before %s", number, date);
	}
	return say(why, why_cap, "certificate %u has expired at %s", number, date);
}

static int check_order(const struct chain *chain, char *why, size_t why_cap)
{
	for (unsigned i = 0; i + 1 < chain->count; i++) {
		unsigned status = 0;

		if (gnutls_x509_crt_check_issuer(chain->certs[i], chain->certs[i + 1]) == 0 ||
			gnutls_x509_crt_verify(chain->certs[i], &chain->certs[i + 1], 1,
				GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status) != 0 ||
			status != 0) {
			return say(why, why_cap,
				"certificate %u is not signed by certificate %u: put the server's "
				"own "
				"certificate first and each issuer behind what it signed",
				i + 1, i + 2);
		}
	}
	return 0;
}

static int check_usage(gnutls_x509_crt_t crt, char *why, size_t why_cap)
{
	char names[512];
	unsigned usage = 0;

	if (gnutls_x509_crt_get_ca_status(crt, NULL) > 0) {
		return say(why, why_cap,
			"the first certificate is an authority's, not a server's: put the server's "
			"own "
			"certificate first");
	}
	if (gnutls_x509_crt_get_key_usage(crt, &usage, NULL) == 0 &&
		(usage & GNUTLS_KEY_DIGITAL_SIGNATURE) == 0) {
		return say(why, why_cap,
			"the certificate's key usage lacks digitalSignature, which TLS 1.3 needs");
	}
	if (gnutls_x509_crt_check_key_purpose(crt, GNUTLS_KP_TLS_WWW_SERVER, 0) == 0) {
		return say(why, why_cap,
			"the certificate is not meant for servers: its extended key usage lacks "
			"serverAuth");
	}
	if (list_names(crt, names, sizeof(names)) == 0) {
		return say(why, why_cap,
			"the certificate has no subjectAltName with a host name or an address, so "
			"no "
			"client would accept it");
	}
	return 0;
}

int mt_pki_check_pair(const char *chain_pem, const char *key_pem, char *why, size_t why_cap)
{
	struct chain chain;
	int err;

	if (chain_init(&chain, chain_pem) != 0) {
		return say(why, why_cap, "the certificate chain cannot be read as PEM");
	}
	if (chain.count == 0 || chain.count > CHAIN_MAX) {
		err = say(why, why_cap, "the chain has %u certificates, 1 to %d are possible",
			chain.count, CHAIN_MAX);
		goto out;
	}
	err = check_usage(chain.certs[0], why, why_cap);
	if (err != 0) {
		goto out;
	}
	err = check_key(chain.certs[0], key_pem, why, why_cap);
	if (err != 0) {
		goto out;
	}
	err = check_order(&chain, why, why_cap);
	for (unsigned i = 0; err == 0 && i < chain.count; i++) {
		err = check_dates(chain.certs[i], i + 1, why, why_cap);
	}
out:
	chain_deinit(&chain);
	return err;
}
