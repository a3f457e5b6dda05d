/* What happens, for those who watch: the last events in a ring, and readers that wait for the next
 * ones. A reader asks again for each batch, so nothing is queued for one that does not read: what
 * the ring has lost meanwhile is told as a number. Control thread, but for mt_events_post.
 */
#pragma once

#include "daemon/queue.h"
#include "proto/wire/addr.h"
#include "proto/wire/profile.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MT_EVENTS_MAX         1000 /* kept */
#define MT_EVENT_WAITERS_MAX  16
#define MT_EVENT_WAIT_MS      20000 /* then a waiting reader gets an empty answer */
#define MT_EVENTS_PENDING_MAX 1024  /* from workers, on their way to the control thread */

struct mt_hub;
struct mt_inbox;
struct mt_reply;

struct mt_events {
	json_t *ring[MT_EVENTS_MAX];
	int64_t last; /* number of the newest; the first one is 1 */
	struct mt_event_waiter {
		struct mt_reply *reply;
		int64_t after;
		uint64_t until_ms; /* of the loop's clock */
	} waiters[MT_EVENT_WAITERS_MAX];
	size_t waiter_count;
	uv_timer_t timer;
	uv_idle_t soon; /* answers once for all events of a turn */
	struct mt_inbox *inbox;
	struct mt_hub *hub; /* gets every event too; NULL: none */
	atomic_uint pending;
	_Atomic uint64_t dropped;
};

void mt_events_init(struct mt_events *e, uv_loop_t *loop, struct mt_inbox *inbox);
/* Ends the waiting of readers and closes the handles; nothing is added afterwards. */
void mt_events_close(struct mt_events *e);
void mt_events_free(struct mt_events *e);

/* Adds one; `event` is a word for programs, `fields` (taken; NULL: no memory, then it is counted as
 * dropped) what it is about. */
void mt_events_add(struct mt_events *e, const char *event, json_t *fields);
/* Answers `reply` with those after number `after`, at once or, with `wait`, when there are some. */
void mt_events_read(struct mt_events *e, int64_t after, bool wait, struct mt_reply *reply);
/* How many were lost: too many at once, or no memory. */
uint64_t mt_events_dropped(const struct mt_events *e);

/* What a worker has to tell. */
struct mt_worker_event {
	const char *event; /* a static text */
	char reason[64];   /* may be empty, as what follows */
	char id[24];       /* of the connection */
	char client[MT_NAME_MAX + 1];
	struct mt_addr peer;
	char detail[128]; /* the other side's phrase */
};
/* Any thread: copies `event` and passes it on, or counts it as dropped. */
void mt_events_post(struct mt_events *e, const struct mt_worker_event *event);
