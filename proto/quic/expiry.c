#include "proto/quic/expiry.h"

#include <errno.h>
#include <stdlib.h>

#define CAP_MIN 256u

void mt_expiry_init(struct mt_expiry *e, bool is_closing)
{
	e->is_closing = is_closing;
	e->ts_ns = UINT64_MAX;
	e->index = MT_EXPIRY_NONE;
}

void mt_expiry_queue_deinit(struct mt_expiry_queue *q)
{
	free(q->items);
	*q = (struct mt_expiry_queue){0};
}

static void place(struct mt_expiry_queue *q, struct mt_expiry *e, size_t i)
{
	q->items[i] = e;
	e->index = i;
}

static void sift_up(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	size_t i = e->index;

	while (i > 0 && q->items[(i - 1) / 2]->ts_ns > e->ts_ns) {
		place(q, q->items[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	place(q, e, i);
}

static void sift_down(struct mt_expiry_queue *q, struct mt_expiry *e)
{
	size_t i = e->index, child;

	while ((child = 2 * i + 1) < q->count) {
		if (child + 1 < q->count && q->items[child + 1]->ts_ns < q->items[child]->ts_ns) {
			child++;
		}
		if (q->items[child]->ts_ns >= e->ts_ns) {
			break;
		}
		place(q, q->items[child], i);
		i = child;
	}
	place(q, e, i);
}

int mt_expiry_set(struct mt_expiry_queue *q, struct mt_expiry *e, uint64_t ts_ns)
{
	struct mt_expiry **items;
	size_t cap;

	if (ts_ns == UINT64_MAX) {
		mt_expiry_remove(q, e);
		return 0;
	}
	if (e->index == MT_EXPIRY_NONE) {
		if (q->count == q->cap) {
			cap = q->cap ? q->cap * 2 : CAP_MIN;
			items = realloc(q->items, cap * sizeof(struct mt_expiry *));
			if (!items) {
				return -ENOMEM;
			}
			q->items = items;
			q->cap = cap;
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
	last = q->items[--q->count];
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
	return q->count ? q->items[0] : NULL;
}
