/* Puts payloads together again that travelled in fragments (PROTOCOL.md, section 7.1). A state
 * machine without a clock and without I/O.
 *
 * A packet is whole when all of its fragments have come, and is given out once; or it is dropped
 * and counted, whole as well: after MT_REASSEMBLY_MS, for a fragment that contradicts the others,
 * or to make room. Whatever a peer sends, what is held stays under the caps.
 */
#pragma once

#include "proto/wire/alloc.h"
#include "proto/wire/err.h"
#include "proto/wire/extended.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define MT_REASSEMBLY_MS              3000
#define MT_REASSEMBLY_SESSION_PACKETS 16 /* incomplete ones; then the oldest goes */
#define MT_REASSEMBLY_PACKETS         64 /* of one connection */
#define MT_REASSEMBLY_BYTES           ((size_t)2 * 1024 * 1024)  /* of one connection */
#define MT_REASSEMBLY_POOL_BYTES      ((size_t)16 * 1024 * 1024) /* of all of a thread */
/* A packet that this many later ones of its session have overtaken will not be completed: its
 * number may come again. */
#define MT_REASSEMBLY_WINDOW 1024

/* Why packets were dropped. */
enum mt_reassembly_drop {
	MT_REASSEMBLY_LATE,     /* time is up, or overtaken */
	MT_REASSEMBLY_MISMATCH, /* another Count, target or content than before */
	MT_REASSEMBLY_TOO_LONG, /* more than MT_UDP_PAYLOAD_MAX together */
	MT_REASSEMBLY_FULL,     /* a cap is reached */
	MT_REASSEMBLY_MEMORY,
	MT_REASSEMBLY_DROPS, /* how many reasons there are */
};

struct mt_reassembly_packet;
struct mt_reassembly;
TAILQ_HEAD(mt_reassembly_packets, mt_reassembly_packet);
LIST_HEAD(mt_reassembly_list, mt_reassembly);

/* What the connections of one thread share. */
struct mt_reassembly_pool {
	struct mt_allocator mem;
	struct mt_reassembly_list busy;        /* those that hold something */
	size_t bytes;                          /* held by all of them */
	uint64_t dropped[MT_REASSEMBLY_DROPS]; /* packets */
	uint64_t duplicates;                   /* fragments that had come before: ignored */
};

/* One connection's. */
struct mt_reassembly {
	LIST_ENTRY(mt_reassembly) of_pool;
	struct mt_reassembly_pool *pool;
	struct mt_reassembly_packets packets; /* the oldest first */
	unsigned count;
	size_t bytes;
};

void mt_reassembly_pool_init(struct mt_reassembly_pool *pool, const struct mt_allocator *mem);
void mt_reassembly_init(struct mt_reassembly *r, struct mt_reassembly_pool *pool);
/* Takes a fragment, which is copied. 0 when it completes its packet: `out` has MT_UDP_PAYLOAD_MAX
 * bytes and gets the payload, `*len` its length. MT_E_AGAIN when others are missing, or when it had
 * come before. MT_E_LIMIT, MT_E_TOO_LONG, MT_E_MALFORMED, -ENOMEM when its packet was dropped.
 * Fragments of one (count 1) are not for this function.
 */
int mt_reassembly_add(struct mt_reassembly *r, const struct mt_extended *fragment, uint64_t now_ms,
	uint8_t *out, size_t *len) MT_MUST_CHECK;
/* When mt_reassembly_expire has something to do: milliseconds of the caller's clock; UINT64_MAX:
 * never. */
uint64_t mt_reassembly_due_ms(const struct mt_reassembly *r);
void mt_reassembly_expire(struct mt_reassembly *r, uint64_t now_ms);
/* Forgets what belongs to a session that was closed; not counted as dropped. */
void mt_reassembly_forget(struct mt_reassembly *r, uint32_t session);
void mt_reassembly_clear(struct mt_reassembly *r);
