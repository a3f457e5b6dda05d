#include "daemon/listeners.h"

#include "daemon/appliance.h"
#include "daemon/events.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mt_listeners_post(struct mt_appliance *a)
{
	a->facts.listener_count = mt_listeners_serving(&a->listeners, a->facts.listeners);
	mt_appliance_post_facts(a);
}

void mt_listeners_begin(struct mt_appliance *a, const struct mt_listen *listen, unsigned *ids)
{
	a->listeners.count = 0;
	for (size_t i = 0; i < listen->addr_count; i++) {
		ids[i] = mt_listeners_add(&a->listeners, &listen->wanted[i], &listen->addrs[i]);
	}
}

/* ---- a move ---- */

int mt_move_prepare(struct mt_move *move, struct mt_appliance *a, const struct mt_addr *addrs,
	size_t count, char *why, size_t why_cap, char *next, size_t next_cap)
{
	struct mt_listeners *l = &a->listeners;
	struct mt_addr fresh[MT_SETTING_ADDRS_MAX];
	struct mt_addr own[MT_LISTENERS_MAX];
	struct mt_listen_request request = {.addrs = fresh,
		.workers = a->worker_count,
		.tag = a->tag,
		.tcp_too = true,
		.own = own,
		.own_count = l->count};
	int rv = 0;

	*move = (struct mt_move){.prepared = true};
	for (size_t i = 0; i < l->count; i++) {
		own[i] = l->list[i].addr;
	}
	for (size_t i = 0; i < count; i++) {
		size_t at = mt_listeners_find(l, &addrs[i]);

		if (at == l->count) {
			fresh[request.count++] = addrs[i];
		} else if (l->list[at].state >= MT_LISTENER_ENDING) {
			(void)snprintf(why, why_cap, "an address is just being closed");
			(void)snprintf(next, next_cap, "try again in a moment");
			rv = -EADDRINUSE;
		} else {
			move->keep[at] = true;
			request.kept++;
		}
	}
	if (rv == 0 && l->count + request.count > MT_LISTENERS_MAX) {
		(void)snprintf(why, why_cap,
			"connections still use too many addresses that were given up");
		(void)snprintf(next, next_cap, "mytunnelctl connections");
		rv = MT_E_LIMIT;
	}
	if (rv == 0 && request.count > 0) {
		rv = mt_listen_open(&move->listen, &request, why, why_cap, next, next_cap);
	}
	if (rv != 0) {
		move->prepared = false;
	}
	return rv;
}

void mt_move_drop(struct mt_move *move)
{
	if (move->prepared) {
		mt_listen_close(&move->listen);
		move->prepared = false;
	}
}

/* A move on its way to the workers. */
struct handover {
	struct mt_appliance *a;
	struct mt_listen listen;
	unsigned ids[MT_SETTING_ADDRS_MAX];
	struct {
		unsigned id;
		bool retired;
	} old[MT_LISTENERS_MAX];
	size_t old_count;
	atomic_int failed; /* the last error of a worker */
};

static void hand_over(struct mt_worker *w, unsigned index, void *user)
{
	struct handover *h = user;
	struct mt_udp_socket *sockets = h->listen.sockets;

	for (size_t i = 0; i < h->listen.addr_count; i++) {
		struct mt_udp_socket *s = &sockets[index * h->listen.addr_count + i];
		int rv = mt_worker_add_socket(w, h->ids[i], s);

		if (rv == 0) {
			s->fd = -1;
		} else {
			atomic_store(&h->failed, rv);
		}
	}
	for (size_t i = 0; i < h->old_count; i++) {
		mt_worker_retire_socket(w, h->old[i].id, h->old[i].retired);
	}
}

static void handed_over(void *user, bool cancelled)
{
	struct handover *h = user;
	int failed = atomic_load(&h->failed);

	if (failed != 0 && !cancelled) {
		mt_listener_not_taken(h->a, failed, h->a->facts.notice, sizeof(h->a->facts.notice));
	}
	mt_listen_close(&h->listen);
	free(h);
}

/* What changes for listeners that are there already. */
static void note_old(struct handover *h, const struct mt_move *move, struct mt_appliance *a)
{
	for (size_t i = 0; i < a->listeners.count; i++) {
		struct mt_listener *l = &a->listeners.list[i];
		bool retired = !move->keep[i];

		if (l->state >= MT_LISTENER_ENDING ||
			(l->state == MT_LISTENER_RETIRED) == retired) {
			continue;
		}
		h->old[h->old_count].id = l->id;
		h->old[h->old_count++].retired = retired;
		l->state = retired ? MT_LISTENER_RETIRED : MT_LISTENER_SERVES;
		l->retired_ms = uv_now(a->loop);
	}
}

/* Only once nothing can fail any more: what was told cannot be taken back. */
static void tell_changes(struct mt_appliance *a, const struct mt_listeners *before)
{
	for (size_t i = 0; i < a->listeners.count; i++) {
		const struct mt_listener *l = &a->listeners.list[i];

		if (i >= before->count || l->state != before->list[i].state) {
			mt_listener_tell(a, "quic",
				l->state == MT_LISTENER_RETIRED ? "listener_retired" : "listening",
				&l->addr);
		}
	}
}

