#include "daemon/worker_impl.h"

#include "daemon/tls_front.h"

#include <string.h>
#include <time.h>

/* Enough for closes to leave and for the ends to be told. */
#define STOP_TURN_MS 10
/* Expiry and quota hold within this, and what tunnels and relays tell their accounts. */
#define SESSION_TICK_MS 250
/* Few sessions are all looked at within a second. Of many so many a tick as brings all by in time,
 * and no more: the memory of each is far from what the processor has at hand.
 */
#define OBSERVE_MS   1000
#define OBSERVE_SOME 100                                                     /* a tick */
#define OBSERVE_ALL  (MT_SESSION_OBSERVE_S * 1000 / 5 * 4 / SESSION_TICK_MS) /* ticks */

static enum mt_recheck what_changed(
	const struct mt_snapshot *before, const struct mt_snapshot *after)
{
	if (after->allow_private != before->allow_private) {
		return MT_RECHECK_CUT;
	}
	if (after->rules == before->rules) {
		return MT_RECHECK_OTHERS;
	}
	return mt_rules_keep(after->rules) ? MT_RECHECK_KEEP : MT_RECHECK_CUT;
}

struct mt_session *mt_worker_walk_on(struct mt_worker *w, struct mt_walk *walk)
{
	struct mt_session *s = walk->next;

	if (!walk->is_begun) {
		walk->is_begun = true;
		s = LIST_FIRST(&w->sessions);
		LIST_INSERT_HEAD(&w->env.walks, walk, link);
	}
	walk->next = s != NULL ? LIST_NEXT(s, of_worker) : NULL;
	return s;
}

/* Ends the walk. */
static bool leave(struct mt_walk *walk)
{
	LIST_REMOVE(walk, link);
	return false;
}

bool mt_worker_walk_has_more(struct mt_walk *walk)
{
	return walk->next != NULL || leave(walk);
}

void mt_worker_set_snapshot(
	struct mt_worker *w, struct mt_snapshot *snapshot, struct mt_recheck_walk *out)
{
	struct mt_snapshot *before = w->env.snapshot;
	struct mt_endpoint_limits limits;

	*out = (struct mt_recheck_walk){.how = (int)what_changed(before, snapshot)};
	w->env.snapshot = mt_snapshot_ref(snapshot);
	mt_worker_limits(&limits, snapshot, w->count);
	mt_endpoint_set_limits(mt_worker_endpoint(w), &limits);
	mt_endpoint_set_tls(mt_worker_endpoint(w), snapshot->tls);
	mt_worker_set_tls_limits(w);
	mt_snapshot_unref(before);
}

bool mt_worker_recheck_some(struct mt_worker *w, struct mt_recheck_walk *walk)
{
	unsigned closes = 0;
	struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && closes < MT_WALK_CLOSES &&
			     (s = mt_worker_walk_on(w, &walk->walk)) != NULL;
		i++) {
		mt_session_recheck(s, (enum mt_recheck)walk->how);
		closes += s->closing;
	}
	return mt_worker_walk_has_more(&walk->walk);
}

bool mt_worker_drain_some(struct mt_worker *w, struct mt_walk *walk)
{
	struct mt_session *s;
	bool more;

	w->env.draining = true;
	mt_endpoint_set_draining(mt_worker_endpoint(w), true);
	mt_tls_front_set_draining(w->tls);
	for (unsigned i = 0; i < MT_WALK_CLOSES && (s = mt_worker_walk_on(w, walk)) != NULL; i++) {
		mt_session_notify(s, MT_NOTICE_DRAINING, MT_SESSION_DRAINING_TEXT);
	}
	more = mt_worker_walk_has_more(walk);
	if (!more && w->env.tunnels_open == 0) {
		w->env.on_idle(w->env.user);
	}
	return more;
}

unsigned mt_worker_connections(const struct mt_worker *w)
{
	return w->env.session_count;
}

bool mt_worker_some_connections(struct mt_worker *w, struct mt_walk *walk, const char *client,
	bool (*fn)(const struct mt_connection_row *row, void *user), void *user)
{
	struct mt_connection_row row;
	struct mt_session *s;
	bool wanted = true;

	for (unsigned i = 0; i < MT_WALK_SOME && wanted && (s = mt_worker_walk_on(w, walk)) != NULL;
		i++) {
		if (client == NULL || strcmp(s->client, client) == 0) {
			mt_session_get_row(s, &row, w->index);
			wanted = fn(&row, user);
		}
	}
	return wanted ? mt_worker_walk_has_more(walk) : leave(walk);
}

bool mt_worker_kick_some(struct mt_worker *w, struct mt_walk *walk, uint64_t serial, int *result)
{
	struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && (s = mt_worker_walk_on(w, walk)) != NULL; i++) {
		if (mt_session_serial(s) == serial) {
			mt_session_close(s, MT_APP_KICKED, mt_app_code_text(MT_APP_KICKED));
			*result = 0;
			return leave(walk);
		}
	}
	return mt_worker_walk_has_more(walk);
}

