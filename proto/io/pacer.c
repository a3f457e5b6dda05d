#include "proto/io/pacer.h"

#include <errno.h>
#include <stdlib.h>

struct mt_pacer {
	uv_timer_t timer;
	struct mt_pacer_list hungry; /* got nothing in their last turn */
	struct mt_pacer_list fed;
	struct mt_pacer_list turn; /* being called */
	bool ticking;
};

static void put(struct mt_pacer_list *list, struct mt_pacer_item *item)
{
	TAILQ_INSERT_TAIL(list, item, link);
	item->in = list;
}

static struct mt_pacer_item *take_first(struct mt_pacer_list *list)
{
	struct mt_pacer_item *item = TAILQ_FIRST(list);

	if (item != NULL) {
		TAILQ_REMOVE(list, item, link);
		item->in = NULL;
	}
	return item;
}

static void on_tick(uv_timer_t *timer)
{
	struct mt_pacer *p = timer->data;
	struct mt_pacer_item *item;

	while ((item = take_first(&p->hungry)) != NULL) {
		put(&p->turn, item);
	}
	while ((item = take_first(&p->fed)) != NULL) {
		put(&p->turn, item);
	}
	/* Whoever waits again stands in one of the other lists: this ends. */
	while ((item = take_first(&p->turn)) != NULL) {
		item->on_turn(item);
	}
	if (TAILQ_EMPTY(&p->hungry) && TAILQ_EMPTY(&p->fed)) {
		p->ticking = false;
		(void)uv_timer_stop(timer); /* never fails */
	}
}

int mt_pacer_new(struct mt_pacer **out, uv_loop_t *loop)
{
	struct mt_pacer *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		return -ENOMEM;
	}
	TAILQ_INIT(&p->hungry);
	TAILQ_INIT(&p->fed);
	TAILQ_INIT(&p->turn);
	(void)uv_timer_init(loop, &p->timer); /* never fails */
	p->timer.data = p;
	*out = p;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void mt_pacer_free(struct mt_pacer *pacer)
{
	if (pacer != NULL) {
		uv_close((uv_handle_t *)&pacer->timer, on_closed);
	}
}

void mt_pacer_wait(struct mt_pacer *pacer, struct mt_pacer_item *item, bool got_something)
{
	if (item->in != NULL) {
		return;
	}
	put(got_something ? &pacer->fed : &pacer->hungry, item);
	if (!pacer->ticking) {
		pacer->ticking = true;
		/* Fails only for a closing handle. */
		(void)uv_timer_start(&pacer->timer, on_tick, MT_PACER_TICK_MS, MT_PACER_TICK_MS);
	}
}

void mt_pacer_cancel(struct mt_pacer_item *item)
{
	if (item->in != NULL) {
		TAILQ_REMOVE(item->in, item, link);
		item->in = NULL;
	}
}
