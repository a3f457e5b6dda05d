/* A round of messages: one to each worker, answered by each, and one call on the control thread
 * when all have answered. The control thread never waits.
 */
#pragma once

#include "daemon/queue.h"
#include "daemon/worker.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* The control thread's letter box. */
struct mt_inbox {
	struct mt_queue queue;
	uv_async_t async;
};
int mt_inbox_init(struct mt_inbox *inbox, uv_loop_t *loop) MT_MUST_CHECK;
/* Any thread: `node` runs on the control thread, with a NULL receiver. */
void mt_inbox_post(struct mt_inbox *inbox, struct mt_message_node *node);
/* Control thread: runs what has arrived. */
void mt_inbox_run(struct mt_inbox *inbox);
/* Control thread, after the last producer has ended. */
void mt_inbox_close(struct mt_inbox *inbox);

struct mt_round;

struct mt_round_ops {
	/* On the worker's thread. */
	void (*work)(struct mt_worker *w, unsigned index, void *user);
	/* In place of `work`, for what takes long: called again in the next turn of the worker's
	 * loop for as long as it returns true, so that tunnels go on between.
	 */
	bool (*work_some)(struct mt_worker *w, unsigned index, void *user);
	/* On the control thread, once for each round that was started; frees `user`. With
	 * `cancelled` some workers have ended without an answer.
	 */
	void (*done)(void *user, bool cancelled);
};

/* Rounds under way, so that none is forgotten when the workers end. Control thread. */
struct mt_rounds {
	struct mt_round *first;
	struct mt_inbox *inbox;
};

/* Asks `workers[first]` to `workers[first + count - 1]`. With count 0 `done` is called at once. On
 * failure (-ENOMEM) nothing was asked, and `user` stays the caller's.
 */
int mt_round_start(struct mt_rounds *rounds, struct mt_worker **workers, unsigned first,
	unsigned count, const struct mt_round_ops *ops, void *user) MT_MUST_CHECK;
/* After all workers have ended: ends what was under way. */
void mt_rounds_cancel(struct mt_rounds *rounds);
