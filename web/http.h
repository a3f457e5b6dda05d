/* The HTTP endpoint (mytunnel-http(7)), on threads of its own (libmicrohttpd). It changes nothing.
 */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "web/hub.h"
#include "web/token.h"
#include "web/view.h"

#include <stdbool.h>
#include <stddef.h>

#define MT_WEB_ADDRS_MAX       8
#define MT_WEB_CONNECTIONS_MAX 256 /* at once, an address */
#define MT_WEB_PER_IP_MAX      128
#define MT_WEB_TIMEOUT_S       10
#define MT_WEB_MEMORY_BYTES    (32 * 1024) /* a connection */

struct mt_web;

struct mt_web_config {
	const struct mt_addr *addrs; /* port 0 takes a free one */
	size_t count;
	const struct mt_web_view *view; /* borrowed, as the hub: they outlive the endpoint */
	struct mt_hub *hub;
	/* With a certificate it speaks TLS and asks for a token. PEM; NULL: plain HTTP. */
	const char *chain_pem;
	const char *key_pem;
	uint8_t token[MT_TOKEN_HASH_LEN];
	const char *name; /* one more host by which it is called, copied; NULL or "": none */
};

/* All addresses or none; on failure `*failed` is the index of the one that could not be used. */
int mt_web_start(
	struct mt_web **out, const struct mt_web_config *config, size_t *failed) MT_MUST_CHECK;
/* Ends connections and threads. NULL is allowed. */
void mt_web_stop(struct mt_web *web);
/* The addresses in use, with their real ports. */
size_t mt_web_addrs(const struct mt_web *web, struct mt_addr *out, size_t cap);
/* The host by which it is called from now on, as in the configuration. NULL for `web` is allowed.
 */
void mt_web_set_name(struct mt_web *web, const char *name);
bool mt_web_is_secured(const struct mt_web *web); /* NULL is not */
