/* What the resolver remembers: names with their addresses, or with the fact that there are none,
 * each for a bounded time. No clock and no I/O in here; time is what the caller says.
 */
#pragma once

#include "proto/quic/mem.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define MT_RESOLVE_ADDRS_MAX  16
#define MT_RESOLVE_NAMES_MAX  4096 /* known and pending ones */
#define MT_RESOLVE_TTL_MIN_MS 1000
#define MT_RESOLVE_TTL_MAX_MS 300000
#define MT_RESOLVE_UNKNOWN_MS 5000 /* the name does not exist, or has no address */
#define MT_RESOLVE_FAILED_MS  1000 /* servers did not answer */

enum mt_name_state {
	MT_NAME_PENDING,
	MT_NAME_KNOWN,   /* `addrs` has at least one */
	MT_NAME_UNKNOWN, /* `err` says why */
};

struct mt_resolve;
LIST_HEAD(mt_resolve_list, mt_resolve);

struct mt_name {
	TAILQ_ENTRY(mt_name) by_use; /* while pending: among the abandoned ones */
	struct mt_name *next;        /* in its bucket */
	void *owner;                 /* the resolver's */
	void *query;                 /* likewise, while pending */
	struct mt_resolve_list waiting;
	enum mt_name_state state;
	bool abandoned; /* pending, and nobody waits */
	bool held;      /* its requests are yet to be told: not to be dropped */
	struct mt_name *next_held;
	int err;
	uint64_t until_ms;
	struct mt_addr *addrs; /* port 0 */
	size_t count;
	uint64_t hash;
	uint8_t len;
	char text[]; /* lower case, with a NUL */
};

struct mt_resolver_cache;

struct mt_resolver_cache *mt_resolver_cache_new(
	struct mt_mem *mem, uint64_t seed);                   /* NULL without memory */
void mt_resolver_cache_free(struct mt_resolver_cache *cache); /* NULL is allowed */
/* The entry of a name that is pending or not yet over; letters of either case are the same. NULL:
 * none. */
struct mt_name *mt_resolver_cache_find(
	struct mt_resolver_cache *cache, const char *name, size_t len, uint64_t now_ms);
/* A new pending entry; mt_resolver_cache_find has found none. The least recently used one makes
 * room, or one that was abandoned, whose `query` is handed to `on_drop`. MT_E_LIMIT when all are
 * awaited, MT_E_MALFORMED for a name longer than 255, -ENOMEM.
 */
int mt_resolver_cache_add(struct mt_resolver_cache *cache, struct mt_name **out, const char *name,
	size_t len, void (*on_drop)(void *query)) MT_MUST_CHECK;
/* Nobody waits for a pending entry any more, or somebody does again. */
void mt_resolver_cache_abandon(struct mt_resolver_cache *cache, struct mt_name *name, bool on);
/* A pending entry got its answer: at most MT_RESOLVE_ADDRS_MAX addresses are copied. With no
 * address, or no memory, it is unknown for `err`. `ttl_ms` is clamped.
 */
void mt_resolver_cache_set(struct mt_resolver_cache *cache, struct mt_name *name, int err,
	const struct mt_addr *addrs, size_t count, uint64_t ttl_ms, uint64_t now_ms);
/* Takes an entry out that nobody waits for. */
void mt_resolver_cache_drop(struct mt_resolver_cache *cache, struct mt_name *name);
size_t mt_resolver_cache_count(const struct mt_resolver_cache *cache);
