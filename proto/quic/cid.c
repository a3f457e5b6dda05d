#include "proto/quic/cid.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024u
#define MOVES       4u /* old buckets for each new id: done long before the next growth */

/* While it grows there are two arrays, and each new id takes a few of the old buckets along: nobody
 * waits until all ids have moved. An id whose old bucket is not yet moved stands there.
 */
struct mt_cid_table {
	struct mt_mem *mem;
	struct mt_cid **buckets;
	size_t bucket_count; /* a power of two */
	struct mt_cid **old; /* NULL: all moved */
	size_t old_count;    /* half of bucket_count */
	size_t moved;        /* old buckets that are empty by now, from the first on */
	size_t count;
	struct mt_cid *last; /* found last: packets come in trains */
	uint64_t k0;
	uint64_t k1;
};

static uint64_t rotl(uint64_t x, unsigned n)
{
	return (x << n) | (x >> (64 - n));
}

#define SIP_ROUND(v)                                                                               \
	((v)[0] += (v)[1], (v)[1] = rotl((v)[1], 13) ^ (v)[0], (v)[0] = rotl((v)[0], 32),          \
		(v)[2] += (v)[3], (v)[3] = rotl((v)[3], 16) ^ (v)[2], (v)[0] += (v)[3],            \
		(v)[3] = rotl((v)[3], 21) ^ (v)[0], (v)[2] += (v)[1],                              \
		(v)[1] = rotl((v)[1], 17) ^ (v)[2], (v)[2] = rotl((v)[2], 32))

