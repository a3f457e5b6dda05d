/* The server's addresses: a literal, or what its name resolves to, in the system's order (RFC 6724)
 * but with the families in turn (RFC 8305).
 */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MT_ADDRESSES_MAX 16

struct mt_addresses {
	struct mt_addr list[MT_ADDRESSES_MAX];
	size_t count;
};

/* 0 when `host` is a literal; MT_E_AGAIN when it is a name, which has to be resolved;
 * MT_E_MALFORMED when it is neither.
 */
int mt_addresses_of_literal(
	struct mt_addresses *out, const char *host, uint16_t port) MT_MUST_CHECK;

struct mt_resolve;

/* `addresses` is NULL when there are none; `why` is then a phrase. From the loop, once; both are
 * borrowed for the call, and the look-up is over.
 */
typedef void (*mt_resolved_fn)(const struct mt_addresses *addresses, const char *why, void *user);

int mt_resolve_start(struct mt_resolve **out, uv_loop_t *loop, const char *host, uint16_t port,
	mt_resolved_fn on_done, void *user) MT_MUST_CHECK;
/* No on_done follows. The memory goes when the loop has run again. NULL is allowed. */
void mt_resolve_cancel(struct mt_resolve *r);
