/* Host names to addresses, through c-ares on a worker's loop; nothing blocks. One thread.
 *
 * Requests for the same name share one query, and its answer is remembered (resolver_cache.h). A
 * query whose requests have all been cancelled goes on, since its answer is worth keeping, but
 * gives up its place when that is needed. It counts for whoever began it until it is over, so that
 * asking and going away is no way around the budget.
 */
#pragma once

#include "daemon/env.h"
#include "daemon/resolver_cache.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>

#define MT_RESOLVE_ASKER_MAX 256 /* queries under way for one asker */

struct mt_resolver;

/* Zeroed by its owner before the first use; stays in place until its answer has come or it is
 * cancelled. */
struct mt_resolve {
	LIST_ENTRY(mt_resolve) link;
	struct mt_name *name; /* NULL: no answer is awaited */
	uint64_t asker;       /* whose budget it is; see mt_resolve_asker */
	/* `addrs` (port 0, in the order of RFC 6724) are borrowed for the call; with count 0 `err`
	 * says why: MT_E_DNS for a name that has no address or whose servers fail, -ENOMEM.
	 */
	void (*on_done)(
		struct mt_resolve *request, int err, const struct mt_addr *addrs, size_t count);
};

/* `env` is borrowed. `servers` is NULL for the system's, or a comma list of "IP:port". */
int mt_resolver_new(struct mt_resolver **out, uv_loop_t *loop, struct mt_env *env,
	const char *servers) MT_MUST_CHECK;
/* No on_done follows; requests must have been cancelled. The loop must run until its handles are
 * closed before the memory pool goes. NULL is allowed. */
void mt_resolver_free(struct mt_resolver *r);
/* The asker of a client by its name, or of a connection without identity. */
uint64_t mt_resolve_asker(const char *client, uint64_t connection);
/* Returns 0 and borrows the addresses until the next call, when the answer is at hand; MT_E_AGAIN
 * when on_done follows, never from inside this call; MT_E_DNS, MT_E_MALFORMED, MT_E_LIMIT, -ENOMEM.
 */
int mt_resolver_lookup(struct mt_resolver *r, struct mt_resolve *request, const char *name,
	size_t len, const struct mt_addr **addrs, size_t *count) MT_MUST_CHECK;
/* Nothing happens when no answer is awaited. */
void mt_resolve_cancel(struct mt_resolve *request);
