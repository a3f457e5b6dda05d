#include "daemon/events.h"

#include "daemon/control.h"
#include "daemon/round.h"
#include "web/hub.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void on_timer(uv_timer_t *timer);

void mt_events_init(struct mt_events *e, uv_loop_t *loop, struct mt_inbox *inbox)
{
	e->inbox = inbox;
	e->timer.data = e;
	e->soon.data = e;
	atomic_init(&e->pending, 0);
	atomic_init(&e->dropped, 0);
	/* Neither initialisation can fail. */
	(void)uv_timer_init(loop, &e->timer);
	(void)uv_idle_init(loop, &e->soon);
}

static json_t *batch(const struct mt_events *e, int64_t after)
{
	int64_t oldest = e->last > MT_EVENTS_MAX ? e->last - MT_EVENTS_MAX + 1 : 1;
	int64_t from = after + 1 > oldest ? after + 1 : oldest;
	json_t *list = json_array();

	for (int64_t n = from; n <= e->last; n++) {
		/* A place stays empty when there was no memory. */
		if (e->ring[n % MT_EVENTS_MAX] != NULL &&
			json_array_append(list, e->ring[n % MT_EVENTS_MAX]) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return json_pack("{s:o, s:I, s:I, s:I}", "events", list, "last", (json_int_t)e->last,
		"missed", (json_int_t)(after >= 0 ? from - after - 1 : 0), "dropped",
		(json_int_t)mt_events_dropped(e));
}

static void answer(struct mt_events *e, size_t i)
{
	struct mt_event_waiter w = e->waiters[i];

	e->waiters[i] = e->waiters[--e->waiter_count];
	mt_reply_result(w.reply, batch(e, w.after));
}

static void on_soon(uv_idle_t *idle)
{
	struct mt_events *e = idle->data;

	(void)uv_idle_stop(idle); /* always succeeds */
	while (e->waiter_count > 0) {
		answer(e, 0);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_events *e = timer->data;
	uint64_t now = uv_now(timer->loop);

	for (size_t i = e->waiter_count; i-- > 0;) {
		if (e->waiters[i].until_ms <= now) {
			answer(e, i);
		}
	}
	if (e->waiter_count == 0) {
		(void)uv_timer_stop(timer); /* always succeeds */
	}
}

void mt_events_close(struct mt_events *e)
{
	while (e->waiter_count > 0) {
		struct mt_reply *reply = e->waiters[--e->waiter_count].reply;

		mt_reply_error(reply, "stopping", "the daemon is stopping", "");
	}
	uv_close((uv_handle_t *)&e->timer, NULL);
	uv_close((uv_handle_t *)&e->soon, NULL);
}

void mt_events_free(struct mt_events *e)
{
	for (size_t i = 0; i < MT_EVENTS_MAX; i++) {
		json_decref(e->ring[i]);
		e->ring[i] = NULL;
	}
}

uint64_t mt_events_dropped(const struct mt_events *e)
{
	return atomic_load_explicit(&e->dropped, memory_order_relaxed);
}

void mt_events_add(struct mt_events *e, const char *event, json_t *fields)
{
	struct timespec now;
	json_t *entry;
	json_t **place;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	entry = json_pack("{s:I, s:I, s:s}", "number", (json_int_t)e->last + 1, "time_ms",
		(json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, "event", event);
	if (entry == NULL || fields == NULL || json_object_update(entry, fields) != 0) {
		(void)atomic_fetch_add_explicit(&e->dropped, 1, memory_order_relaxed);
		json_decref(entry);
		json_decref(fields);
		return;
	}
	json_decref(fields);
	place = &e->ring[++e->last % MT_EVENTS_MAX];
	json_decref(*place);
	*place = entry;
	if (e->hub != NULL) {
		mt_hub_event(e->hub, e->last, json_dumps(entry, JSON_COMPACT));
	}
	if (e->waiter_count > 0 && !uv_is_closing((uv_handle_t *)&e->soon)) {
		(void)uv_idle_start(&e->soon, on_soon); /* cannot fail with a callback */
	}
}

/* A place is free at once when its reader leaves. */
static void on_gone(struct mt_reply *reply, void *user)
{
	struct mt_events *e = user;

	for (size_t i = 0; i < e->waiter_count; i++) {
		if (e->waiters[i].reply == reply) {
			e->waiters[i] = e->waiters[--e->waiter_count];
			mt_reply_error(reply, "gone", "the reader has left", "");
			return;
		}
	}
}

void mt_events_read(struct mt_events *e, int64_t after, bool wait, struct mt_reply *reply)
{
	if (!wait || after < e->last) {
		mt_reply_result(reply, batch(e, after));
		return;
	}
	if (e->waiter_count == MT_EVENT_WAITERS_MAX) {
		mt_reply_error(reply, "busy", "too many are following the events already", "");
		return;
	}
	if (e->waiter_count == 0) {
		(void)uv_timer_start(&e->timer, on_timer, 1000, 1000); /* fails only for a closing
									  handle */
	}
	e->waiters[e->waiter_count++] = (struct mt_event_waiter){.reply = reply,
		.after = after,
		.until_ms = uv_now(e->timer.loop) + MT_EVENT_WAIT_MS};
	mt_reply_on_gone(reply, on_gone, e);
}

/* ---- from workers ---- */

struct letter {
	struct mt_message_node node;
	struct mt_events *events;
	struct mt_worker_event event;
};

static json_t *fields_of(const struct mt_worker_event *w)
{
	char peer[MT_ADDR_TEXT_MAX];
	json_t *o = json_object();
	int bad = o == NULL;

	if (w->id[0] != '\0') {
		bad |= json_object_set_new(o, "id", json_string(w->id));
	}
	if (w->client[0] != '\0') {
		bad |= json_object_set_new(o, "client", json_string(w->client));
	}
	if (w->peer.len != 0) {
		bad |= json_object_set_new(
			o, "peer", json_string(mt_addr_format(&w->peer, peer, sizeof(peer))));
	}
	if (w->reason[0] != '\0') {
		bad |= json_object_set_new(o, "reason", json_string(w->reason));
	}
	if (w->detail[0] != '\0') {
		/* Comes from the network: what is no UTF-8 is left out. */
		json_t *detail = json_string(w->detail);

		bad |= detail != NULL ? json_object_set_new(o, "detail", detail) : 0;
	}
	if (bad != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static void run_letter(struct mt_message_node *node, void *receiver)
{
	struct letter *l = (struct letter *)((char *)node - offsetof(struct letter, node));

	(void)receiver;
	(void)atomic_fetch_sub_explicit(&l->events->pending, 1, memory_order_relaxed);
	mt_events_add(l->events, l->event.event, fields_of(&l->event));
	free(l);
}

void mt_events_post(struct mt_events *e, const struct mt_worker_event *event)
{
	struct letter *l = NULL;

	if (atomic_fetch_add_explicit(&e->pending, 1, memory_order_relaxed) <
		MT_EVENTS_PENDING_MAX) {
		l = malloc(sizeof(*l));
	}
	if (l == NULL) {
		(void)atomic_fetch_sub_explicit(&e->pending, 1, memory_order_relaxed);
		(void)atomic_fetch_add_explicit(&e->dropped, 1, memory_order_relaxed);
		return;
	}
	l->node.run = run_letter;
	l->events = e;
	l->event = *event;
	mt_inbox_post(e->inbox, &l->node);
}