bool mt_worker_kick_client_some(
	struct mt_worker *w, struct mt_walk *walk, const char *name, unsigned *count)
{
	unsigned closes = 0;
	struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && closes < MT_WALK_CLOSES &&
			     (s = mt_worker_walk_on(w, walk)) != NULL;
		i++) {
		if (!s->closing && strcmp(s->client, name) == 0) {
			mt_session_close(s, MT_APP_KICKED, mt_app_code_text(MT_APP_KICKED));
			closes++;
		}
	}
	*count += closes;
	return mt_worker_walk_has_more(walk);
}

static void observe_memory(struct mt_worker *w)
{
	atomic_store_explicit(
		&w->env.counters->pool_held, mt_mem_held(w->env.mem), memory_order_relaxed);
	atomic_store_explicit(
		&w->env.counters->pool_used, mt_mem_used(w->env.mem), memory_order_relaxed);
}

/* A part of all sessions, the next ones each time. */
static void observe_some(struct mt_worker *w, int64_t now)
{
	struct mt_session *s = w->env.observed != NULL ? w->env.observed : LIST_FIRST(&w->sessions);
	unsigned count = w->env.session_count / (OBSERVE_MS / SESSION_TICK_MS) + 1;
	unsigned needed = w->env.session_count / OBSERVE_ALL + 1;

	if (count > OBSERVE_SOME) {
		count = needed > OBSERVE_SOME ? needed : OBSERVE_SOME;
	}
	for (; s != NULL && count > 0; count--) {
		mt_session_observe(s, now);
		s = LIST_NEXT(s, of_worker);
	}
	w->env.observed = s;
}

static void on_session_tick(struct mt_deadline *deadline)
{
	struct mt_worker *w =
		(struct mt_worker *)((char *)deadline - offsetof(struct mt_worker, session_tick));
	int64_t now = (int64_t)time(NULL);
	struct mt_session *next;

	for (struct mt_session *s = LIST_FIRST(&w->env.watched); s != NULL; s = next) {
		next = LIST_NEXT(s, of_watched);
		mt_session_tick(s, now);
	}
	observe_some(w, now);
	observe_memory(w);
	if (!LIST_EMPTY(&w->sessions)) {
		mt_deadline_set(&w->env.deadlines, &w->session_tick, SESSION_TICK_MS);
	}
}

void mt_worker_watch_sessions(struct mt_worker *w)
{
	if (w->session_tick.in == NULL) {
		w->session_tick.on_due = on_session_tick;
		mt_deadline_set(&w->env.deadlines, &w->session_tick, SESSION_TICK_MS);
	}
}

/* ---- the end ---- */

static void on_last_turn(struct mt_deadline *deadline)
{
	struct mt_worker *w =
		(struct mt_worker *)((char *)deadline - offsetof(struct mt_worker, stop_due));

	uv_stop(&w->loop);
}

/* So many in each turn of the loop: what closes them leaves between. */
static void close_some(struct mt_message_node *node, void *receiver)
{
	struct mt_worker *w = receiver;
	struct mt_session *s;

	for (unsigned i = 0;
		i < MT_WALK_CLOSES && (s = mt_worker_walk_on(w, &w->stop_walk)) != NULL; i++) {
		mt_session_close_now(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	}
	if (mt_worker_walk_has_more(&w->stop_walk)) {
		mt_worker_post(w, node);
		return;
	}
	w->stop_due.on_due = on_last_turn;
	mt_deadline_set(&w->env.deadlines, &w->stop_due, STOP_TURN_MS);
}

static void on_farewells_over(struct mt_deadline *deadline)
{
	struct mt_worker *w =
		(struct mt_worker *)((char *)deadline - offsetof(struct mt_worker, stop_due));

	w->stop_walk = (struct mt_walk){.is_begun = false};
	w->stop.run = close_some;
	close_some(&w->stop, w);
}

static void say_farewell_to_some(struct mt_message_node *node, void *receiver)
{
	struct mt_worker *w = receiver;
	struct mt_session *s;

	for (unsigned i = 0;
		i < MT_WALK_CLOSES && (s = mt_worker_walk_on(w, &w->stop_walk)) != NULL; i++) {
		w->farewells = w->farewells || mt_session_has_channel(s);
		mt_session_close(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	}
	if (mt_worker_walk_has_more(&w->stop_walk)) {
		mt_worker_post(w, node);
	} else if (LIST_EMPTY(&w->sessions)) {
		uv_stop(&w->loop);
	} else {
		w->stop_due.on_due = on_farewells_over;
		mt_deadline_set(&w->env.deadlines, &w->stop_due,
			w->farewells ? MT_SESSION_FAREWELL_MS : STOP_TURN_MS);
	}
}

void mt_worker_begin_stop(struct mt_worker *w)
{
	w->stopping = true;
	mt_endpoint_set_draining(mt_worker_endpoint(w), true);
	mt_tls_front_set_draining(w->tls);
	w->stop.run = say_farewell_to_some;
	say_farewell_to_some(&w->stop, w);
}

void mt_worker_sockets_health(struct mt_worker *w, uint64_t *messages, uint64_t *gso_fallbacks)
{
	const struct mt_udp_tx_stats *stats = mt_driver_tx_stats(w->driver);

	*messages = stats->messages;
	*gso_fallbacks = stats->gso_fallbacks;
}
