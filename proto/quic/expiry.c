#include "proto/quic/expiry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAP_MIN 256u
#define CAP_MAX (UINT32_MAX / 2)
#define BRANCH  4u
/* Children stand at 4i+1 to 4i+4: so many unused places in front bring them to a line's begin. */
#define LINE 64u
#define LEAD 3u

void mt_expiry_init(struct mt_expiry *e, bool is_closing)
{
	e->is_closing = is_closing;
	e->ts_ns = e->placed_ns = UINT64_MAX;
	e->slot = MT_EXPIRY_NONE;
}

void mt_expiry_queue_deinit(struct mt_expiry_queue *q)
{
	free(q->items ? q->items - LEAD : NULL);
	free(q->slots);
	*q = (struct mt_expiry_queue){0};
}

static void put(struct mt_expiry_queue *q, const struct mt_expiry_place *what, uint32_t i)
{
	q->items[i] = *what;
	q->slots[what->slot].index = i;
}

/* Brings `what`, which stood or is to stand at `i`, to where it belongs above that. */
static uint32_t sift_up(struct mt_expiry_queue *q, const struct mt_expiry_place *what, uint32_t i)
{
	uint32_t parent;

	while (i > 0 && q->items[(parent = (i - 1) / BRANCH)].ts_ns > what->ts_ns) {
		put(q, &q->items[parent], i);
		i = parent;
	}
	put(q, what, i);
	return i;
}

static uint32_t earliest_child(const struct mt_expiry_queue *q, uint32_t i)
{
	uint32_t child = BRANCH * i + 1, best = child;

	for (uint32_t k = child + 1; k < child + BRANCH && k < q->count; k++) {
		if (q->items[k].ts_ns < q->items[best].ts_ns) {
			best = k;
		}
	}
	return best;
}

/* And below it. */
static void sift_down(struct mt_expiry_queue *q, const struct mt_expiry_place *what, uint32_t i)
{
	uint32_t child;

	while (BRANCH * (uint64_t)i + 1 < q->count) {
		child = earliest_child(q, i);
		if (q->items[child].ts_ns >= what->ts_ns) {
			break;
		}
		put(q, &q->items[child], i);
		i = child;
	}
	put(q, what, i);
}

static int grow(struct mt_expiry_queue *q)
{
	uint32_t cap = q->cap ? q->cap * 2 : CAP_MIN;
	/* A multiple of LINE, as aligned_alloc wants it. */
	size_t bytes = (((size_t)cap + LEAD) * sizeof(*q->items) + LINE - 1) / LINE * LINE;
	struct mt_expiry_slot *slots;
	struct mt_expiry_place *items;

	if (q->cap > CAP_MAX) {
		return -ENOMEM;
	}
	slots = realloc(q->slots, cap * sizeof(*slots));
	if (!slots) {
		return -ENOMEM;
	}
	q->slots = slots;
	items = aligned_alloc(LINE, bytes);
	if (!items) {
		return -ENOMEM;
	}
	items += LEAD;
	if (q->count > 0) {
		memcpy(items, q->items, q->count * sizeof(*items));
	}
	free(q->items ? q->items - LEAD : NULL);
	q->items = items;
	/* All old slots are taken when it grows. */
	for (uint32_t i = q->cap; i < cap; i++) {
		slots[i] = (struct mt_expiry_slot){.index = i + 1};
	}
	q->free = q->cap;
	q->cap = cap;
	return 0;
}

static int insert(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns)
{
	struct mt_expiry_place what = {.ts_ns = ts_ns};

	if (q->count == q->cap && grow(q) != 0) {
		return -ENOMEM;
	}
	e->slot = what.slot = q->free;
	q->free = q->slots[e->slot].index;
	q->slots[e->slot].e = e;
	e->ts_ns = e->placed_ns = ts_ns;
	(void)sift_up(q, &what, q->count++); /* it went where it belongs */
	return 0;
}

int mt_expiry_set(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns)
{
	struct mt_expiry_place what = {.ts_ns = ts_ns, .slot = e->slot};

	if (ts_ns == UINT64_MAX) {
		mt_expiry_remove(q, e);
		return 0;
	}
	if (e->slot == MT_EXPIRY_NONE) {
		return insert(q, e, ts_ns);
	}
	e->ts_ns = ts_ns;
	if (ts_ns < e->placed_ns) {
		e->placed_ns = ts_ns;
		(void)sift_up(q, &what, q->slots[e->slot].index); /* likewise */
	}
	return 0;
}

void mt_expiry_remove(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	struct mt_expiry_place last;
	uint32_t i;

	if (e->slot == MT_EXPIRY_NONE) {
		return;
	}
	i = q->slots[e->slot].index;
	last = q->items[--q->count];
	if (last.slot != e->slot) {
		i = sift_up(q, &last, i);
		sift_down(q, &last, i);
	}
	q->slots[e->slot] = (struct mt_expiry_slot){.index = q->free};
	q->free = e->slot;
	e->ts_ns = e->placed_ns = UINT64_MAX;
	e->slot = MT_EXPIRY_NONE;
}

struct mt_expiry *mt_expiry_first(struct mt_expiry_queue *q)
{
	struct mt_expiry_place what;
	struct mt_expiry *e;

	while (q->count > 0) {
		what = q->items[0];
		e = q->slots[what.slot].e;
		if (e->ts_ns == what.ts_ns) {
			return e;
		}
		what.ts_ns = e->placed_ns = e->ts_ns;
		sift_down(q, &what, 0);
	}
	return NULL;
}
