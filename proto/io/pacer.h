/* Those who wait for tokens of a bucket, woken every few milliseconds while there are any: in
 * turns, so that each gets its share of what has come in. One thread.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#define MT_PACER_TICK_MS 2

struct mt_pacer;
TAILQ_HEAD(mt_pacer_list, mt_pacer_item);

/* Zeroed by its owner before the first use; stays in place while it waits. */
struct mt_pacer_item {
	TAILQ_ENTRY(mt_pacer_item) link;
	struct mt_pacer_list *in; /* NULL: does not wait */
	void (*on_turn)(struct mt_pacer_item *item);
};

int mt_pacer_new(struct mt_pacer **out, uv_loop_t *loop) MT_MUST_CHECK;
/* Who still waits is forgotten. The loop must run once more; the memory goes then. NULL is allowed.
 */
void mt_pacer_free(struct mt_pacer *pacer);
/* Calls `on_turn`, set before, once at a later tick. Whoever got nothing since its last turn stands
 * before those who did. Nothing happens when it waits already.
 */
void mt_pacer_wait(struct mt_pacer *pacer, struct mt_pacer_item *item, bool got_something);
/* No turn follows. Nothing happens when it does not wait. */
void mt_pacer_cancel(struct mt_pacer_item *item);
