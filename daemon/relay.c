#include "daemon/relay.h"

#include "daemon/access.h"
#include "daemon/relay_io.h"
#include "daemon/relay_targets.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCHES_A_TURN 8 /* of one socket, then others have their turn */

struct pending {
	TAILQ_ENTRY(pending) link;
	struct mt_relay_target *target;
	size_t len;
	uint8_t data[];
};

TAILQ_HEAD(pending_list, pending);

struct relay_socket {
	struct mt_poll_item item;
	struct mt_relay_out out;
	struct mt_relay *relay;
	bool open;
	bool waiting; /* unread datagrams wait for room towards the client */
};

struct mt_relay {
	struct mt_env *env;
	struct mt_conn *conn;
	const char *client;
	struct mt_relay_meter meter;
	struct mt_pacer_item paced;
	struct relay_socket v4;
	struct relay_socket v6;
	struct mt_relay_targets targets;
	struct pending_list pending; /* oldest first */
	unsigned pending_count;
	unsigned lookups; /* targets whose name is being looked up */
	struct mt_deadline idle;
	uint64_t active_ms; /* last traffic */
	bool v6_first;
};

static bool has_socket(const struct mt_relay *r)
{
	return r->v4.open || r->v6.open;
}

/* ---- sockets ---- */

static void on_ready(struct mt_poll_item *item, unsigned events);

static int ensure_socket(struct mt_relay *r, int family, struct relay_socket **out)
{
	struct relay_socket *s = family == AF_INET ? &r->v4 : &r->v6;
	const int on = 1;
	int fd;
	int rv;

	if (s->open) {
		*out = s;
		return 0;
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
	rv = mt_poller_add(r->env->poller, &s->item, fd, on_ready);
	if (rv < 0) {
		(void)close(fd); /* likewise */
		return rv;
	}
	if (!has_socket(r)) {
		mt_count(&r->env->counters->udp_flows_active, 1);
	}
	mt_relay_io_init(&s->out, fd);
	s->relay = r;
	s->waiting = false;
	s->open = true;
	*out = s;
	return 0;
}

static void close_socket(struct relay_socket *s)
{
	if (!s->open) {
		return;
	}
	if (s->out.count > 0) {
		mt_relay_io_flush(s->relay->env->relay_io);
	}
	mt_poller_close(s->relay->env->poller, &s->item);
	s->open = false;
	if (!has_socket(s->relay)) {
		mt_count(&s->relay->env->counters->udp_flows_active, UINT64_MAX); /* one less */
	}
}

/* ---- datagrams that wait for a name ---- */

static void drop_pending(struct mt_relay *r, struct pending *p)
{
	TAILQ_REMOVE(&r->pending, p, link);
	r->pending_count--;
	mt_mem_release(r->env->mem, p);
}

static void drop_pending_of(
	struct mt_relay *r, const struct mt_relay_target *target, mt_counter *reason)
{
	struct pending *next;

	for (struct pending *p = TAILQ_FIRST(&r->pending); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->target == target) {
			mt_count(reason, 1);
			drop_pending(r, p);
		}
	}
}

static void add_pending(
	struct mt_relay *r, struct mt_relay_target *target, const uint8_t *data, size_t len)
{
	struct pending *p = mt_mem_alloc(r->env->mem, sizeof(*p) + len);

	if (p == NULL) {
		mt_count(&r->env->counters->errors, 1);
		return;
	}
	if (r->pending_count == MT_RELAY_PENDING_MAX) {
		mt_count(&r->env->counters->udp_dropped_queue, 1);
		drop_pending(r, TAILQ_FIRST(&r->pending));
	}
	p->target = target;
	p->len = len;
	if (len > 0) {
		memcpy(p->data, data, len);
	}
	TAILQ_INSERT_TAIL(&r->pending, p, link);
	r->pending_count++;
}

/* ---- targets ---- */

static void drop_target(struct mt_relay *r, struct mt_relay_target *target, mt_counter *reason)
{
	drop_pending_of(r, target, reason);
	r->lookups -= target->resolve.name != NULL ? 1 : 0;
	mt_resolve_cancel(&target->resolve);
	mt_relay_targets_drop(&r->targets, target);
}

