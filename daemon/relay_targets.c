#include "daemon/relay_targets.h"

#include <string.h>

#define BUCKETS_MIN 16u

static uint64_t hash_text(uint64_t seed, uint16_t port, const char *host, uint8_t len)
{
	uint64_t h = (seed ^ 0xcbf29ce484222325u ^ port) * 0x100000001b3u;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)host[i]) * 0x100000001b3u;
	}
	return h ^ h >> 29;
}

static struct mt_relay_target **text_bucket(struct mt_relay_targets *t, uint64_t hash)
{
	return &t->by_text[hash & (t->buckets - 1)];
}

static struct mt_relay_target **addr_bucket(struct mt_relay_targets *t, const struct mt_addr *addr)
{
	return &t->by_addr[mt_addr_hash(addr, t->seed) & (t->buckets - 1)];
}

static void link_text(struct mt_relay_targets *t, struct mt_relay_target *target)
{
	struct mt_relay_target **bucket = text_bucket(t, target->text_hash);

	target->next_by_text = *bucket;
	*bucket = target;
}

static void link_addr(struct mt_relay_targets *t, struct mt_relay_target *target)
{
	struct mt_relay_target **bucket = addr_bucket(t, &target->addr);

	target->next_by_addr = *bucket;
	*bucket = target;
	target->answers = true;
}

static void unlink_addr(struct mt_relay_targets *t, struct mt_relay_target *target)
{
	struct mt_relay_target **link;

	if (!target->answers) {
		return;
	}
	link = addr_bucket(t, &target->addr);
	while (*link != target) {
		link = &(*link)->next_by_addr;
	}
	*link = target->next_by_addr;
	target->answers = false;
}

void mt_relay_targets_init(struct mt_relay_targets *t, struct mt_mem *mem, uint64_t seed)
{
	*t = (struct mt_relay_targets){.mem = mem, .seed = seed};
	TAILQ_INIT(&t->used);
}

void mt_relay_targets_clear(struct mt_relay_targets *t)
{
	struct mt_relay_target *target;

	while ((target = TAILQ_FIRST(&t->used)) != NULL) {
		TAILQ_REMOVE(&t->used, target, by_use);
		mt_mem_release(t->mem, target);
	}
	mt_mem_release(t->mem, t->by_text);
	mt_relay_targets_init(t, t->mem, t->seed);
}

/* False without memory: the tables stay as they are, which only makes them slower unless there are
 * none. */
static bool grow(struct mt_relay_targets *t)
{
	size_t buckets = t->buckets == 0 ? BUCKETS_MIN : t->buckets * 2;
	struct mt_relay_target **heads =
		mt_mem_calloc(t->mem, 2 * buckets * sizeof(struct mt_relay_target *));
	struct mt_relay_target *target;

	if (heads == NULL) {
		return false;
	}
	mt_mem_release(t->mem, t->by_text);
	t->by_text = heads;
	t->by_addr = heads + buckets;
	t->buckets = buckets;
	for (target = TAILQ_FIRST(&t->used); target != NULL; target = TAILQ_NEXT(target, by_use)) {
		link_text(t, target);
		if (target->answers) {
			link_addr(t, target);
		}
	}
	return true;
}

struct mt_relay_target *mt_relay_targets_by_text(
	struct mt_relay_targets *t, uint16_t port, const char *host, uint8_t len)
{
	uint64_t hash = hash_text(t->seed, port, host, len);
	struct mt_relay_target *x = t->buckets > 0 ? *text_bucket(t, hash) : NULL;

	while (x != NULL && (x->text_hash != hash || x->port != port || x->host_len != len ||
				    memcmp(x->host, host, len) != 0)) {
		x = x->next_by_text;
	}
	return x;
}

struct mt_relay_target *mt_relay_targets_by_addr(
	struct mt_relay_targets *t, const struct mt_addr *addr)
{
	struct mt_relay_target *x = t->buckets > 0 ? *addr_bucket(t, addr) : NULL;

	while (x != NULL && !mt_addr_equal(&x->addr, addr)) {
		x = x->next_by_addr;
	}
	return x;
}

struct mt_relay_target *mt_relay_targets_add(
	struct mt_relay_targets *t, uint16_t port, const char *host, uint8_t len, uint64_t now_ms)
{
	struct mt_relay_target *target;

	if (t->count >= t->buckets && !grow(t) && t->buckets == 0) {
		return NULL;
	}
	target = mt_mem_calloc(t->mem, sizeof(*target) + len);
	if (target == NULL) {
		return NULL;
	}
	target->port = port;
	target->host_len = len;
	memcpy(target->host, host, len);
	target->text_hash = hash_text(t->seed, port, host, len);
	target->used_ms = now_ms;
	link_text(t, target);
	TAILQ_INSERT_HEAD(&t->used, target, by_use);
	t->count++;
	return target;
}

void mt_relay_targets_use(
	struct mt_relay_targets *t, struct mt_relay_target *target, uint64_t now_ms)
{
	struct mt_relay_target *before;

	target->used_ms = now_ms;
	if (TAILQ_FIRST(&t->used) != target) {
		TAILQ_REMOVE(&t->used, target, by_use);
		TAILQ_INSERT_HEAD(&t->used, target, by_use);
	}
	if (target->addr.len == 0 || target->answers) {
		return;
	}
	before = mt_relay_targets_by_addr(t, &target->addr);
	if (before != NULL) {
		unlink_addr(t, before);
	}
	link_addr(t, target);
}

void mt_relay_targets_drop(struct mt_relay_targets *t, struct mt_relay_target *target)
{
	struct mt_relay_target **link = text_bucket(t, target->text_hash);

	while (*link != target) {
		link = &(*link)->next_by_text;
	}
	*link = target->next_by_text;
	unlink_addr(t, target);
	TAILQ_REMOVE(&t->used, target, by_use);
	t->count--;
	mt_mem_release(t->mem, target);
}

struct mt_relay_target *mt_relay_targets_oldest(const struct mt_relay_targets *t)
{
	return TAILQ_LAST(&t->used, mt_relay_target_list);
}
