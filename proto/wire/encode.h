/* Text forms of bytes: base64url without padding (RFC 4648, section 5) and lower-case hex; and the
 * wiping of secrets.
 */
#pragma once

#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

/* Characters for `len` bytes, without the final NUL. */
#define MT_BASE64URL_LEN(len) (((len)*8 + 5) / 6)

/* Writes MT_BASE64URL_LEN(len) characters and a NUL to `out`, which must have room for both. */
void mt_base64url_encode(char *out, const uint8_t *data, size_t len);

/* Decodes exactly `out_len` bytes from `text_len` characters. Padding, other alphabets, stray bits
 * in the last character and a wrong length give MT_E_MALFORMED and leave `out` untouched.
 */
int mt_base64url_decode(
	uint8_t *out, size_t out_len, const char *text, size_t text_len) MT_MUST_CHECK;

/* Writes 2 * len characters and a NUL. */
void mt_hex_encode(char *out, const uint8_t *data, size_t len);
/* Decodes exactly `out_len` bytes; either case of letters. MT_E_MALFORMED as above. */
int mt_hex_decode(uint8_t *out, size_t out_len, const char *text, size_t text_len) MT_MUST_CHECK;

/* Overwrites a secret in a way that the compiler keeps. NULL is allowed with len 0. */
void mt_wipe(void *data, size_t len);
