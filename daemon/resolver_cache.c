#include "daemon/resolver_cache.h"

#include <errno.h>
#include <string.h>

#define BUCKETS 1024u

struct mt_resolver_cache {
	struct mt_mem *mem;
	uint64_t seed;
	size_t count;
	TAILQ_HEAD(mt_name_list, mt_name) used; /* the most recent one first */
	struct mt_name_list abandoned;          /* the oldest one first */
	struct mt_name *buckets[BUCKETS];
};

static bool is_free(const struct mt_name *n)
{
	return LIST_EMPTY(&n->waiting) && !n->held;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static uint64_t hash_name(uint64_t seed, const char *name, size_t len)
{
	uint64_t h = seed ^ 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)lower(name[i])) * 0x100000001b3u;
	}
	return h ^ h >> 29;
}

static bool same(const struct mt_name *n, uint64_t hash, const char *name, size_t len)
{
	if (n->hash != hash || n->len != len) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (n->text[i] != lower(name[i])) {
			return false;
		}
	}
	return true;
}

struct mt_resolver_cache *mt_resolver_cache_new(struct mt_mem *mem, uint64_t seed)
{
	struct mt_resolver_cache *cache = mt_mem_calloc(mem, sizeof(*cache));

	if (cache != NULL) {
		cache->mem = mem;
		cache->seed = seed;
		TAILQ_INIT(&cache->used);
		TAILQ_INIT(&cache->abandoned);
	}
	return cache;
}

static void free_name(struct mt_resolver_cache *cache, struct mt_name *name)
{
	mt_mem_release(cache->mem, name->addrs);
	mt_mem_release(cache->mem, name);
}

void mt_resolver_cache_free(struct mt_resolver_cache *cache)
{
	if (cache == NULL) {
		return;
	}
	for (size_t i = 0; i < BUCKETS; i++) {
		struct mt_name *next;

		for (struct mt_name *n = cache->buckets[i]; n != NULL; n = next) {
			next = n->next;
			free_name(cache, n);
		}
	}
	mt_mem_release(cache->mem, cache);
}

void mt_resolver_cache_drop(struct mt_resolver_cache *cache, struct mt_name *name)
{
	struct mt_name **link = &cache->buckets[name->hash % BUCKETS];

	while (*link != name) {
		link = &(*link)->next;
	}
	*link = name->next;
	if (name->state != MT_NAME_PENDING) {
		TAILQ_REMOVE(&cache->used, name, by_use);
	}
	mt_resolver_cache_abandon(cache, name, false);
	cache->count--;
	free_name(cache, name);
}

struct mt_name *mt_resolver_cache_find(
	struct mt_resolver_cache *cache, const char *name, size_t len, uint64_t now_ms)
{
	uint64_t hash = hash_name(cache->seed, name, len);
	struct mt_name *n = cache->buckets[hash % BUCKETS];

	while (n != NULL && !same(n, hash, name, len)) {
		n = n->next;
	}
	if (n == NULL || n->state == MT_NAME_PENDING) {
		return n;
	}
	if (now_ms >= n->until_ms) {
		/* Somebody may still be told this answer; it is replaced once all know. */
		if (is_free(n)) {
			mt_resolver_cache_drop(cache, n);
			return NULL;
		}
		return n;
	}
	TAILQ_REMOVE(&cache->used, n, by_use);
	TAILQ_INSERT_HEAD(&cache->used, n, by_use);
	return n;
}

void mt_resolver_cache_abandon(struct mt_resolver_cache *cache, struct mt_name *name, bool on)
{
	if (on && !name->abandoned) {
		TAILQ_INSERT_TAIL(&cache->abandoned, name, by_use);
	} else if (!on && name->abandoned) {
		TAILQ_REMOVE(&cache->abandoned, name, by_use);
	}
	name->abandoned = on;
}

static int make_room(struct mt_resolver_cache *cache, void (*on_drop)(void *query))
{
	struct mt_name *n = TAILQ_LAST(&cache->used, mt_name_list);

	if (cache->count < MT_RESOLVE_NAMES_MAX) {
		return 0;
	}
	for (; n != NULL; n = TAILQ_PREV(n, mt_name_list, by_use)) {
		if (is_free(n)) {
			mt_resolver_cache_drop(cache, n);
			return 0;
		}
	}
	n = TAILQ_FIRST(&cache->abandoned);
	if (n == NULL) {
		return MT_E_LIMIT;
	}
	on_drop(n->query);
	mt_resolver_cache_drop(cache, n);
	return 0;
}

int mt_resolver_cache_add(struct mt_resolver_cache *cache, struct mt_name **out, const char *name,
	size_t len, void (*on_drop)(void *query))
{
	struct mt_name *n;
	int rv;

	if (len == 0 || len > UINT8_MAX) {
		return MT_E_MALFORMED;
	}
	rv = make_room(cache, on_drop);
	if (rv < 0) {
		return rv;
	}
	n = mt_mem_calloc(cache->mem, sizeof(*n) + len + 1);
	if (n == NULL) {
		return -ENOMEM;
	}
	n->len = (uint8_t)len;
	n->hash = hash_name(cache->seed, name, len);
	n->state = MT_NAME_PENDING;
	for (size_t i = 0; i < len; i++) {
		n->text[i] = lower(name[i]);
	}
	LIST_INIT(&n->waiting);
	n->next = cache->buckets[n->hash % BUCKETS];
	cache->buckets[n->hash % BUCKETS] = n;
	cache->count++;
	*out = n;
	return 0;
}

void mt_resolver_cache_set(struct mt_resolver_cache *cache, struct mt_name *name, int err,
	const struct mt_addr *addrs, size_t count, uint64_t ttl_ms, uint64_t now_ms)
{
	if (count > MT_RESOLVE_ADDRS_MAX) {
		count = MT_RESOLVE_ADDRS_MAX;
	}
	if (count > 0) {
		name->addrs = mt_mem_alloc(cache->mem, count * sizeof(*addrs));
		if (name->addrs == NULL) {
			count = 0;
			err = -ENOMEM;
		}
	}
	if (count > 0) {
		memcpy(name->addrs, addrs, count * sizeof(*addrs));
	}
	mt_resolver_cache_abandon(cache, name, false);
	name->query = NULL;
	name->count = count;
	name->state = count > 0 ? MT_NAME_KNOWN : MT_NAME_UNKNOWN;
	name->err = count > 0 ? 0 : err;
	if (ttl_ms < MT_RESOLVE_TTL_MIN_MS) {
		ttl_ms = MT_RESOLVE_TTL_MIN_MS;
	}
	if (ttl_ms > MT_RESOLVE_TTL_MAX_MS) {
		ttl_ms = MT_RESOLVE_TTL_MAX_MS;
	}
	name->until_ms = now_ms + ttl_ms;
	TAILQ_INSERT_HEAD(&cache->used, name, by_use);
}

size_t mt_resolver_cache_count(const struct mt_resolver_cache *cache)
{
	return cache->count;
}
