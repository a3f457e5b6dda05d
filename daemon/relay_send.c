/* From the client to targets: sockets, targets and their names. */
#include "daemon/access.h"
#include "daemon/drop.h"
#include "daemon/relay_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answers that come while the worker does something else, or while congestion control, which every
 * five seconds looks for a fifth of one how short the path is, lets through but a part of them;
 * costs nothing while there are none. A client whose targets flood all that it may open would hold
 * much of the system's memory for UDP: only so many sessions of a connection have the larger
 * buffers.
 */
#define LARGE_BUFFER      (4 * 1024 * 1024)
#define LARGE_SESSIONS    4u
#define MIDDLING_BUFFER   (1024 * 1024)
#define MIDDLING_SESSIONS 16u

static bool has_socket(const struct mt_relay_session *s)
{
	return s->v4.open || s->v6.open;
}

/* ---- sockets ---- */

static int ensure_socket(struct mt_relay_session *session, int family, struct mt_relay_socket **out)
{
	struct mt_relay_socket *s = family == AF_INET ? &session->v4 : &session->v6;
	struct mt_env *env = session->relay->env;
	const unsigned sessions = session->relay->session_count;
	const int buffer = sessions <= LARGE_SESSIONS ? LARGE_BUFFER : MIDDLING_BUFFER;
	const int on = 1;
	int fd;
	int rv;

	if (s->open) {
		*out = s;
		return 0;
	}
	while (env->relay_sockets >= env->relay_sockets_max) {
		if (!mt_relay_evict(session->relay, session)) {
			return -EMFILE;
		}
	}
	fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) {
		rv = -errno;
		(void)close(fd); /* nothing was sent yet */
		return rv;
	}
	if (sessions <= MIDDLING_SESSIONS) {
		/* The system may give less: a burst then loses more. */
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	}
	rv = mt_poller_add(env->poller, &s->item, fd, mt_relay_on_ready);
	if (rv < 0) {
		(void)close(fd); /* likewise */
		return rv;
	}
	if (!has_socket(session)) {
		mt_count(&env->counters->udp_flows_active, 1);
	}
	env->relay_sockets++;
	mt_relay_io_init(&s->out, fd,
		session->relay->conn != NULL ? &env->counters->bytes_received
					     : &env->counters->tls_bytes_received);
	s->session = session;
	s->waiting = false;
	s->open = true;
	*out = s;
	return 0;
}

static void close_socket(struct mt_relay_socket *s)
{
	struct mt_env *env;

	if (!s->open) {
		return;
	}
	env = s->session->relay->env;
	if (s->out.count > 0) {
		mt_relay_io_flush(env->relay_io);
	}
	if (s->waiting) {
		TAILQ_REMOVE(&s->session->relay->waiting, s, by_turn);
		s->waiting = false;
	}
	mt_poller_close(env->poller, &s->item);
	s->open = false;
	env->relay_sockets--;
	if (!has_socket(s->session)) {
		mt_count(&env->counters->udp_flows_active, UINT64_MAX); /* one less */
	}
}

/* ---- datagrams that wait for a name ---- */

static void drop_pending(struct mt_relay *r, struct mt_relay_pending *p)
{
	TAILQ_REMOVE(&r->pending, p, link);
	r->pending_count--;
	r->pending_bytes -= p->len;
	mt_mem_release(r->env->mem, p);
}

static void drop_pending_of(
	struct mt_relay *r, const struct mt_relay_target *target, mt_counter *reason)
{
	struct mt_relay_pending *next;

	for (struct mt_relay_pending *p = TAILQ_FIRST(&r->pending); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->target == target) {
			mt_count(reason, 1);
			MT_PROBE2(drop, "udp_dropped_pending", 1);
			drop_pending(r, p);
		}
	}
}

static void add_pending(
	struct mt_relay *r, struct mt_relay_target *target, const uint8_t *data, size_t len)
{
	struct mt_relay_pending *p = mt_mem_alloc(r->env->mem, sizeof(*p) + len);

	if (p == NULL) {
		mt_count(&r->env->counters->errors, 1);
		return;
	}
	while (r->pending_count == MT_RELAY_PENDING_MAX ||
		(r->pending_count > 0 && r->pending_bytes + len > MT_RELAY_PENDING_BYTES)) {
		MT_COUNT_DROP(r->env->counters, udp_dropped_queue, 1);
		drop_pending(r, TAILQ_FIRST(&r->pending));
	}
	p->target = target;
	p->len = len;
	if (len > 0) {
		memcpy(p->data, data, len);
	}
	TAILQ_INSERT_TAIL(&r->pending, p, link);
	r->pending_count++;
	r->pending_bytes += len;
}

/* ---- targets ---- */

