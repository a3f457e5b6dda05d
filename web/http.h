/* The HTTP endpoint: GET /metrics, /healthz and /status, on threads of its own (libmicrohttpd). It
 * changes nothing. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "web/view.h"

#include <stddef.h>

#define MT_WEB_ADDRS_MAX       8
#define MT_WEB_CONNECTIONS_MAX 64 /* at once, an address */
#define MT_WEB_PER_IP_MAX      32
#define MT_WEB_TIMEOUT_S       10
#define MT_WEB_MEMORY_BYTES    (32 * 1024) /* a connection */

struct mt_web;

/* Listens on `addrs` (port 0 takes a free one) and serves `view`, which must outlive it. All or
 * none; on failure `*failed` is the index of the address that could not be used.
 */
int mt_web_start(struct mt_web **out, const struct mt_addr *addrs, size_t count,
	const struct mt_web_view *view, size_t *failed) MT_MUST_CHECK;
/* Ends connections and threads. NULL is allowed. */
void mt_web_stop(struct mt_web *web);
/* The addresses in use, with their real ports. */
size_t mt_web_addrs(const struct mt_web *web, struct mt_addr *out, size_t cap);
