/* The HTTP endpoint as the settings ask for it, and the token that opens it off loopback. Control
 * thread. */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <stdbool.h>
#include <stddef.h>

struct mt_appliance;
struct mt_store;

#define MT_HTTP_TOKEN "http_token" /* among the store's secrets: its SHA-256 */

/* Whether the endpoint of `settings` needs a token: an address that is not loopback. */
bool mt_http_needs_token(const struct mt_settings *settings);
/* MT_E_DENIED, with a sentence, when it needs one and `store` has none. */
int mt_http_check(struct mt_store *store, const struct mt_settings *settings, char *why,
	size_t why_cap) MT_MUST_CHECK;
/* Moves to what `settings` ask for, with the token and the certificate of `store`. On failure the
 * old endpoint stays. */
int mt_http_swap(struct mt_appliance *a, const struct mt_settings *settings, struct mt_store *store,
	char *why, size_t why_cap) MT_MUST_CHECK;
/* server.public_addr may have changed: requests may name it. */
void mt_http_rename(struct mt_appliance *a);
/* Opens it by the settings in force; a failure is logged once, stands in the facts, and is tried
 * again by mt_appliance_retry. */
void mt_http_try(struct mt_appliance *a);
/* Starts it anew when it is secured: certificate or token have changed. */
void mt_http_renew(struct mt_appliance *a);
