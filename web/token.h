/* The token that opens an endpoint off loopback: what a request carries, against what is kept.
 * Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MT_TOKEN_HASH_LEN 32

/* SHA-256 of a token's text. */
void mt_token_hash(const char *token, uint8_t out[MT_TOKEN_HASH_LEN]);
/* Whether an Authorization header (NULL: absent) carries the token with this hash: "Bearer TOKEN"
 * (RFC 6750) or "Basic" with TOKEN as the password and any user name (RFC 7617). Takes the same
 * time however much of it is right.
 */
bool mt_token_accepts(const char *header, const uint8_t hash[MT_TOKEN_HASH_LEN]);
