/* Many deadlines on one uv_timer, without memory of its own: a pairing heap of what its users
 * embed. Resolution is a millisecond. One thread.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdint.h>
#include <uv.h>

struct mt_deadlines;

/* Zeroed by its owner before the first use; stays in place while set. */
struct mt_deadline {
	struct mt_deadlines *in; /* NULL: not set */
	struct mt_deadline *child;
	struct mt_deadline *next; /* sibling */
	struct mt_deadline *prev; /* sibling before, or the parent of a first child */
	uint64_t at_ms;
	void (*on_due)(struct mt_deadline *deadline);
};

struct mt_deadlines {
	uv_timer_t timer;
	struct mt_deadline *root;
	uint64_t armed_ms; /* when the timer fires; UINT64_MAX: never */
};

int mt_deadlines_init(struct mt_deadlines *d, uv_loop_t *loop) MT_MUST_CHECK;
/* What is still set is forgotten. The loop must run once more before the memory goes. */
void mt_deadlines_close(struct mt_deadlines *d);
/* The loop's time, as of the start of its turn. */
uint64_t mt_deadlines_now_ms(const struct mt_deadlines *d);
/* Calls `on_due` once, `delay_ms` (at least 1) from now. A deadline that is set already is moved.
 * Set `on_due` before.
 */
void mt_deadline_set(struct mt_deadlines *d, struct mt_deadline *deadline, uint64_t delay_ms);
/* Nothing happens when it is not set. */
void mt_deadline_cancel(struct mt_deadline *deadline);
