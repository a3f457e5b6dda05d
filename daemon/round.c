#include "daemon/round.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct leg {
	struct mt_message_node node;
	struct mt_round *round;
	unsigned index;
};

struct mt_round {
	struct mt_round *next;
	struct mt_rounds *rounds;
	struct mt_round_ops ops;
	void *user;
	unsigned pending; /* control thread */
	atomic_bool cancelled;
	struct leg legs[];
};

static void on_async(uv_async_t *async)
{
	mt_inbox_run(async->data);
}

int mt_inbox_init(struct mt_inbox *inbox, uv_loop_t *loop)
{
	mt_queue_init(&inbox->queue);
	inbox->async.data = inbox;
	return uv_async_init(loop, &inbox->async, on_async); /* libuv's codes are negative errnos */
}

void mt_inbox_post(struct mt_inbox *inbox, struct mt_message_node *node)
{
	if (mt_queue_push(&inbox->queue, node)) {
		(void)uv_async_send(&inbox->async); /* fails only for a closed handle, and producers
						       end before that */
	}
}

void mt_inbox_run(struct mt_inbox *inbox)
{
	(void)mt_queue_run(&inbox->queue, NULL); /* how many does not matter */
}

void mt_inbox_close(struct mt_inbox *inbox)
{
	mt_inbox_run(inbox);
	uv_close((uv_handle_t *)&inbox->async, NULL);
}

static void finish(struct mt_round *r, bool cancelled)
{
	struct mt_round **at = &r->rounds->first;

	while (*at != r) {
		at = &(*at)->next;
	}
	*at = r->next;
	r->ops.done(r->user, cancelled);
	free(r);
}

static void on_answer(struct mt_message_node *node, void *receiver)
{
	struct mt_round *r = ((struct leg *)node)->round;

	(void)receiver;
	if (--r->pending == 0) {
		finish(r, atomic_load(&r->cancelled));
	}
}

static void on_worker(struct mt_message_node *node, void *receiver)
{
	struct leg *leg = (struct leg *)node;

	if (receiver != NULL && leg->round->ops.work_some != NULL) {
		if (leg->round->ops.work_some(receiver, leg->index, leg->round->user)) {
			mt_worker_post(receiver, node);
			return;
		}
	} else if (receiver != NULL) {
		leg->round->ops.work(receiver, leg->index, leg->round->user);
	} else {
		atomic_store(
			&leg->round->cancelled, true); /* the worker ended before it got here */
	}
	node->run = on_answer;
	mt_inbox_post(leg->round->rounds->inbox, node);
}

int mt_round_start(struct mt_rounds *rounds, struct mt_worker **workers, unsigned first,
	unsigned count, const struct mt_round_ops *ops, void *user)
{
	struct mt_round *r;

	if (count == 0) {
		ops->done(user, false);
		return 0;
	}
	r = calloc(1, sizeof(*r) + count * sizeof(r->legs[0]));
	if (r == NULL) {
		return -ENOMEM;
	}
	r->rounds = rounds;
	r->ops = *ops;
	r->user = user;
	r->pending = count;
	r->next = rounds->first;
	rounds->first = r;
	for (unsigned i = 0; i < count; i++) {
		r->legs[i] =
			(struct leg){.node = {.run = on_worker}, .round = r, .index = first + i};
		mt_worker_post(workers[first + i], &r->legs[i].node);
	}
	return 0;
}

void mt_rounds_cancel(struct mt_rounds *rounds)
{
	while (rounds->first != NULL) {
		finish(rounds->first, true);
	}
}
