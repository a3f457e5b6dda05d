#include "daemon/deadline.h"

#include <stddef.h>

static struct mt_deadline *meld(struct mt_deadline *a, struct mt_deadline *b)
{
	struct mt_deadline *parent = a;
	struct mt_deadline *child = b;

	if (a == NULL || b == NULL) {
		return a != NULL ? a : b;
	}
	if (b->at_ms < a->at_ms) {
		parent = b;
		child = a;
	}
	child->next = parent->child;
	child->prev = parent;
	if (parent->child != NULL) {
		parent->child->prev = child;
	}
	parent->child = child;
	parent->next = NULL;
	parent->prev = NULL;
	return parent;
}

/* The usual two passes: neighbours in pairs, then the pairs from the last to the first. */
static struct mt_deadline *meld_children(struct mt_deadline *first)
{
	struct mt_deadline *pairs = NULL;
	struct mt_deadline *root = NULL;

	while (first != NULL) {
		struct mt_deadline *second = first->next;
		struct mt_deadline *rest = second != NULL ? second->next : NULL;
		struct mt_deadline *pair;

		first->next = NULL;
		first->prev = NULL;
		if (second != NULL) {
			second->next = NULL;
			second->prev = NULL;
		}
		pair = meld(first, second);
		pair->next = pairs;
		pairs = pair;
		first = rest;
	}
	while (pairs != NULL) {
		struct mt_deadline *rest = pairs->next;

		pairs->next = NULL;
		root = meld(root, pairs);
		pairs = rest;
	}
	return root;
}

static void take_out(struct mt_deadlines *d, struct mt_deadline *x)
{
	struct mt_deadline *children = meld_children(x->child);

	if (d->root == x) {
		d->root = children;
	} else {
		if (x->prev->child == x) {
			x->prev->child = x->next;
		} else {
			x->prev->next = x->next;
		}
		if (x->next != NULL) {
			x->next->prev = x->prev;
		}
		d->root = meld(d->root, children);
	}
	x->child = NULL;
	x->next = NULL;
	x->prev = NULL;
	x->in = NULL;
}

static void on_timer(uv_timer_t *timer);

static void arm(struct mt_deadlines *d)
{
	uint64_t now_ms = uv_now(d->timer.loop);
	uint64_t at_ms;

	if (d->root == NULL || d->root->at_ms >= d->armed_ms) {
		return; /* a timer that fires too early finds nothing due and is armed again */
	}
	at_ms = d->root->at_ms;
	/* Fails only for a closing handle. */
	if (uv_timer_start(&d->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0) == 0) {
		d->armed_ms = at_ms;
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_deadlines *d = timer->data;
	uint64_t now_ms = uv_now(timer->loop);
	struct mt_deadline *x;

	/* Ends: what the handlers set lies at least a millisecond behind `now_ms`. */
	while (d->root != NULL && d->root->at_ms <= now_ms) {
		x = d->root;
		take_out(d, x);
		x->on_due(x);
	}
	d->armed_ms = UINT64_MAX;
	arm(d);
}

int mt_deadlines_init(struct mt_deadlines *d, uv_loop_t *loop)
{
	int rv = uv_timer_init(loop, &d->timer);

	d->timer.data = d;
	d->root = NULL;
	d->armed_ms = UINT64_MAX;
	return rv; /* libuv's codes are negative errno values here */
}

void mt_deadlines_close(struct mt_deadlines *d)
{
	while (d->root != NULL) {
		take_out(d, d->root);
	}
	uv_close((uv_handle_t *)&d->timer, NULL);
}

uint64_t mt_deadlines_now_ms(const struct mt_deadlines *d)
{
	return uv_now(d->timer.loop);
}

void mt_deadline_set(struct mt_deadlines *d, struct mt_deadline *deadline, uint64_t delay_ms)
{
	mt_deadline_cancel(deadline);
	deadline->in = d;
	deadline->at_ms = uv_now(d->timer.loop) + (delay_ms > 0 ? delay_ms : 1);
	d->root = meld(d->root, deadline);
	arm(d);
}

void mt_deadline_cancel(struct mt_deadline *deadline)
{
	if (deadline->in != NULL) {
		take_out(deadline->in, deadline);
	}
}
