#include "daemon/resolver.h"

#include <ares.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define QUERY_TIMEOUT_MS 2000 /* of the first try; c-ares doubles it */
#define QUERY_TRIES      3

#define ASKER_BUCKETS 256u

/* Who has queries under way. */
struct asker {
	LIST_ENTRY(asker) link;
	uint64_t id;
	unsigned count;
};

LIST_HEAD(asker_list, asker);

/* What c-ares knows of a name. */
struct query {
	struct mt_resolver *resolver;
	struct mt_name *name; /* NULL: it was given up */
	struct asker *asker;
};

struct dns_socket {
	uv_poll_t poll;
	struct mt_resolver *resolver;
	struct dns_socket *next;
	ares_socket_t fd;
};

/* Freed when c-ares and every closing handle have let go of it. */
struct mt_resolver {
	struct mt_env *env;
	struct mt_mem *mem;
	uv_loop_t *loop;
	ares_channel channel;
	struct mt_resolver_cache *cache;
	struct dns_socket *sockets;
	struct mt_deadline timeout;
	struct asker_list askers[ASKER_BUCKETS];
	struct mt_name *starting; /* an answer may come from inside ares_getaddrinfo */
	struct mt_name *answered; /* whose requests are told once c-ares has returned */
	size_t refs;
	bool closing;
	struct mt_addr loopback[2];
};

static void put(struct mt_resolver *r)
{
	if (--r->refs == 0) {
		mt_mem_release(r->mem, r);
	}
}

static void rearm(struct mt_resolver *r)
{
	struct timeval tv;
	const struct timeval *next = ares_timeout(r->channel, NULL, &tv);

	if (r->answered != NULL) {
		mt_deadline_set(&r->env->deadlines, &r->timeout, 0);
		return;
	}
	if (next == NULL) {
		mt_deadline_cancel(&r->timeout);
		return;
	}
	mt_deadline_set(&r->env->deadlines, &r->timeout,
		(uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1);
}

static void tell(struct mt_resolver *r)
{
	struct mt_resolve *request;
	struct mt_name *name;

	while ((name = r->answered) != NULL) {
		r->answered = name->next_held;
		/* A handler may cancel other requests, or start one for another name, which may
		 * bring more answers. Held, this one stays. */
		while ((request = LIST_FIRST(&name->waiting)) != NULL) {
			LIST_REMOVE(request, link);
			request->name = NULL;
			request->on_done(request, name->err, name->addrs, name->count);
		}
		name->held = false;
	}
}

static void on_timeout(struct mt_deadline *deadline)
{
	struct mt_resolver *r =
		(struct mt_resolver *)((char *)deadline - offsetof(struct mt_resolver, timeout));

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	tell(r);
	rearm(r);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct dns_socket *s = poll->data;
	struct mt_resolver *r = s->resolver;
	ares_socket_t fd = s->fd;
	bool failed = status < 0;

	/* An error shows itself to c-ares when it reads. */
	ares_process_fd(r->channel, failed || (events & UV_READABLE) ? fd : ARES_SOCKET_BAD,
		failed || (events & UV_WRITABLE) ? fd : ARES_SOCKET_BAD);
	tell(r);
	rearm(r);
}

static void on_socket_closed(uv_handle_t *handle)
{
	struct dns_socket *s = handle->data;
	struct mt_resolver *r = s->resolver;

	mt_mem_release(r->mem, s);
	put(r);
}

static struct dns_socket *add_socket(struct mt_resolver *r, ares_socket_t fd)
{
	struct dns_socket *s = mt_mem_calloc(r->mem, sizeof(*s));

	if (s == NULL) {
		return NULL;
	}
	if (uv_poll_init_socket(r->loop, &s->poll, fd) < 0) {
		mt_mem_release(r->mem, s);
		return NULL;
	}
	s->poll.data = s;
	s->resolver = r;
	s->fd = fd;
	s->next = r->sockets;
	r->sockets = s;
	r->refs++;
	return s;
}

static void on_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
	struct mt_resolver *r = user;
	struct dns_socket **link = &r->sockets;
	struct dns_socket *s;

	while (*link != NULL && (*link)->fd != fd) {
		link = &(*link)->next;
	}
	s = *link;
	if (!readable && !writable) {
		if (s != NULL) {
			*link = s->next;
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
		}
		return;
	}
	if (s == NULL) {
		s = add_socket(r, fd);
	}
	/* A socket that cannot be watched makes its query run into the timeout. */
	if (s == NULL ||
		uv_poll_start(&s->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
			on_poll) < 0) {
		mt_count(&r->env->counters->errors, 1);
	}
}

