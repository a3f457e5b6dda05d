#include "daemon/lookup.h"

#include "daemon/resolver.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct query {
	LIST_ENTRY(query) link;
	struct mt_lookup *owner;
	struct mt_resolve resolve;
	struct mt_deadline deadline;
	void (*on_done)(void *user, int err, const struct mt_addr *addrs, size_t count);
	void *user;
};

LIST_HEAD(query_list, query);

struct mt_lookup {
	struct mt_worker_counters counters; /* nobody reads them: these are no client's queries */
	struct mt_env env;
	struct query_list queries;
	size_t count;
};

static void finish(struct query *q, int err, const struct mt_addr *addrs, size_t count)
{
	void (*on_done)(void *, int, const struct mt_addr *, size_t) = q->on_done;
	void *user = q->user;

	mt_resolve_cancel(&q->resolve);
	mt_deadline_cancel(&q->deadline);
	LIST_REMOVE(q, link);
	q->owner->count--;
	free(q);
	on_done(user, err, addrs, count);
}

static void on_resolved(
	struct mt_resolve *request, int err, const struct mt_addr *addrs, size_t count)
{
	finish((struct query *)((char *)request - offsetof(struct query, resolve)), err, addrs,
		count);
}

static void on_deadline(struct mt_deadline *deadline)
{
	finish((struct query *)((char *)deadline - offsetof(struct query, deadline)), MT_E_TIMEOUT,
		NULL, 0);
}

int mt_lookup_new(struct mt_lookup **out, uv_loop_t *loop)
{
	struct mt_lookup *l = aligned_alloc(alignof(struct mt_lookup), sizeof(*l));
	int rv = -ENOMEM;

	if (l == NULL) {
		return rv;
	}
	memset(l, 0, sizeof(*l));
	LIST_INIT(&l->queries);
	l->env.counters = &l->counters;
	l->env.mem = mt_mem_new();
	if (l->env.mem == NULL) {
		goto out;
	}
	if (getrandom(&l->env.seed, sizeof(l->env.seed), 0) != (ssize_t)sizeof(l->env.seed)) {
		rv = -EIO;
		goto out;
	}
	rv = mt_deadlines_init(&l->env.deadlines, loop);
	if (rv != 0) {
		goto out;
	}
	rv = mt_resolver_new(&l->env.resolver, loop, &l->env, NULL);
	if (rv != 0) {
		/* Its timer closes with the loop's next turn: the memory stays until the end. */
		mt_deadlines_close(&l->env.deadlines);
	}
	*out = l;
	return 0;
out:
	mt_mem_free(l->env.mem);
	free(l);
	return rv;
}

void mt_lookup_stop(struct mt_lookup *l)
{
	struct query *q;

	if (l == NULL || l->env.resolver == NULL) {
		return;
	}
	while ((q = LIST_FIRST(&l->queries)) != NULL) {
		finish(q, MT_E_CLOSED, NULL, 0);
	}
	mt_resolver_free(l->env.resolver);
	l->env.resolver = NULL;
	mt_deadlines_close(&l->env.deadlines);
}

void mt_lookup_free(struct mt_lookup *l)
{
	if (l != NULL) {
		mt_mem_free(l->env.mem);
		free(l);
	}
}

void mt_lookup_start(struct mt_lookup *l, const char *name, size_t len,
	void (*on_done)(void *user, int err, const struct mt_addr *addrs, size_t count), void *user)
{
	const struct mt_addr *addrs = NULL;
	struct query *q;
	size_t count = 0;
	int rv;

	if (l->env.resolver == NULL || l->count >= MT_LOOKUP_MAX) {
		on_done(user, l->env.resolver == NULL ? MT_E_CLOSED : MT_E_LIMIT, NULL, 0);
		return;
	}
	q = calloc(1, sizeof(*q));
	if (q == NULL) {
		on_done(user, -ENOMEM, NULL, 0);
		return;
	}
	q->owner = l;
	q->resolve.on_done = on_resolved;
	q->deadline.on_due = on_deadline;
	q->on_done = on_done;
	q->user = user;
	LIST_INSERT_HEAD(&l->queries, q, link);
	l->count++;
	rv = mt_resolver_lookup(l->env.resolver, &q->resolve, name, len, &addrs, &count);
	if (rv == MT_E_AGAIN) {
		mt_deadline_set(&l->env.deadlines, &q->deadline, MT_LOOKUP_TIMEOUT_MS);
	} else {
		finish(q, rv, addrs, count);
	}
}
