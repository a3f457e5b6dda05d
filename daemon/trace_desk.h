/* Those who read traces: a reader asks for the next batch, and gets it as soon as there is one.
 * Control thread. */
#pragma once

#include "daemon/qlogs.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define MT_TRACE_WAIT_MS 1000 /* then a waiting reader gets an empty answer */
#define MT_TRACE_TICK_MS 100  /* while there are traces: records are handed over in such batches */

struct mt_reply;

struct mt_trace_desk {
	struct mt_qlogs *qlogs;
	struct mt_trace_waiter {
		struct mt_reply *reply;
		uint64_t number;
		uint64_t until_ms; /* of the loop's clock */
	} waiters[MT_QLOGS_MAX];   /* one for each trace at most */
	unsigned waiter_count;
	uv_timer_t timer;
};

void mt_trace_desk_init(struct mt_trace_desk *d, uv_loop_t *loop, struct mt_qlogs *qlogs);
/* Ends the waiting of readers and closes the handle. */
void mt_trace_desk_close(struct mt_trace_desk *d);
/* A trace has been started: it is watched until it ends. */
void mt_trace_desk_watch(struct mt_trace_desk *d);
/* Answers `reply` with what the trace has, at once or, with `wait`, when there is something. */
void mt_trace_desk_read(
	struct mt_trace_desk *d, uint64_t number, bool wait, struct mt_reply *reply);
