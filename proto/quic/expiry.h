/* A queue of things by the time at which they are due: a heap. With many queued, to touch them
 * costs more than anything else, so what the heap moves lies close together: each place has four
 * below it, which share a line of the cache, knows a time, and names what stands there by a number.
 * What becomes due later than its place says stays there; it moves when the place is the first of
 * all.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_EXPIRY_NONE UINT32_MAX

/* Embedded in what is queued. Start with mt_expiry_init. */
struct mt_expiry {
	uint64_t ts_ns;     /* when it is due */
	uint64_t placed_ns; /* what its place says: no later than ts_ns */
	uint32_t slot;      /* MT_EXPIRY_NONE: not queued */
	bool is_closing; /* whose it is: embedded in a struct mt_closing, else in a struct mt_conn
			  */
};

struct mt_expiry_place {
	uint64_t ts_ns;
	uint32_t slot;
};

/* What is queued, by its number. */
struct mt_expiry_slot {
	struct mt_expiry *e; /* NULL: free */
	uint32_t index;      /* its place; of a free one: the next free slot */
};

struct mt_expiry_queue {
	struct mt_expiry_place *items;
	struct mt_expiry_slot *slots;
	uint32_t count;
	uint32_t cap;
	uint32_t free; /* the first free slot, unless count == cap */
};

void mt_expiry_init(struct mt_expiry *e, bool is_closing);
void mt_expiry_queue_deinit(struct mt_expiry_queue *q);
/* Queues `e`, or moves it; UINT64_MAX takes it out. -ENOMEM only when it was not queued. */
int mt_expiry_set(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns) MT_MUST_CHECK;
void mt_expiry_remove(struct mt_expiry_queue *q, struct mt_expiry *e);
/* The earliest, or NULL. */
struct mt_expiry *mt_expiry_first(struct mt_expiry_queue *q);
