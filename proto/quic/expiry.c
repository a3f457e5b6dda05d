#include "proto/quic/expiry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAP_MIN 256u
#define BRANCH  4u
/* Children stand at 4i+1 to 4i+4: so many unused places in front bring them to a line's begin. */
#define LINE 64u
#define LEAD 3u

void mt_expiry_init(struct mt_expiry *e, bool is_closing)
{
	e->is_closing = is_closing;
	e->ts_ns = UINT64_MAX;
	e->index = MT_EXPIRY_NONE;
}

void mt_expiry_queue_deinit(struct mt_expiry_queue *q)
{
	free(q->items ? q->items - LEAD : NULL);
	*q = (struct mt_expiry_queue){0};
}

static void place(struct mt_expiry_queue *q, struct mt_expiry *e, size_t i)
{
	q->items[i] = (struct mt_expiry_place){.ts_ns = e->ts_ns, .e = e};
	e->index = i;
}

static void move(struct mt_expiry_queue *q, size_t from, size_t to)
{
	q->items[to] = q->items[from];
	q->items[to].e->index = to;
}

static void sift_up(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	size_t i = e->index, parent;

	while (i > 0 && q->items[(parent = (i - 1) / BRANCH)].ts_ns > e->ts_ns) {
		move(q, parent, i);
		i = parent;
	}
	place(q, e, i);
}

static size_t earliest_child(const struct mt_expiry_queue *q, size_t i)
{
	size_t child = BRANCH * i + 1, best = child;

	for (size_t k = child + 1; k < child + BRANCH && k < q->count; k++) {
		if (q->items[k].ts_ns < q->items[best].ts_ns) {
			best = k;
		}
	}
	return best;
}

static void sift_down(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	size_t i = e->index, child;

	while (BRANCH * i + 1 < q->count) {
		child = earliest_child(q, i);
		if (q->items[child].ts_ns >= e->ts_ns) {
			break;
		}
		move(q, child, i);
		i = child;
	}
	place(q, e, i);
}

static int grow(struct mt_expiry_queue *q)
{
	size_t cap = q->cap ? q->cap * 2 : CAP_MIN;
	/* A multiple of LINE, as aligned_alloc wants it. */
	size_t bytes = ((cap + LEAD) * sizeof(*q->items) + LINE - 1) / LINE * LINE;
	struct mt_expiry_place *items = aligned_alloc(LINE, bytes);

	if (!items) {
		return -ENOMEM;
	}
	items += LEAD;
	if (q->count > 0) {
		memcpy(items, q->items, q->count * sizeof(*items));
	}
	free(q->items ? q->items - LEAD : NULL);
	q->items = items;
	q->cap = cap;
	return 0;
}

int mt_expiry_set(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns)
{
	if (ts_ns == UINT64_MAX) {
		mt_expiry_remove(q, e);
		return 0;
	}
	if (e->index == MT_EXPIRY_NONE) {
		if (q->count == q->cap && grow(q) != 0) {
			return -ENOMEM;
		}
		e->ts_ns = ts_ns;
		place(q, e, q->count++);
		sift_up(q, e);
		return 0;
	}
	if (ts_ns < e->ts_ns) {
		e->ts_ns = ts_ns;
		sift_up(q, e);
	} else if (ts_ns > e->ts_ns) {
		e->ts_ns = ts_ns;
		sift_down(q, e);
	}
	return 0;
}

void mt_expiry_remove(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	struct mt_expiry *last;

	if (e->index == MT_EXPIRY_NONE) {
		return;
	}
	last = q->items[--q->count].e;
	if (last != e) {
		place(q, last, e->index);
		sift_up(q, last);
		sift_down(q, last);
	}
	e->ts_ns = UINT64_MAX;
	e->index = MT_EXPIRY_NONE;
}

struct mt_expiry *mt_expiry_first(const struct mt_expiry_queue *q)
{
	return q->count ? q->items[0].e : NULL;
}