/* Everything that the connection's traffic left behind. */
static void forget_all(struct mt_relay *r)
{
	struct mt_relay_target *target;

	while ((target = mt_relay_targets_oldest(&r->targets)) != NULL) {
		drop_target(r, target, &r->env->counters->udp_dropped_queue);
	}
	mt_relay_targets_clear(&r->targets);
	close_socket(&r->v4);
	close_socket(&r->v6);
	mt_deadline_cancel(&r->idle);
	mt_pacer_cancel(&r->paced);
}

static void arm_idle(struct mt_relay *r, uint64_t now_ms)
{
	const struct mt_relay_target *oldest = mt_relay_targets_oldest(&r->targets);
	uint64_t since_ms = r->active_ms;

	if (oldest != NULL && oldest->used_ms < since_ms) {
		since_ms = oldest->used_ms;
	}
	since_ms += MT_RELAY_IDLE_MS;
	mt_deadline_set(&r->env->deadlines, &r->idle, since_ms > now_ms ? since_ms - now_ms : 0);
}

static void on_idle(struct mt_deadline *deadline)
{
	struct mt_relay *r =
		(struct mt_relay *)((char *)deadline - offsetof(struct mt_relay, idle));
	uint64_t now_ms = mt_deadlines_now_ms(&r->env->deadlines);
	struct mt_relay_target *oldest;

	if (now_ms - r->active_ms >= MT_RELAY_IDLE_MS) {
		forget_all(r);
		return;
	}
	while ((oldest = mt_relay_targets_oldest(&r->targets)) != NULL &&
		now_ms - oldest->used_ms >= MT_RELAY_IDLE_MS) {
		drop_target(r, oldest, &r->env->counters->udp_dropped_queue);
	}
	arm_idle(r, now_ms);
}

static void touch(struct mt_relay *r, uint64_t now_ms)
{
	r->active_ms = now_ms;
	if (r->idle.in == NULL) {
		arm_idle(r, now_ms);
	}
}

/* ---- to targets ---- */

static void send_to(
	struct mt_relay *r, const struct mt_relay_target *target, const uint8_t *data, size_t len)
{
	struct relay_socket *s = NULL;

	if (ensure_socket(r, target->addr.sa.sa_family, &s) < 0) {
		mt_count(&r->env->counters->errors, 1);
		return;
	}
	if (!mt_relay_meter_admit(&r->meter, len)) {
		mt_count(&r->env->counters->udp_dropped_rate, 1);
		return;
	}
	mt_relay_io_send(r->env->relay_io, &s->out, &target->addr, data, len);
}

/* What the rules are asked about a target. */
static struct mt_access_request request_of(
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
static int choose(struct mt_relay *r, struct mt_relay_target *target, const struct mt_addr *addrs,
	size_t count)
{
	const struct mt_access_request request = request_of(r, target);
	struct relay_socket *s = NULL;
	int rv = MT_E_DNS;

	for (size_t i = 0; i < count; i++) {
		rv = mt_access_check_target(r->env->snapshot, &request, &addrs[i]);
		if (rv < 0) {
			continue;
		}
		rv = ensure_socket(r, addrs[i].sa.sa_family, &s);
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
	struct mt_relay *r = target->owner;
	struct pending *next;
	int rv = count > 0 ? choose(r, target, addrs, count) : err;

	r->lookups--;
	if (rv < 0) {
		drop_target(r, target, reason_of(r, rv));
		return;
	}
	mt_relay_targets_use(&r->targets, target, mt_deadlines_now_ms(&r->env->deadlines));
	for (struct pending *p = TAILQ_FIRST(&r->pending); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->target == target) {
			send_to(r, target, p->data, p->len);
			drop_pending(r, p);
		}
	}
}

/* Where a new target is: 0, MT_E_AGAIN while its name is looked up, or why it cannot be sent to. */
static int locate(struct mt_relay *r, struct mt_relay_target *target)
{
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
		request = request_of(r, target);
		rv = mt_access_check_name(r->env->snapshot, &request, NULL);
		if (rv == 0) {
			rv = mt_resolver_lookup(r->env->resolver, &target->resolve, target->host,
				target->host_len, &addrs, &count);
			r->lookups += rv == MT_E_AGAIN ? 1 : 0;
		}
	}
	return rv < 0 ? rv : choose(r, target, addrs, count);
}

