#include "daemon/trace_desk.h"

#include "daemon/control.h"
#include "proto/wire/trace.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void mt_trace_desk_init(struct mt_trace_desk *d, uv_loop_t *loop, struct mt_qlogs *qlogs)
{
	d->qlogs = qlogs;
	d->timer.data = d;
	(void)uv_timer_init(loop, &d->timer); /* cannot fail */
}

/* One of them; NULL without memory, or for bytes that are no text. */
static json_t *record_json(const struct mt_qlogs_record *r)
{
	char connection[MT_TRACE_TEXT_MAX];

	return json_pack("{s:s, s:o, s:b}", "connection",
		mt_trace_format_connection(connection, r->connection), "data",
		json_stringn(r->data, r->len), "end", (int)r->end);
}

static json_t *batch_json(struct mt_qlogs_batch *batch)
{
	json_t *list = json_array();
	uint64_t lost = batch->lost;
	struct mt_qlogs_record r;

	while (list != NULL && mt_qlogs_next(batch, &r)) {
		if (json_array_append_new(list, record_json(&r)) != 0) {
			lost++;
		}
	}
	return json_pack("{s:o, s:I, s:b}", "records", list, "lost", (json_int_t)lost, "stopped",
		(int)batch->stopped);
}

static void answer(struct mt_trace_desk *d, uint64_t number, struct mt_reply *reply)
{
	struct mt_qlogs_batch batch = {0};
	json_t *result;

	if (mt_qlogs_take(d->qlogs, number, uv_now(d->timer.loop), &batch) != 0) {
		mt_reply_error(reply, "not_found", "there is no such trace; it may have ended",
			"mytunnelctl trace list");
		return;
	}
	result = batch_json(&batch);
	free(batch.queue);
	mt_reply_result(reply, result);
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_trace_desk *d = timer->data;
	uint64_t now = uv_now(timer->loop);

	for (unsigned i = d->waiter_count; i-- > 0;) {
		struct mt_trace_waiter w = d->waiters[i];
		bool ready = false;

		if (mt_qlogs_ready(d->qlogs, w.number, &ready) != 0 || ready || w.until_ms <= now) {
			d->waiters[i] = d->waiters[--d->waiter_count];
			answer(d, w.number, w.reply);
		}
	}
	if (mt_qlogs_expire(d->qlogs, now) == 0 && d->waiter_count == 0) {
		(void)uv_timer_stop(timer); /* always succeeds */
	}
}

void mt_trace_desk_watch(struct mt_trace_desk *d)
{
	if (!uv_is_active((uv_handle_t *)&d->timer)) {
		(void)uv_timer_start(&d->timer, on_timer, MT_TRACE_TICK_MS,
			MT_TRACE_TICK_MS); /* fails only for a closing handle */
	}
}

void mt_trace_desk_close(struct mt_trace_desk *d)
{
	while (d->waiter_count > 0) {
		struct mt_reply *reply = d->waiters[--d->waiter_count].reply;

		mt_reply_error(reply, "stopping", "the daemon is stopping", "");
	}
	uv_close((uv_handle_t *)&d->timer, NULL);
}

static void on_gone(struct mt_reply *reply, void *user)
{
	struct mt_trace_desk *d = user;

	for (unsigned i = 0; i < d->waiter_count; i++) {
		if (d->waiters[i].reply == reply) {
			d->waiters[i] = d->waiters[--d->waiter_count];
			mt_reply_error(reply, "gone", "the reader has left", "");
			return;
		}
	}
}

void mt_trace_desk_read(struct mt_trace_desk *d, uint64_t number, bool wait, struct mt_reply *reply)
{
	bool ready = false;

	if (mt_qlogs_ready(d->qlogs, number, &ready) != 0 || ready || !wait) {
		answer(d, number, reply);
		return;
	}
	for (unsigned i = 0; i < d->waiter_count; i++) {
		if (d->waiters[i].number == number) {
			mt_reply_error(reply, "busy", "somebody else reads that trace", "");
			return;
		}
	}
	if (d->waiter_count == MT_QLOGS_MAX) { /* for traces that have just ended */
		answer(d, number, reply);
		return;
	}
	d->waiters[d->waiter_count++] = (struct mt_trace_waiter){.reply = reply,
		.number = number,
		.until_ms = uv_now(d->timer.loop) + MT_TRACE_WAIT_MS};
	mt_reply_on_gone(reply, on_gone, d);
	mt_trace_desk_watch(d);
}
