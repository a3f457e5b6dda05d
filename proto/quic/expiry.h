/* A queue of things by the time at which they are due: an intrusive heap. Each place has four below
 * it, which share a line of the cache, and knows the time of what stands there: with many queued,
 * to touch them costs more than anything else.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_EXPIRY_NONE SIZE_MAX

/* Embedded in what is queued. Start with mt_expiry_init. */
struct mt_expiry {
	uint64_t ts_ns;
	size_t index;    /* MT_EXPIRY_NONE: not queued */
	bool is_closing; /* whose it is: embedded in a struct mt_closing, else in a struct mt_conn
			  */
};

struct mt_expiry_place {
	uint64_t ts_ns;
	struct mt_expiry *e;
};

struct mt_expiry_queue {
	struct mt_expiry_place *items;
	size_t count;
	size_t cap;
};

void mt_expiry_init(struct mt_expiry *e, bool is_closing);
void mt_expiry_queue_deinit(struct mt_expiry_queue *q);
/* Queues `e`, or moves it; UINT64_MAX takes it out. -ENOMEM only when it was not queued. */
int mt_expiry_set(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns) MT_MUST_CHECK;
void mt_expiry_remove(struct mt_expiry_queue *q, struct mt_expiry *e);
/* The earliest, or NULL. */
struct mt_expiry *mt_expiry_first(const struct mt_expiry_queue *q);