static int find_target(struct mt_relay *r, const struct mt_datagram *d, uint64_t now_ms,
	struct mt_relay_target **out)
{
	struct mt_relay_target *target =
		mt_relay_targets_by_text(&r->targets, d->port, d->host, d->host_len);
	int rv;

	if (target != NULL) {
		*out = target;
		return target->addr.len > 0 ? 0 : MT_E_AGAIN;
	}
	if (r->targets.count >= MT_RELAY_TARGETS_MAX) {
		drop_target(r, mt_relay_targets_oldest(&r->targets),
			&r->env->counters->udp_dropped_queue);
	}
	target = mt_relay_targets_add(&r->targets, d->port, d->host, d->host_len, now_ms);
	if (target == NULL) {
		return -ENOMEM;
	}
	target->owner = r;
	target->resolve.on_done = on_resolved;
	rv = locate(r, target);
	if (rv < 0 && rv != MT_E_AGAIN) {
		mt_relay_targets_drop(&r->targets, target);
		return rv;
	}
	*out = target;
	return rv;
}

void mt_relay_receive(struct mt_relay *relay, const uint8_t *data, size_t len)
{
	struct mt_worker_counters *counters = relay->env->counters;
	uint64_t now_ms = mt_deadlines_now_ms(&relay->env->deadlines);
	struct mt_relay_target *target = NULL;
	struct mt_datagram d;
	int rv = mt_datagram_decode(&d, data, len);

	if (rv < 0) {
		mt_count(rv == MT_E_UNSUPPORTED ? &counters->udp_dropped_unsupported
						: &counters->udp_dropped_malformed,
			1);
		return;
	}
	rv = find_target(relay, &d, now_ms, &target);
	if (rv < 0 && rv != MT_E_AGAIN) {
		mt_count(reason_of(relay, rv), 1);
		return;
	}
	mt_relay_targets_use(&relay->targets, target, now_ms);
	touch(relay, now_ms);
	if (rv == MT_E_AGAIN) {
		add_pending(relay, target, d.payload, d.payload_len);
	} else {
		send_to(relay, target, d.payload, d.payload_len);
	}
}

/* ---- from targets ---- */

/* Whether somebody who was not written to may write. */
static bool is_welcome(const struct mt_relay *r, const struct mt_addr *from)
{
	const struct mt_access_request request = {
		.client = r->client, .protocol = MT_RULE_UDP, .port = mt_addr_port(from)};

	return mt_access_check_target(r->env->snapshot, &request, from) == 0;
}

static void deliver(
	struct mt_relay *r, const struct mt_relay_in *in, uint64_t now_ms, uint64_t now_ns)
{
	struct mt_worker_counters *counters = r->env->counters;
	struct mt_relay_target *target;
	uint8_t head[MT_DATAGRAM_HEADER_MAX];
	char text[MT_ADDR_TEXT_MAX];
	const char *host = text;
	size_t host_len;
	size_t head_len;
	int rv;

	if (in->from.len == 0) {
		return;
	}
	target = mt_relay_targets_by_addr(&r->targets, &in->from);
	if (target != NULL) {
		mt_relay_targets_use(&r->targets, target, now_ms);
		host = target->host;
		host_len = target->host_len;
	} else {
		if (!is_welcome(r, &in->from)) {
			mt_count(&counters->udp_dropped_denied, 1);
			return;
		}
		host_len = strlen(mt_addr_format_host(&in->from, text, sizeof(text)));
	}
	head_len = mt_datagram_header_encode(
		head, sizeof(head), mt_addr_port(&in->from), host, host_len);
	if (head_len == 0) {
		mt_count(&counters->udp_dropped_malformed, 1); /* a source port of 0 */
		return;
	}
	rv = mt_conn_send_datagram(r->conn, head, head_len, in->data, in->len);
	if (rv == MT_E_TOO_LONG) {
		mt_count(&counters->udp_dropped_size, 1);
	} else if (rv == 0) {
		mt_relay_meter_sent(&r->meter, in->len, now_ns);
		mt_count(&counters->udp_to_clients, 1);
		mt_count(&counters->bytes_sent, in->len);
	}
	touch(r, now_ms);
}

