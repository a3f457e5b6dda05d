/* Where the daemon's control thread leaves what HTTP threads show: pictures of connections and
 * clients, made when somebody asks, and the stream of events. Requests that wait for a picture and
 * readers of the stream are suspended meanwhile; neither side waits for the other. It outlives the
 * endpoints that use it.
 */
#pragma once

#include "proto/wire/err.h"
#include "web/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_HUB_EVENTS_MAX  512 /* kept for readers that come back, or come late */
#define MT_HUB_READERS_MAX 16
#define MT_HUB_WAITERS_MAX 256 /* requests that wait for a picture */
#define MT_HUB_FRESH_MS    1000
#define MT_HUB_KEEP_MS     10000 /* a picture that nobody asks for any more */
#define MT_HUB_RECENT      50    /* events that a new reader gets */

struct MHD_Connection;
struct mt_hub;

/* `version` and `started_at` (Unix seconds) are told to readers. NULL without memory. */
struct mt_hub *mt_hub_new(const char *version, int64_t started_at);
/* After the last endpoint has stopped. NULL is allowed. */
void mt_hub_free(struct mt_hub *hub);

/* ---- the daemon's side: one thread ---- */

/* A new picture: takes `rows`, an array from malloc(). With NULL it could not be made, and whoever
 * waits is refused, unless `count` is 0 as well: an empty one.
 */
void mt_hub_publish(struct mt_hub *hub, enum mt_web_listing which, void *rows, size_t count);
void mt_hub_publish_failure(struct mt_hub *hub, enum mt_web_listing which);
/* Lets go of pictures older than MT_HUB_KEEP_MS: they grow with connections. About once a second.
 */
void mt_hub_expire(struct mt_hub *hub);
/* An event as JSON (one line; taken, from malloc(); NULL is counted as missed). Numbers rise by
 * one. */
void mt_hub_event(struct mt_hub *hub, int64_t number, char *json);
/* The present as JSON, once a second; taken, NULL is left out. Readers are woken. */
void mt_hub_tick(struct mt_hub *hub, char *json);

/* ---- the endpoint's side: HTTP threads ---- */

/* One endpoint; zeroed before its start, in place until its daemons have stopped. */
struct mt_hub_user {
	bool closing; /* guarded by the hub */
};

/* Lets go of everybody who waits on behalf of this endpoint, and lets nobody wait any more. Before
 * its daemons are stopped. */
void mt_hub_release(struct mt_hub *hub, struct mt_hub_user *user);

/* A picture, shared by those who look at it. */
struct mt_hub_rows {
	unsigned refs; /* guarded by the hub */
	uint64_t at_ms;
	size_t count;
	void *rows;
};

enum mt_hub_answer {
	MT_HUB_READY,   /* `*out` is referenced */
	MT_HUB_WAIT,    /* the connection is suspended, and asked again when it is resumed */
	MT_HUB_REFUSED, /* no room, no picture, or the endpoint is closing */
};

/* A picture of at most MT_HUB_FRESH_MS ago; `waited`: whether this request has waited already. When
 * it is to be made, `want` is called. */
enum mt_hub_answer mt_hub_get(struct mt_hub *hub, struct mt_hub_user *user,
	struct MHD_Connection *connection, const struct mt_web_view *view,
	enum mt_web_listing which, bool waited, struct mt_hub_rows **out);
void mt_hub_put(struct mt_hub *hub, struct mt_hub_rows *rows);

/* A reader of the stream. `last_id` is its Last-Event-ID, or NULL. MT_E_LIMIT when there are as
 * many as there may be. */
struct mt_hub_reader;
int mt_hub_reader_new(struct mt_hub_reader **out, struct mt_hub *hub, struct mt_hub_user *user,
	struct MHD_Connection *connection, const char *last_id) MT_MUST_CHECK;
void mt_hub_reader_free(struct mt_hub_reader *reader);
/* Fills `buf`: bytes, 0 with the connection suspended, or -1 at the end. */
int64_t mt_hub_reader_read(struct mt_hub_reader *reader, char *buf, size_t cap);

/* How many readers there are. */
unsigned mt_hub_readers(struct mt_hub *hub);
/* Counts an answer by its status, for the families that are written here. */
void mt_hub_count_answer(struct mt_hub *hub, unsigned status);
void mt_hub_metrics(struct mt_hub *hub, struct mt_exposition *e);