void mt_relay_drop_target(
	struct mt_relay_session *s, struct mt_relay_target *target, mt_counter *reason)
{
	struct mt_relay *r = s->relay;

	drop_pending_of(r, target, reason);
	r->lookups -= target->resolve.name != NULL ? 1 : 0;
	mt_resolve_cancel(&target->resolve);
	mt_relay_targets_drop(&s->targets, target);
	r->target_count--;
}

void mt_relay_session_clear(struct mt_relay_session *s)
{
	struct mt_relay_target *target;

	while ((target = mt_relay_targets_oldest(&s->targets)) != NULL) {
		mt_relay_drop_target(s, target, &s->relay->env->counters->udp_dropped_queue);
	}
	mt_relay_targets_clear(&s->targets);
	close_socket(&s->v4);
	close_socket(&s->v6);
	mt_deadline_cancel(&s->idle);
}

static void arm_idle(struct mt_relay_session *s, uint64_t now_ms)
{
	const struct mt_relay_target *oldest = mt_relay_targets_oldest(&s->targets);
	uint64_t since_ms = s->active_ms;

	if (oldest != NULL && oldest->used_ms < since_ms) {
		since_ms = oldest->used_ms;
	}
	since_ms += MT_RELAY_IDLE_MS;
	mt_deadline_set(
		&s->relay->env->deadlines, &s->idle, since_ms > now_ms ? since_ms - now_ms : 0);
}

static void on_idle(struct mt_deadline *deadline)
{
	struct mt_relay_session *s =
		(struct mt_relay_session *)((char *)deadline -
					    offsetof(struct mt_relay_session, idle));
	uint64_t now_ms = mt_deadlines_now_ms(&s->relay->env->deadlines);
	struct mt_relay_target *oldest;

	if (now_ms - s->active_ms >= MT_RELAY_IDLE_MS) {
		mt_relay_session_free(s);
		return;
	}
	while ((oldest = mt_relay_targets_oldest(&s->targets)) != NULL &&
		now_ms - oldest->used_ms >= MT_RELAY_IDLE_MS) {
		mt_relay_drop_target(s, oldest, &s->relay->env->counters->udp_dropped_queue);
	}
	arm_idle(s, now_ms);
}

void mt_relay_session_init(struct mt_relay_session *s, struct mt_relay *r)
{
	s->relay = r;
	s->idle.on_due = on_idle;
	mt_relay_targets_init(&s->targets, r->env->mem, r->env->seed);
}

void mt_relay_session_touch(struct mt_relay_session *s, uint64_t now_ms)
{
	s->active_ms = now_ms;
	if (s->idle.in == NULL) {
		arm_idle(s, now_ms);
	}
}

/* ---- to targets ---- */

static void send_to(struct mt_relay_session *session, const struct mt_relay_target *target,
	const uint8_t *data, size_t len)
{
	struct mt_relay *r = session->relay;
	struct mt_relay_socket *s = NULL;

	if (ensure_socket(session, target->addr.sa.sa_family, &s) < 0) {
		mt_count(&r->env->counters->errors, 1);
		return;
	}
	if (!mt_relay_meter_admit(&r->meter, len)) {
		MT_COUNT_DROP(r->env->counters, udp_dropped_rate, 1);
		return;
	}
	mt_relay_io_send(r->env->relay_io, &s->out, &target->addr, data, len);
}

struct mt_access_request mt_relay_request(
	const struct mt_relay *r, const struct mt_relay_target *target)
{
	return (struct mt_access_request){
		.client = r->client,
		.protocol = MT_RULE_UDP,
		.name = target->named ? target->host : NULL,
		.name_len = target->host_len,
		.port = target->port,
	};
}

/* The first address that the rules allow and this host has a socket for. */
static int choose(struct mt_relay_session *session, struct mt_relay_target *target,
	const struct mt_addr *addrs, size_t count)
{
	struct mt_relay *r = session->relay;
	const struct mt_access_request request = mt_relay_request(r, target);
	struct mt_relay_socket *s = NULL;
	int rv = MT_E_DNS;

	for (size_t i = 0; i < count; i++) {
		rv = mt_access_check_target(r->env->snapshot, &request, &addrs[i]);
		if (rv < 0) {
			continue;
		}
		rv = ensure_socket(session, addrs[i].sa.sa_family, &s);
		if (rv == 0) {
			target->addr = addrs[i];
			mt_addr_set_port(&target->addr, target->port);
			return 0;
		}
	}
	return rv;
}

static mt_counter *reason_of(struct mt_relay *r, int err)
{
	switch (err) {
	case MT_E_DENIED: return &r->env->counters->udp_dropped_denied;
	case MT_E_MALFORMED: return &r->env->counters->udp_dropped_malformed;
	case MT_E_DNS:
	case MT_E_LIMIT: return &r->env->counters->udp_dropped_queue;
	default: return &r->env->counters->errors;
	}
}