static size_t collect(const struct ares_addrinfo *info, struct mt_addr *addrs, uint64_t *ttl_ms)
{
	const struct ares_addrinfo_node *node = info != NULL ? info->nodes : NULL;
	size_t count = 0;
	int ttl_s = INT32_MAX;

	for (; node != NULL && count < MT_RESOLVE_ADDRS_MAX; node = node->ai_next) {
		if (mt_addr_from_sockaddr(&addrs[count], node->ai_addr, node->ai_addrlen) < 0) {
			continue;
		}
		count++;
		if (node->ai_ttl < ttl_s) {
			ttl_s = node->ai_ttl;
		}
	}
	*ttl_ms = ttl_s > 0 ? (uint64_t)ttl_s * 1000 : 0;
	return count;
}

/* ---- budgets ---- */

uint64_t mt_resolve_asker(const char *client, uint64_t connection)
{
	uint64_t h = 0xcbf29ce484222325u;

	if (client[0] == '\0') {
		return connection;
	}
	for (; *client != '\0'; client++) {
		h = (h ^ (uint8_t)*client) * 0x100000001b3u;
	}
	return h;
}

static struct asker_list *bucket_of(struct mt_resolver *r, uint64_t id)
{
	return &r->askers[(id * 0x9e3779b97f4a7c15u) >> 56];
}

_Static_assert(ASKER_BUCKETS == 256, "eight bits of the hash");

static struct asker *find_asker(struct mt_resolver *r, uint64_t id)
{
	struct asker *a;

	LIST_FOREACH(a, bucket_of(r, id), link)
	{
		if (a->id == id) {
			return a;
		}
	}
	a = mt_mem_calloc(r->mem, sizeof(*a));
	if (a != NULL) {
		a->id = id;
		LIST_INSERT_HEAD(bucket_of(r, id), a, link);
	}
	return a;
}

static void release_asker(struct mt_resolver *r, struct asker *a)
{
	if (a->count == 0) {
		LIST_REMOVE(a, link);
		mt_mem_release(r->mem, a);
	}
}

/* A query for `asker`, not yet begun. -ENOMEM, MT_E_LIMIT. */
static int new_query(struct mt_resolver *r, uint64_t asker, struct query **out)
{
	struct asker *a = find_asker(r, asker);
	struct query *q = NULL;

	if (a == NULL) {
		return -ENOMEM;
	}
	if (a->count >= MT_RESOLVE_ASKER_MAX) {
		mt_count(&r->env->counters->dns_refused, 1);
		return MT_E_LIMIT;
	}
	q = mt_mem_calloc(r->mem, sizeof(*q));
	if (q == NULL) {
		release_asker(r, a);
		return -ENOMEM;
	}
	q->resolver = r;
	q->asker = a;
	a->count++;
	*out = q;
	return 0;
}

static void free_query(struct query *q)
{
	q->asker->count--;
	release_asker(q->resolver, q->asker);
	mt_mem_release(q->resolver->mem, q);
}

/* The name's place was needed: c-ares goes on, and nobody keeps the answer. */
static void on_drop(void *query)
{
	((struct query *)query)->name = NULL;
}

static void on_answer(void *user, int status, int timeouts, struct ares_addrinfo *info)
{
	struct query *q = user;
	struct mt_name *name = q->name;
	struct mt_resolver *r = q->resolver;
	struct mt_addr addrs[MT_RESOLVE_ADDRS_MAX];
	uint64_t ttl_ms = 0;
	size_t count;
	int err = status == ARES_ENOMEM ? -ENOMEM : MT_E_DNS;

	(void)timeouts; /* c-ares retries by itself */
	free_query(q);
	if (r->closing || name == NULL) {
		ares_freeaddrinfo(info);
		return;
	}
	count = status == ARES_SUCCESS ? collect(info, addrs, &ttl_ms) : 0;
	ares_freeaddrinfo(info);
	if (count == 0) {
		mt_count(&r->env->counters->dns_failures, 1);
		ttl_ms =
			status == ARES_SUCCESS || status == ARES_ENOTFOUND || status == ARES_ENODATA
				? MT_RESOLVE_UNKNOWN_MS
				: MT_RESOLVE_FAILED_MS;
	}
	mt_resolver_cache_set(
		r->cache, name, err, addrs, count, ttl_ms, mt_deadlines_now_ms(&r->env->deadlines));
	if (name == r->starting) {
		r->starting = NULL;
		return;
	}
	name->held = true;
	name->next_held = r->answered;
	r->answered = name;
}

