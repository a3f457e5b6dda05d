/* Names to addresses on the control thread, as the workers resolve them (resolver.h), for verbs
 * that explain what a worker would do. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <uv.h>

#define MT_LOOKUP_MAX        32    /* at once */
#define MT_LOOKUP_TIMEOUT_MS 10000 /* as long as a tunnel waits */

struct mt_lookup;

int mt_lookup_new(struct mt_lookup **out, uv_loop_t *loop) MT_MUST_CHECK;
/* Ends what is under way with MT_E_CLOSED. The loop must then run until it is empty. NULL is
 * allowed. */
void mt_lookup_stop(struct mt_lookup *l);
void mt_lookup_free(struct mt_lookup *l); /* NULL is allowed */
/* Calls `on_done` once, perhaps before this returns: with addresses (port 0, borrowed for the
 * call), or with count 0 and why not: MT_E_DNS, MT_E_MALFORMED, MT_E_TIMEOUT, MT_E_LIMIT,
 * MT_E_CLOSED, -ENOMEM. `name` is copied.
 */
void mt_lookup_start(struct mt_lookup *l, const char *name, size_t len,
	void (*on_done)(void *user, int err, const struct mt_addr *addrs, size_t count),
	void *user);