static void on_resolved(
	struct mt_resolve *request, int err, const struct mt_addr *addrs, size_t count)
{
	struct mt_relay_target *target =
		(struct mt_relay_target *)((char *)request -
					   offsetof(struct mt_relay_target, resolve));
	struct mt_relay_session *session = target->owner;
	struct mt_relay *r = session->relay;
	struct mt_relay_pending *next;
	int rv = count > 0 ? choose(session, target, addrs, count) : err;

	r->lookups--;
	if (rv < 0) {
		mt_relay_drop_target(session, target, reason_of(r, rv));
		return;
	}
	mt_relay_targets_use(&session->targets, target, mt_deadlines_now_ms(&r->env->deadlines));
	for (struct mt_relay_pending *p = TAILQ_FIRST(&r->pending); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->target == target) {
			send_to(session, target, p->data, p->len);
			drop_pending(r, p);
		}
	}
}

/* Where a new target is: 0, MT_E_AGAIN while its name is looked up, or why it cannot be sent to. */
static int locate(struct mt_relay_session *session, struct mt_relay_target *target)
{
	struct mt_relay *r = session->relay;
	enum mt_host_kind kind;
	struct mt_addr literal;
	const struct mt_addr *addrs = &literal;
	size_t count = 1;
	int rv = mt_host_parse(&kind, &literal, target->host, target->host_len, target->port);

	if (rv == 0 && kind == MT_HOST_NAME && r->lookups >= MT_RELAY_LOOKUPS_MAX) {
		return MT_E_LIMIT;
	}
	if (rv == 0 && kind == MT_HOST_NAME) {
		struct mt_access_request request;

		target->named = true;
		request = mt_relay_request(r, target);
		rv = mt_access_check_name(r->env->snapshot, &request, NULL);
		if (rv == 0) {
			target->resolve.asker = mt_resolve_asker(r->client, (uintptr_t)r);
			rv = mt_resolver_lookup(r->env->resolver, &target->resolve, target->host,
				target->host_len, &addrs, &count);
			r->lookups += rv == MT_E_AGAIN ? 1 : 0;
		}
	}
	return rv < 0 ? rv : choose(session, target, addrs, count);
}

/* Makes room for one more target of the connection: an old one of the session, or of the session
 * that was used least recently.
 */
static void make_room(struct mt_relay_session *session)
{
	struct mt_relay *r = session->relay;
	struct mt_relay_session *s = session;

	if (r->target_count < MT_RELAY_TARGETS_MAX) {
		return;
	}
	if (s->targets.count == 0) {
		s = TAILQ_LAST(&r->sessions, mt_relay_session_queue);
		while (s->targets.count == 0) { /* there are as many as the cap */
			s = TAILQ_PREV(s, mt_relay_session_queue, by_use);
		}
	}
	mt_relay_drop_target(
		s, mt_relay_targets_oldest(&s->targets), &r->env->counters->udp_dropped_queue);
}

static int find_target(struct mt_relay_session *session, const struct mt_datagram *d,
	uint64_t now_ms, struct mt_relay_target **out)
{
	struct mt_relay_target *target =
		mt_relay_targets_by_text(&session->targets, d->port, d->host, d->host_len);
	int rv;

	if (target != NULL) {
		*out = target;
		return target->addr.len > 0 ? 0 : MT_E_AGAIN;
	}
	make_room(session);
	target = mt_relay_targets_add(&session->targets, d->port, d->host, d->host_len, now_ms);
	if (target == NULL) {
		return -ENOMEM;
	}
	session->relay->target_count++;
	target->owner = session;
	target->resolve.on_done = on_resolved;
	rv = locate(session, target);
	if (rv < 0 && rv != MT_E_AGAIN) {
		mt_relay_targets_drop(&session->targets, target);
		session->relay->target_count--;
		return rv;
	}
	*out = target;
	return rv;
}

void mt_relay_session_send(struct mt_relay_session *s, const struct mt_datagram *d)
{
	struct mt_relay *r = s->relay;
	uint64_t now_ms = mt_deadlines_now_ms(&r->env->deadlines);
	struct mt_relay_target *target = NULL;
	int rv = find_target(s, d, now_ms, &target);

	/* One whose target is refused has no traffic to wait for, but it has to end some time. */
	mt_relay_session_touch(s, now_ms);
	if (rv < 0 && rv != MT_E_AGAIN) {
		mt_count(reason_of(r, rv), 1);
		return;
	}
	mt_relay_targets_use(&s->targets, target, now_ms);
	if (rv == MT_E_AGAIN) {
		add_pending(r, target, d->payload, d->payload_len);
	} else {
		send_to(s, target, d->payload, d->payload_len);
	}
}