static int open_channel(struct mt_resolver *r, const char *servers)
{
	struct ares_options options = {
		/* The name that was asked for is the name that is looked up. */
		.flags = ARES_FLAG_NOSEARCH,
		.timeout = QUERY_TIMEOUT_MS,
		.tries = QUERY_TRIES,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	int rv = ares_init_options(&r->channel, &options,
		ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);

	if (rv != ARES_SUCCESS) {
		return rv == ARES_ENOMEM ? -ENOMEM : MT_E_DNS;
	}
	if (servers != NULL && ares_set_servers_ports_csv(r->channel, servers) != ARES_SUCCESS) {
		ares_destroy(r->channel);
		return MT_E_MALFORMED;
	}
	return 0;
}

int mt_resolver_new(
	struct mt_resolver **out, uv_loop_t *loop, struct mt_env *env, const char *servers)
{
	struct mt_resolver *r = mt_mem_calloc(env->mem, sizeof(*r));
	int rv;

	if (r == NULL) {
		return -ENOMEM;
	}
	r->env = env;
	r->mem = env->mem;
	r->loop = loop;
	r->refs = 1;
	r->timeout.on_due = on_timeout;
	r->cache = mt_resolver_cache_new(r->mem, env->seed);
	rv = r->cache != NULL ? mt_addr_parse(&r->loopback[0], "127.0.0.1:0") : -ENOMEM;
	if (rv == 0) { /* second: a datagram goes to the first address and tries no other */
		rv = mt_addr_parse(&r->loopback[1], "[::1]:0");
	}
	if (rv == 0) {
		rv = open_channel(r, servers);
	}
	if (rv < 0) {
		mt_resolver_cache_free(r->cache);
		mt_mem_release(r->mem, r);
		return rv;
	}
	*out = r;
	return 0;
}

void mt_resolver_free(struct mt_resolver *r)
{
	if (r == NULL) {
		return;
	}
	r->closing = true;
	mt_deadline_cancel(&r->timeout);
	ares_destroy(r->channel); /* ends every query with an answer, and closes every socket */
	mt_resolver_cache_free(r->cache);
	put(r);
}

/* RFC 6761, section 6.3: "localhost" and the names below it are this host, whatever a name server
 * or a missing hosts file says.
 */
static bool is_localhost(const char *name, size_t len)
{
	static const char text[] = "localhost";
	const size_t text_len = sizeof(text) - 1;

	if (len > 0 && name[len - 1] == '.') {
		len--;
	}
	return len >= text_len && strncasecmp(name + len - text_len, text, text_len) == 0 &&
	       (len == text_len || name[len - text_len - 1] == '.');
}

static int start(
	struct mt_resolver *r, uint64_t asker, const char *name, size_t len, struct mt_name **out)
{
	const struct ares_addrinfo_hints hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct query *q = NULL;
	struct mt_name *n = NULL;
	int rv = new_query(r, asker, &q);

	if (rv < 0) {
		return rv;
	}
	rv = mt_resolver_cache_add(r->cache, &n, name, len, on_drop);
	if (rv < 0) {
		free_query(q);
		return rv;
	}
	n->owner = r;
	n->query = q;
	q->name = n;
	mt_count(&r->env->counters->dns_queries, 1);
	r->starting = n;
	ares_getaddrinfo(r->channel, n->text, NULL, &hints, on_answer, q);
	r->starting = NULL;
	rearm(r);
	*out = n;
	return 0;
}

int mt_resolver_lookup(struct mt_resolver *r, struct mt_resolve *request, const char *name,
	size_t len, const struct mt_addr **addrs, size_t *count)
{
	struct mt_name *n;
	int rv;

	if (is_localhost(name, len)) {
		*addrs = r->loopback;
		*count = 2;
		return 0;
	}
	n = mt_resolver_cache_find(r->cache, name, len, mt_deadlines_now_ms(&r->env->deadlines));
	if (n == NULL) {
		rv = start(r, request->asker, name, len, &n);
		if (rv < 0) {
			mt_count(&r->env->counters->dns_failures, 1);
			return rv;
		}
	}
	switch (n->state) {
	case MT_NAME_KNOWN:
		*addrs = n->addrs;
		*count = n->count;
		return 0;
	case MT_NAME_UNKNOWN: return n->err;
	case MT_NAME_PENDING: break;
	}
	mt_resolver_cache_abandon(r->cache, n, false);
	request->name = n;
	LIST_INSERT_HEAD(&n->waiting, request, link);
	return MT_E_AGAIN;
}

void mt_resolve_cancel(struct mt_resolve *request)
{
	struct mt_name *name = request->name;

	if (name == NULL) {
		return;
	}
	LIST_REMOVE(request, link);
	request->name = NULL;
	if (name->state == MT_NAME_PENDING && LIST_EMPTY(&name->waiting)) {
		mt_resolver_cache_abandon(((struct mt_resolver *)name->owner)->cache, name, true);
	}
}
