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

/* The next session of the walk, or NULL. Whoever calls it may end that session. */
static struct mt_session *walk_on(struct mt_worker *w, struct mt_walk *walk)
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

/* Whether there is more; else the walk is over. */
static bool has_more(struct mt_walk *walk)
{
	if (walk->next == NULL) {
		LIST_REMOVE(walk, link);
	}
	return walk->next != NULL;
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
	struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && (s = walk_on(w, &walk->walk)) != NULL; i++) {
		mt_session_recheck(s, (enum mt_recheck)walk->how);
	}
	return has_more(&walk->walk);
}

void mt_worker_drain(struct mt_worker *w)
{
	struct mt_session *s;

	if (w->env.draining) {
		return;
	}
	w->env.draining = true;
	mt_endpoint_set_draining(mt_worker_endpoint(w), true);
	mt_tls_front_set_draining(w->tls);
	for (s = LIST_FIRST(&w->sessions); s != NULL; s = LIST_NEXT(s, of_worker)) {
		mt_session_notify(s, MT_NOTICE_DRAINING, MT_SESSION_DRAINING_TEXT);
	}
	if (w->env.tunnels_open == 0) {
		w->env.on_idle(w->env.user);
	}
}

bool mt_worker_some_connections(struct mt_worker *w, struct mt_walk *walk,
	void (*fn)(const struct mt_connection_row *row, void *user), void *user)
{
	struct mt_connection_row row;
	struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && (s = walk_on(w, walk)) != NULL; i++) {
		mt_session_get_row(s, &row, w->index);
		fn(&row, user);
	}
	return has_more(walk);
}

int mt_worker_kick(struct mt_worker *w, uint64_t serial)
{
	struct mt_conn *c = mt_endpoint_find(mt_worker_endpoint(w), serial);
	struct mt_session *s = c != NULL ? mt_conn_user(c) : LIST_FIRST(&w->sessions);

	while (c == NULL && s != NULL && (s->conn != NULL || s->serial != serial)) {
		s = LIST_NEXT(s, of_worker);
	}
	if (s == NULL) {
		return MT_E_NOT_FOUND;
	}
	mt_session_close(s, MT_APP_KICKED, mt_app_code_text(MT_APP_KICKED));
	return 0;
}

unsigned mt_worker_kick_client(struct mt_worker *w, const char *name)
{
	struct mt_session *next;
	unsigned count = 0;

	for (struct mt_session *s = LIST_FIRST(&w->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, of_worker);
		if (!s->closing && strcmp(s->client, name) == 0) {
			mt_session_close(s, MT_APP_KICKED, mt_app_code_text(MT_APP_KICKED));
			count++;
		}
	}
	return count;
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

static void on_farewells_over(struct mt_deadline *deadline)
{
	struct mt_worker *w =
		(struct mt_worker *)((char *)deadline - offsetof(struct mt_worker, stop_due));
	struct mt_session *s;

	for (s = LIST_FIRST(&w->sessions); s != NULL; s = LIST_NEXT(s, of_worker)) {
		mt_session_close_now(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	}
	w->stop_due.on_due = on_last_turn;
	mt_deadline_set(&w->env.deadlines, &w->stop_due, STOP_TURN_MS);
}

void mt_worker_begin_stop(struct mt_worker *w)
{
	bool farewells = false;
	struct mt_session *s;

	w->stopping = true;
	mt_endpoint_set_draining(mt_worker_endpoint(w), true);
	mt_tls_front_set_draining(w->tls);
	for (s = LIST_FIRST(&w->sessions); s != NULL; s = LIST_NEXT(s, of_worker)) {
		farewells = farewells || mt_session_has_channel(s);
		mt_session_close(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	}
	if (LIST_EMPTY(&w->sessions)) {
		uv_stop(&w->loop);
		return;
	}
	w->stop_due.on_due = on_farewells_over;
	mt_deadline_set(
		&w->env.deadlines, &w->stop_due, farewells ? MT_SESSION_FAREWELL_MS : STOP_TURN_MS);
}

void mt_worker_sockets_health(struct mt_worker *w, uint64_t *messages, uint64_t *gso_fallbacks)
{
	const struct mt_udp_tx_stats *stats = mt_driver_tx_stats(w->driver);

	*messages = stats->messages;
	*gso_fallbacks = stats->gso_fallbacks;
}