/* SipHash-1-3 of up to 23 bytes: clients choose ids, so the hash is keyed. */
static uint64_t hash_id(const struct mt_cid_table *t, const uint8_t *data, size_t len)
{
	uint64_t v[4] = {t->k0 ^ 0x736f6d6570736575ull, t->k1 ^ 0x646f72616e646f6dull,
		t->k0 ^ 0x6c7967656e657261ull, t->k1 ^ 0x7465646279746573ull};
	uint64_t words[3] = {0};
	size_t full = len / 8;

	assert(len < sizeof(words));
	memcpy(words, data, len);
	words[full] |= (uint64_t)len << 56;
	for (size_t i = 0; i <= full; i++) {
		v[3] ^= words[i];
		SIP_ROUND(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++) {
		SIP_ROUND(v);
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct mt_cid_table *mt_cid_table_new(struct mt_mem *mem, const uint8_t key[16])
{
	struct mt_cid_table *t = calloc(1, sizeof(*t));

	if (!t) {
		return NULL;
	}
	t->mem = mem;
	t->bucket_count = BUCKETS_MIN;
	t->buckets = calloc(t->bucket_count, sizeof(struct mt_cid *));
	if (!t->buckets) {
		free(t);
		return NULL;
	}
	memcpy(&t->k0, key, 8);
	memcpy(&t->k1, key + 8, 8);
	return t;
}

void mt_cid_table_free(struct mt_cid_table *t)
{
	if (!t) {
		return;
	}
	assert(t->count == 0);
	free(t->old);
	free(t->buckets);
	free(t);
}

static bool is_id(const struct mt_cid *id, const uint8_t *data, size_t len)
{
	return id->len == len && memcmp(id->data, data, len) == 0;
}

static struct mt_cid **find_bucket(const struct mt_cid_table *t, const uint8_t *data, size_t len)
{
	uint64_t hash = hash_id(t, data, len);

	if (t->old && (hash & (t->old_count - 1)) >= t->moved) {
		return &t->old[hash & (t->old_count - 1)];
	}
	return &t->buckets[hash & (t->bucket_count - 1)];
}

static struct mt_cid **find_slot(const struct mt_cid_table *t, const uint8_t *data, size_t len)
{
	struct mt_cid **slot = find_bucket(t, data, len);

	while (*slot && !is_id(*slot, data, len)) {
		slot = &(*slot)->next_in_bucket;
	}
	return slot;
}

static void move_some(struct mt_cid_table *t)
{
	struct mt_cid *id, *next, **slot;

	for (unsigned i = 0; i < MOVES && t->old; i++) {
		for (id = t->old[t->moved]; id; id = next) {
			next = id->next_in_bucket;
			slot = &t->buckets[hash_id(t, id->data, id->len) & (t->bucket_count - 1)];
			id->next_in_bucket = *slot;
			*slot = id;
		}
		if (++t->moved == t->old_count) {
			free(t->old);
			t->old = NULL;
		}
	}
}

static void grow(struct mt_cid_table *t)
{
	size_t bigger = t->bucket_count * 2;
	struct mt_cid **buckets = calloc(bigger, sizeof(struct mt_cid *));

	if (!buckets) {
		return; /* longer chains are still correct */
	}
	t->old = t->buckets;
	t->old_count = t->bucket_count;
	t->moved = 0;
	t->buckets = buckets;
	t->bucket_count = bigger;
}

int mt_cid_add(struct mt_cid_table *t, struct mt_cid_owner *owner, const uint8_t *data, size_t len)
{
	struct mt_cid **slot, *id;

	if (len > NGTCP2_MAX_CIDLEN) {
		return MT_E_TOO_LONG;
	}
	move_some(t);
	if (t->count >= t->bucket_count && !t->old) {
		grow(t);
	}
	slot = find_slot(t, data, len);
	if (*slot) {
		return MT_E_EXISTS;
	}
	id = mt_mem_alloc(t->mem, sizeof(*id));
	if (!id) {
		return -ENOMEM;
	}
	id->next_in_bucket = NULL;
	id->owner = owner;
	id->len = (uint8_t)len;
	memcpy(id->data, data, len);
	id->next_of_owner = owner->ids;
	owner->ids = id;
	owner->count++;
	*slot = id;
	t->count++;
	return 0;
}

static void unlink_bucket(struct mt_cid_table *t, struct mt_cid *id)
{
	struct mt_cid **slot = find_slot(t, id->data, id->len);

	assert(*slot == id);
	*slot = id->next_in_bucket;
	t->count--;
	if (t->last == id) {
		t->last = NULL;
	}
}

void mt_cid_remove(
	struct mt_cid_table *t, struct mt_cid_owner *owner, const uint8_t *data, size_t len)
{
	struct mt_cid **link = &owner->ids, *id;

	while (*link && !is_id(*link, data, len)) {
		link = &(*link)->next_of_owner;
	}
	id = *link;
	if (!id) {
		return;
	}
	*link = id->next_of_owner;
	owner->count--;
	unlink_bucket(t, id);
	mt_mem_release(t->mem, id);
}

void mt_cid_remove_all(struct mt_cid_table *t, struct mt_cid_owner *owner)
{
	struct mt_cid *id;

	while (owner->ids) {
		id = owner->ids;
		owner->ids = id->next_of_owner;
		unlink_bucket(t, id);
		mt_mem_release(t->mem, id);
	}
	owner->count = 0;
}

void mt_cid_move_all(struct mt_cid_owner *from, struct mt_cid_owner *to)
{
	struct mt_cid *id;

	while (from->ids) {
		id = from->ids;
		from->ids = id->next_of_owner;
		id->owner = to;
		id->next_of_owner = to->ids;
		to->ids = id;
	}
	to->count += from->count;
	from->count = 0;
}

struct mt_cid_owner *mt_cid_find(struct mt_cid_table *t, const uint8_t *data, size_t len)
{
	struct mt_cid *id;

	if (len > NGTCP2_MAX_CIDLEN) {
		return NULL;
	}
	if (t->last && is_id(t->last, data, len)) {
		return t->last->owner;
	}
	id = *find_slot(t, data, len);
	if (!id) {
		return NULL;
	}
	t->last = id;
	return id->owner;
}

struct mt_cid *const *mt_cid_bucket(const struct mt_cid_table *t, const uint8_t *data, size_t len)
{
	return find_bucket(t, data, len);
}

size_t mt_cid_count(const struct mt_cid_table *t)
{
	return t->count;
}