int mt_move_start(struct mt_move *move, struct mt_appliance *a)
{
	static const struct mt_round_ops ops = {.work = hand_over, .done = handed_over};
	struct mt_listeners before = a->listeners;
	struct handover *h = calloc(1, sizeof(*h));
	int rv = -ENOMEM;

	if (h == NULL) {
		return rv;
	}
	h->a = a;
	h->listen = move->listen;
	atomic_init(&h->failed, 0);
	note_old(h, move, a);
	for (size_t i = 0; i < h->listen.addr_count; i++) {
		h->ids[i] =
			mt_listeners_add(&a->listeners, &h->listen.wanted[i], &h->listen.addrs[i]);
	}
	rv = mt_appliance_ask(a, -1, &ops, h);
	if (rv != 0) {
		a->listeners = before;
		free(h);
		return rv;
	}
	tell_changes(a, &before);
	(void)snprintf(a->facts.notice, sizeof(a->facts.notice), "%s",
		move->listen.notice); /* same size */
	move->prepared = false;
	mt_listeners_post(a);
	return 0;
}

/* ---- the end of those that are retired ---- */

/* A question to the workers, or an order, about some listeners. */
struct farewell {
	struct mt_appliance *a;
	uint64_t asked_ms;
	size_t count;
	unsigned ids[MT_LISTENERS_MAX];
	struct {
		struct mt_walk walk;
		unsigned users[MT_LISTENERS_MAX];
	} of[MT_WORKERS_MAX]; /* each worker's own */
};

static struct mt_listener *by_id(struct mt_appliance *a, unsigned id)
{
	for (size_t i = 0; i < a->listeners.count; i++) {
		if (a->listeners.list[i].id == id) {
			return &a->listeners.list[i];
		}
	}
	return NULL;
}

static void close_worker(struct mt_worker *w, unsigned index, void *user)
{
	struct farewell *f = user;

	(void)index;
	for (size_t i = 0; i < f->count; i++) {
		mt_worker_close_socket(w, f->ids[i]);
	}
}

static void closed(void *user, bool cancelled)
{
	struct farewell *f = user;
	struct mt_listeners *all = &f->a->listeners;

	for (size_t i = 0; i < f->count; i++) {
		struct mt_listener *l = by_id(f->a, f->ids[i]);

		if (l != NULL) {
			mt_listener_tell(f->a, "quic", "listener_closed", &l->addr);
			memmove(l, l + 1, (size_t)(&all->list[all->count] - (l + 1)) * sizeof(*l));
			all->count--;
		}
	}
	(void)cancelled; /* workers that have ended have closed everything */
	f->a->listeners.asking = false;
	free(f);
}

static bool end_worker(struct mt_worker *w, unsigned index, void *user)
{
	struct farewell *f = user;

	return mt_worker_end_some_users(w, &f->of[index].walk, f->ids, f->count);
}

static void ended(void *user, bool cancelled)
{
	struct farewell *f = user;

	(void)cancelled; /* as above; the next tick closes */
	f->a->listeners.asking = false;
	free(f);
}

static void order(struct farewell *f, const struct mt_round_ops *ops)
{
	if (f->count == 0 || mt_appliance_ask(f->a, -1, ops, f) != 0) {
		f->a->listeners.asking = false; /* without memory: the next tick tries again */
		free(f);
	}
}

static bool count_worker(struct mt_worker *w, unsigned index, void *user)
{
	struct farewell *f = user;

	return mt_worker_count_some_users(
		w, &f->of[index].walk, f->ids, f->count, f->of[index].users);
}

static bool is_used(const struct farewell *f, size_t i)
{
	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		if (f->of[w].users[i] > 0) {
			return true;
		}
	}
	return false;
}

/* Those that nobody needs are closed; when there are none, users that stayed too long are ended. */
static void counted(void *user, bool cancelled)
{
	static const struct mt_round_ops close_ops = {.work = close_worker, .done = closed};
	static const struct mt_round_ops end_ops = {.work_some = end_worker, .done = ended};
	struct farewell *f = user;
	struct mt_appliance *a = f->a;
	size_t count = f->count;
	bool used[MT_LISTENERS_MAX] = {false};
	bool closes = false;

	for (size_t i = 0; i < count; i++) {
		used[i] = is_used(f, i);
	}
	memset(f->of, 0, sizeof(f->of)); /* for the next walk */
	f->count = 0;
	for (int late = 0; late < 2 && !closes && !cancelled; late++) {
		for (size_t i = 0; i < count; i++) {
			struct mt_listener *l = by_id(a, f->ids[i]);
			bool over = l != NULL && l->state >= MT_LISTENER_ENDING;

			if (l == NULL || l->state == MT_LISTENER_SERVES ||
				l->retired_ms > f->asked_ms) {
				continue; /* taken back meanwhile, and maybe given up again */
			}
			if (late == 0 ? !used[i] || over
				      : uv_now(a->loop) - l->retired_ms > MT_RETIRED_MAX_MS) {
				l->state = late == 0 ? MT_LISTENER_CLOSING : MT_LISTENER_ENDING;
				f->ids[f->count++] = l->id;
			}
		}
		closes = f->count > 0 && late == 0;
	}
	order(f, closes ? &close_ops : &end_ops);
}

void mt_listeners_tick(struct mt_appliance *a, bool hold)
{
	static const struct mt_round_ops ops = {.work_some = count_worker, .done = counted};
	struct farewell *f = NULL;

	if (hold || a->listeners.asking) {
		return;
	}
	for (size_t i = 0; i < a->listeners.count; i++) {
		if (a->listeners.list[i].state == MT_LISTENER_SERVES) {
			continue;
		}
		if (f == NULL) {
			f = calloc(1, sizeof(*f));
		}
		if (f == NULL) {
			return; /* the next tick tries again */
		}
		f->ids[f->count++] = a->listeners.list[i].id;
	}
	if (f != NULL) {
		f->a = a;
		f->asked_ms = uv_now(a->loop);
		a->listeners.asking = true;
		order(f, &ops);
	}
}
