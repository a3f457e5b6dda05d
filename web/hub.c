#include "web/hub.h"

#include "web/hub_impl.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAKE_MS 100 /* between wake-ups for events; the tick wakes in any case */

uint64_t mt_hub_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void mt_hub_lock(struct mt_hub *hub)
{
	(void)pthread_mutex_lock(&hub->lock); /* a plain mutex that is not held fails never */
}

void mt_hub_unlock(struct mt_hub *hub)
{
	(void)pthread_mutex_unlock(&hub->lock); /* as above */
}

struct mt_hub *mt_hub_new(const char *version, int64_t started_at)
{
	struct mt_hub *hub = calloc(1, sizeof(*hub));

	if (hub != NULL && pthread_mutex_init(&hub->lock, NULL) != 0) {
		free(hub);
		hub = NULL;
	}
	if (hub != NULL) {
		hub->version = version;
		hub->started_at = started_at;
	}
	return hub;
}

static void unref(struct mt_hub_rows *rows)
{
	if (rows != NULL && --rows->refs == 0) {
		free(rows->rows);
		free(rows);
	}
}

void mt_hub_free(struct mt_hub *hub)
{
	if (hub == NULL) {
		return;
	}
	for (size_t i = 0; i < MT_WEB_LISTINGS; i++) {
		unref(hub->pictures[i]);
	}
	for (size_t i = 0; i < MT_HUB_EVENTS_MAX; i++) {
		free(hub->events[i]);
	}
	free(hub->tick);
	(void)pthread_mutex_destroy(&hub->lock); /* fails only while it is held */
	free(hub);
}

/* ---- pictures ---- */

/* Resumes those who wait for `which` (MT_WEB_LISTINGS: any) on behalf of `user` (NULL: any). */
static void resume(struct mt_hub *hub, enum mt_web_listing which, const struct mt_hub_user *user)
{
	size_t kept = 0;

	for (size_t i = 0; i < hub->waiter_count; i++) {
		struct waiter *w = &hub->waiters[i];

		if ((which == MT_WEB_LISTINGS || w->which == which) &&
			(user == NULL || w->user == user)) {
			MHD_resume_connection(w->connection);
		} else {
			hub->waiters[kept++] = *w;
		}
	}
	hub->waiter_count = kept;
}

void mt_hub_publish(struct mt_hub *hub, enum mt_web_listing which, void *rows, size_t count)
{
	struct mt_hub_rows *picture = calloc(1, sizeof(*picture));

	if (picture == NULL || (rows == NULL && count > 0)) {
		free(picture);
		free(rows);
		mt_hub_publish_failure(hub, which);
		return;
	}
	*picture = (struct mt_hub_rows){
		.refs = 1, .at_ms = mt_hub_now_ms(), .count = count, .rows = rows};
	mt_hub_lock(hub);
	unref(hub->pictures[which]);
	hub->pictures[which] = picture;
	hub->wanted[which] = false;
	resume(hub, which, NULL);
	mt_hub_unlock(hub);
}

void mt_hub_publish_failure(struct mt_hub *hub, enum mt_web_listing which)
{
	mt_hub_lock(hub);
	unref(hub->pictures[which]);
	hub->pictures[which] = NULL;
	hub->wanted[which] = false;
	resume(hub, which, NULL);
	mt_hub_unlock(hub);
}

void mt_hub_expire(struct mt_hub *hub)
{
	const uint64_t now = mt_hub_now_ms();

	mt_hub_lock(hub);
	for (size_t i = 0; i < MT_WEB_LISTINGS; i++) {
		struct mt_hub_rows *picture = hub->pictures[i];

		if (picture != NULL && now - picture->at_ms > MT_HUB_KEEP_MS) {
			hub->pictures[i] = NULL;
			unref(picture);
		}
	}
	mt_hub_unlock(hub);
}

enum mt_hub_answer mt_hub_get(struct mt_hub *hub, struct mt_hub_user *user,
	struct MHD_Connection *connection, const struct mt_web_view *view,
	enum mt_web_listing which, bool waited, struct mt_hub_rows **out)
{
	enum mt_hub_answer answer = MT_HUB_REFUSED;
	struct mt_hub_rows *picture;
	bool want = false;

	mt_hub_lock(hub);
	picture = hub->pictures[which];
	if (picture != NULL && (waited || mt_hub_now_ms() - picture->at_ms < MT_HUB_FRESH_MS)) {
		picture->refs++;
		*out = picture;
		answer = MT_HUB_READY;
	} else if (!waited && !user->closing && hub->waiter_count < MT_HUB_WAITERS_MAX) {
		hub->waiters[hub->waiter_count++] = (struct waiter){connection, user, which};
		MHD_suspend_connection(connection);
		want = !hub->wanted[which];
		hub->wanted[which] = true;
		answer = MT_HUB_WAIT;
	}
	mt_hub_unlock(hub);
	if (want) {
		view->want(view->user, which);
	}
	return answer;
}

void mt_hub_put(struct mt_hub *hub, struct mt_hub_rows *rows)
{
	mt_hub_lock(hub);
	unref(rows);
	mt_hub_unlock(hub);
}

void mt_hub_release(struct mt_hub *hub, struct mt_hub_user *user)
{
	mt_hub_lock(hub);
	user->closing = true;
	resume(hub, MT_WEB_LISTINGS, user);
	mt_hub_wake_readers(hub, user);
	mt_hub_unlock(hub);
}

/* ---- the stream ---- */

void mt_hub_event(struct mt_hub *hub, int64_t number, char *json)
{
	uint64_t now = mt_hub_now_ms();
	char **place = &hub->events[number % MT_HUB_EVENTS_MAX];

	mt_hub_lock(hub);
	free(*place);
	*place = json;
	hub->last = number;
	if (now - hub->woken_ms >= WAKE_MS) {
		hub->woken_ms = now;
		mt_hub_wake_readers(hub, NULL);
	}
	mt_hub_unlock(hub);
}

void mt_hub_tick(struct mt_hub *hub, char *json)
{
	if (json == NULL) {
		return;
	}
	mt_hub_lock(hub);
	free(hub->tick);
	hub->tick = json;
	hub->ticks++;
	hub->woken_ms = mt_hub_now_ms();
	mt_hub_wake_readers(hub, NULL);
	mt_hub_unlock(hub);
}

/* ---- what it says of itself ---- */

void mt_hub_count_answer(struct mt_hub *hub, unsigned status)
{
	(void)atomic_fetch_add_explicit(&hub->answers[status / 100 % 6], 1, memory_order_relaxed);
}

void mt_hub_metrics(struct mt_hub *hub, struct mt_exposition *e)
{
	static const char *const classes[] = {NULL, NULL, "2xx", "3xx", "4xx", "5xx"};

	mt_exposition_family(e, "mytunnel_http_requests_total", MT_WEB_COUNTER,
		"Answers of the HTTP interface, by the class of their status.");
	for (size_t i = 2; i < sizeof(classes) / sizeof(classes[0]); i++) {
		const struct mt_web_label label = {"code", classes[i]};

		mt_exposition_count(
			e, &label, 1, atomic_load_explicit(&hub->answers[i], memory_order_relaxed));
	}
	mt_exposition_family(e, "mytunnel_http_event_readers", MT_WEB_GAUGE, "Readers of /events.");
	mt_exposition_value(e, NULL, 0, mt_hub_readers(hub));
}
