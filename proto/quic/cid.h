/* Connection ids (RFC 9000, section 5.1): which connection owns which, in one keyed hash table. */
#pragma once

#include "proto/quic/mem.h"
#include "proto/wire/err.h"

#include <ngtcp2/ngtcp2.h>
#include <stddef.h>
#include <stdint.h>

/* Whoever owns ids: a connection, what is left of one that has closed, or a client's first packet
 * that waits. */
struct mt_cid_owner {
	enum { MT_OWNER_CONN, MT_OWNER_CLOSING, MT_OWNER_WAITING } kind;
	struct mt_cid *ids; /* this owner's entries */
	unsigned count;
};

struct mt_cid {
	struct mt_cid *next_in_bucket;
	struct mt_cid *next_of_owner;
	struct mt_cid_owner *owner;
	uint8_t len;
	uint8_t data[NGTCP2_MAX_CIDLEN];
};

struct mt_cid_table;

struct mt_cid_table *mt_cid_table_new(struct mt_mem *mem, const uint8_t key[16]);
void mt_cid_table_free(struct mt_cid_table *table);
/* An id that is there already keeps its owner: MT_E_EXISTS. */
int mt_cid_add(struct mt_cid_table *table, struct mt_cid_owner *owner, const uint8_t *data,
	size_t len) MT_MUST_CHECK;
void mt_cid_remove(
	struct mt_cid_table *table, struct mt_cid_owner *owner, const uint8_t *data, size_t len);
void mt_cid_remove_all(struct mt_cid_table *table, struct mt_cid_owner *owner);
/* Hands all ids of `from` to `to`. */
void mt_cid_move_all(struct mt_cid_owner *from, struct mt_cid_owner *to);
struct mt_cid_owner *mt_cid_find(struct mt_cid_table *table, const uint8_t *data, size_t len);
/* Where mt_cid_find begins to look for a short id of ours: for whoever fetches that beforehand. */
struct mt_cid *const *mt_cid_bucket(
	const struct mt_cid_table *table, const uint8_t *data, size_t len);
size_t mt_cid_count(const struct mt_cid_table *table);