static void read_socket(struct relay_socket *s)
{
	struct mt_relay *r = s->relay;
	uint64_t now_ms = mt_deadlines_now_ms(&r->env->deadlines);
	uint64_t now_ns = 0;
	const struct mt_relay_in *in = NULL;

	for (unsigned batch = 0; batch < BATCHES_A_TURN; batch++) {
		size_t room = mt_conn_datagram_room(r->conn);
		size_t want = room < MT_RELAY_BATCH ? room : MT_RELAY_BATCH;
		int n;

		if (room == 0) {
			s->waiting = true;
			return;
		}
		want = mt_relay_meter_window(&r->meter, want, &now_ns);
		if (want == 0) {
			s->waiting = true;
			mt_pacer_wait(r->env->pacer, &r->paced, batch > 0);
			return;
		}
		n = mt_relay_io_receive(r->env->relay_io, s->item.fd, want, &in);
		for (int i = 0; i < n; i++) {
			deliver(r, &in[i], now_ms, now_ns);
		}
		/* An error of the socket is taken by the receive that reported it. */
		if (n >= 0 && (size_t)n < want) {
			return;
		}
	}
	mt_poller_defer(r->env->poller, &s->item, MT_POLL_IN);
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct relay_socket *s =
		(struct relay_socket *)((char *)item - offsetof(struct relay_socket, item));

	if ((events & (MT_POLL_IN | MT_POLL_HUP)) && !s->waiting) {
		read_socket(s);
	}
}

void mt_relay_resume(struct mt_relay *relay)
{
	/* Each may take all the room there is: they take turns in being the first. */
	struct relay_socket *const both[] = {relay->v6_first ? &relay->v6 : &relay->v4,
		relay->v6_first ? &relay->v4 : &relay->v6};

	relay->v6_first = !relay->v6_first;
	for (size_t i = 0; i < 2; i++) {
		if (both[i]->open && both[i]->waiting) {
			both[i]->waiting = false;
			read_socket(both[i]);
		}
	}
}

static void on_turn(struct mt_pacer_item *item)
{
	mt_relay_resume((struct mt_relay *)((char *)item - offsetof(struct mt_relay, paced)));
}

/* ---- life ---- */

int mt_relay_new(
	struct mt_relay **out, struct mt_env *env, struct mt_conn *conn, const char *client)
{
	struct mt_relay *r = mt_mem_calloc(env->mem, sizeof(*r));

	if (r == NULL) {
		return -ENOMEM;
	}
	r->env = env;
	r->conn = conn;
	r->client = client;
	r->idle.on_due = on_idle;
	r->paced.on_turn = on_turn;
	TAILQ_INIT(&r->pending);
	mt_relay_targets_init(&r->targets, env->mem, env->seed);
	*out = r;
	return 0;
}

struct mt_relay_meter *mt_relay_meter(struct mt_relay *relay)
{
	return &relay->meter;
}

void mt_relay_free(struct mt_relay *relay)
{
	if (relay == NULL) {
		return;
	}
	forget_all(relay);
	mt_mem_release(relay->env->mem, relay);
}

/* Whether a target must be forgotten. */
static bool recheck(struct mt_relay *r, struct mt_relay_target *target, enum mt_recheck how)
{
	const struct mt_access_request request = request_of(r, target);

	if (target->addr.len == 0) {
		return false; /* judged when its name has an address */
	}
	if (mt_access_check_target(r->env->snapshot, &request, &target->addr) == 0) {
		target->kept = false;
		return false;
	}
	target->kept = how == MT_RECHECK_KEEP || (how == MT_RECHECK_OTHERS && target->kept);
	return !target->kept;
}

unsigned mt_relay_recheck(struct mt_relay *relay, enum mt_recheck how)
{
	unsigned count = 0;
	struct mt_relay_target *next;

	for (struct mt_relay_target *t = TAILQ_FIRST(&relay->targets.used); t != NULL; t = next) {
		next = TAILQ_NEXT(t, by_use);
		if (recheck(relay, t, how)) {
			drop_target(relay, t, &relay->env->counters->udp_dropped_denied);
			count++;
		}
	}
	return count;
}

unsigned mt_relay_flows(const struct mt_relay *relay)
{
	return (unsigned)relay->targets.count;
}

uint64_t mt_relay_bytes_received(const struct mt_relay *relay)
{
	return relay->meter.bytes_received;
}

uint64_t mt_relay_bytes_sent(const struct mt_relay *relay)
{
	return relay->meter.bytes_sent;
}
