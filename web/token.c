#include "web/token.h"

#include "proto/wire/encode.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <strings.h>

#define TOKEN_MAX  128
#define HEADER_MAX 512

void mt_token_hash(const char *token, uint8_t out[MT_TOKEN_HASH_LEN])
{
	/* Fails only for an unknown algorithm. */
	(void)gnutls_hash_fast(GNUTLS_DIG_SHA256, token, strlen(token), out);
}

/* The same kind of word, whatever its case, with a space behind it; its argument, or NULL. */
static const char *scheme(const char *header, const char *name)
{
	size_t len = strlen(name);

	if (strncasecmp(header, name, len) != 0 || header[len] != ' ') {
		return NULL;
	}
	header += len;
	return header + strspn(header, " ");
}

static bool matches(const char *token, const uint8_t hash[MT_TOKEN_HASH_LEN])
{
	uint8_t own[MT_TOKEN_HASH_LEN] = {0};

	if (*token == '\0' || strlen(token) > TOKEN_MAX) {
		return false;
	}
	mt_token_hash(token, own);
	return gnutls_memcmp(own, hash, sizeof(own)) == 0;
}

/* USER:PASSWORD in Base64. */
static bool matches_basic(const char *encoded, const uint8_t hash[MT_TOKEN_HASH_LEN])
{
	const gnutls_datum_t in = {(unsigned char *)(uintptr_t)encoded, (unsigned)strlen(encoded)};
	gnutls_datum_t out = {NULL, 0};
	char pair[HEADER_MAX + 1];
	const char *colon;
	bool good = false;

	if (gnutls_base64_decode2(&in, &out) != 0) {
		return false;
	}
	if (out.size <= HEADER_MAX && memchr(out.data, '\0', out.size) == NULL) {
		memcpy(pair, out.data, out.size);
		pair[out.size] = '\0';
		colon = strchr(pair, ':');
		good = colon != NULL && matches(colon + 1, hash);
		mt_wipe(pair, sizeof(pair));
	}
	gnutls_memset(out.data, 0, out.size);
	gnutls_free(out.data);
	return good;
}

bool mt_token_accepts(const char *header, const uint8_t hash[MT_TOKEN_HASH_LEN])
{
	const char *argument;

	if (header == NULL || strlen(header) > HEADER_MAX) {
		return false;
	}
	argument = scheme(header, "Bearer");
	if (argument != NULL) {
		return matches(argument, hash);
	}
	argument = scheme(header, "Basic");
	return argument != NULL && matches_basic(argument, hash);
}
