/* A client's profile: mytunnel://KEY@HOST:PORT?pin=PIN#NAME
 *
 * "KEY@" is missing from a profile whose key was made on the client's own machine.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_KEY_LEN     32 /* P-256 private scalar, big endian */
#define MT_PIN_LEN     32 /* SHA-256 of a SubjectPublicKeyInfo */
#define MT_PINS_MAX    8
#define MT_NAME_MAX    64   /* a client's name, in bytes, without NUL */
#define MT_PROFILE_MAX 2048 /* characters of a URI */

struct mt_profile {
	bool has_key;
	uint8_t key[MT_KEY_LEN]; /* secret: mt_profile_deinit wipes it */
	char host[256];          /* name or literal, without brackets */
	uint16_t port;
	uint8_t pins[MT_PINS_MAX][MT_PIN_LEN];
	size_t pin_count;           /* 0: the system's trust store decides */
	char name[MT_NAME_MAX + 1]; /* may be empty */
};

/* Reads a URI; white space around it is skipped. Unknown parameters are ignored; a duplicate `pin`
 * parameter, overlong parts, bad escapes and anything behind the name are refused. On
 * MT_E_MALFORMED or MT_E_TOO_LONG `*where` is the offset (in characters from the start of `text`)
 * and `*what` a static phrase such as "the key is not base64url of 32 bytes". Both may be NULL.
 */
int mt_profile_parse(
	struct mt_profile *out, const char *text, size_t *where, const char **what) MT_MUST_CHECK;

/* Writes the URI with its NUL: mt_profile_parse(mt_profile_format(x)) = x. MT_E_TOO_LONG. */
int mt_profile_format(const struct mt_profile *profile, char *buf, size_t cap) MT_MUST_CHECK;

/* Wipes the key. */
void mt_profile_deinit(struct mt_profile *profile);

/* Whether `name` may name a client or a profile: 1 to MT_NAME_MAX bytes of letters, digits, '.',
 * '_',
 * '-', '@', not starting with '.' or '-'.
 */
int mt_name_check(const char *name) MT_MUST_CHECK;
