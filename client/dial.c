#include "client/dial.h"

#include "client/sink.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct attempt {
	struct mt_sink sink; /* first: see sink.h */
	struct mt_dial *dial;
	struct mt_conn *conn; /* NULL: free */
	uint64_t started;     /* order */
};

struct mt_dial {
	struct mt_dial_config config;
	struct mt_addr addresses[MT_DIAL_ADDRESSES_MAX];
	size_t address_count;
	size_t next; /* address of the next attempt */
	uint64_t starts;
	struct attempt attempts[MT_DIAL_ATTEMPTS_MAX];
	struct mt_reason reason; /* of the last failure */
	bool over;
	uint64_t deadline_ms;
	uv_timer_t timer;
	uv_getaddrinfo_t resolve;
	bool resolving;
	bool timer_closed;
};

static void free_when_quiet(struct mt_dial *d)
{
	if (d->over && !d->resolving && d->timer_closed) {
		free(d);
	}
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct mt_dial *d = handle->data;

	d->timer_closed = true;
	free_when_quiet(d);
}

static void drop_attempt(struct attempt *a)
{
	if (a->conn != NULL) {
		mt_conn_set_user(a->conn, NULL);
		mt_conn_close(a->conn, MT_APP_NONE, "");
		a->conn = NULL;
	}
}

/* Ends everything but `keep`, whose connection has a new owner. */
static void stop(struct mt_dial *d, struct attempt *keep)
{
	d->over = true;
	for (size_t i = 0; i < MT_DIAL_ATTEMPTS_MAX; i++) {
		if (&d->attempts[i] != keep) {
			drop_attempt(&d->attempts[i]);
		}
	}
	if (d->resolving) {
		(void)uv_cancel(
			(uv_req_t *)&d->resolve); /* running already: its result is ignored */
	}
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

static void fail(struct mt_dial *d)
{
	if (!d->over) {
		stop(d, NULL);
		d->config.on_done(d, NULL, &d->reason, d->config.user);
	}
}

static bool is_racing(const struct mt_dial *d)
{
	for (size_t i = 0; i < MT_DIAL_ATTEMPTS_MAX; i++) {
		if (d->attempts[i].conn != NULL) {
			return true;
		}
	}
	return false;
}

static void on_established(struct mt_sink *sink, struct mt_conn *c)
{
	struct attempt *a = (struct attempt *)sink;
	struct mt_dial *d = a->dial;

	mt_conn_set_user(c, NULL);
	stop(d, a);
	d->config.on_done(d, c, NULL, d->config.user);
}

static void start_next(struct mt_dial *d);

static void on_end(struct mt_sink *sink, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct attempt *a = (struct attempt *)sink;
	struct mt_dial *d = a->dial;

	(void)c; /* freed by the endpoint */
	a->conn = NULL;
	mt_reason_from_end(&d->reason, end);
	if (d->reason.permanent || (!is_racing(d) && d->next >= d->address_count)) {
		fail(d);
	} else if (d->next < d->address_count) {
		start_next(d);
	}
}

/* A free place; the oldest attempt gives way when there is none. */
static struct attempt *take_place(struct mt_dial *d)
{
	struct attempt *oldest = &d->attempts[0];

	for (size_t i = 0; i < MT_DIAL_ATTEMPTS_MAX; i++) {
		if (d->attempts[i].conn == NULL) {
			return &d->attempts[i];
		}
		if (d->attempts[i].started < oldest->started) {
			oldest = &d->attempts[i];
		}
	}
	drop_attempt(oldest);
	return oldest;
}

static int start_attempt(struct mt_dial *d, const struct mt_addr *remote)
{
	static const struct mt_sink sink = {.on_established = on_established, .on_end = on_end};
	struct attempt *a;
	struct mt_path path;
	int err = mt_route_find(d->config.route, remote, &path);

	if (err < 0) {
		return err;
	}
	a = take_place(d);
	err = mt_endpoint_connect(mt_driver_endpoint(d->config.route->driver), &path, d->config.tls,
		mt_driver_now_ns(d->config.route->driver), &a->conn);
	if (err < 0) {
		a->conn = NULL;
		return err;
	}
	a->sink = sink;
	a->dial = d;
	a->started = d->starts++;
	mt_conn_set_user(a->conn, a);
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_dial *d = timer->data;

	if (uv_now(d->config.loop) >= d->deadline_ms) {
		fail(d);
		return;
	}
	if (d->next >= d->address_count) {
		d->next = 0;
	}
	start_next(d);
}

/* Starts with the next address that there is a route to, and arms the timer for the one after it.
 */
static void start_next(struct mt_dial *d)
{
	uint64_t wait = MT_DIAL_STAGGER_MS;
	int err = -ENETUNREACH;

	while (d->next < d->address_count && err < 0) {
		err = start_attempt(d, &d->addresses[d->next++]);
	}
	if (err < 0) {
		mt_reason_from_error(&d->reason, "the server cannot be reached", err);
		if (!is_racing(d)) {
			fail(d);
			return;
		}
	}
	if (d->next >= d->address_count) {
		wait = MT_DIAL_REPEAT_MS;
	}
	/* Cannot fail: the timer is initialised and has a callback. */
	(void)uv_timer_start(&d->timer, on_timer, wait, 0);
}

static void add_address(struct mt_dial *d, const struct addrinfo *ai)
{
	struct mt_addr *slot = &d->addresses[d->address_count];

	if (d->address_count < MT_DIAL_ADDRESSES_MAX &&
		mt_addr_from_sockaddr(slot, ai->ai_addr, ai->ai_addrlen) == 0) {
		mt_addr_set_port(slot, d->config.port);
		d->address_count++;
	}
}

/* Takes the addresses in the system's order (RFC 6724), but with the families in turn. */
static void add_addresses(struct mt_dial *d, const struct addrinfo *list)
{
	const struct addrinfo *first = list;
	const struct addrinfo *other = list;
	int family = list->ai_family;

	while ((first != NULL || other != NULL) && d->address_count < MT_DIAL_ADDRESSES_MAX) {
		while (first != NULL && first->ai_family != family) {
			first = first->ai_next;
		}
		if (first != NULL) {
			add_address(d, first);
			first = first->ai_next;
		}
		while (other != NULL && other->ai_family == family) {
			other = other->ai_next;
		}
		if (other != NULL) {
			add_address(d, other);
			other = other->ai_next;
		}
	}
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
	struct mt_dial *d = request->data;

	d->resolving = false;
	if (d->over) {
		uv_freeaddrinfo(list);
		free_when_quiet(d);
		return;
	}
	if (status == 0 && list != NULL) {
		add_addresses(d, list);
	}
	uv_freeaddrinfo(list);
	if (d->address_count == 0) {
		d->reason.permanent = false;
		(void)snprintf(d->reason.text, sizeof(d->reason.text),
			"the server's name '%s' does not resolve (%s)", d->config.host,
			status == 0 ? "no address" : uv_strerror(status));
		fail(d);
		return;
	}
	start_next(d);
}

int mt_dial_start(struct mt_dial **out, const struct mt_dial_config *config)
{
	struct mt_dial *d = calloc(1, sizeof(*d));
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
	enum mt_host_kind kind;
	uint64_t first_ms = MT_DIAL_TIMEOUT_MS;
	int err;

	if (d == NULL) {
		return -ENOMEM;
	}
	d->config = *config;
	(void)snprintf(d->reason.text, sizeof(d->reason.text), "the server does not answer");
	err = mt_host_parse(
		&kind, &d->addresses[0], config->host, strlen(config->host), config->port);
	if (err < 0) {
		goto out;
	}
	if (kind == MT_HOST_NAME) {
		d->resolve.data = d;
		err = uv_getaddrinfo(
			config->loop, &d->resolve, on_resolved, config->host, NULL, &hints);
		if (err < 0) {
			goto out;
		}
		d->resolving = true;
	} else {
		d->address_count = 1;
		first_ms = 0;
	}
	d->deadline_ms = uv_now(config->loop) + MT_DIAL_TIMEOUT_MS;
	(void)uv_timer_init(config->loop, &d->timer); /* always 0 */
	d->timer.data = d;
	(void)uv_timer_start(&d->timer, on_timer, first_ms, 0); /* a callback is given: always 0 */
	*out = d;
out:
	if (err < 0) {
		free(d);
	}
	return err;
}

void mt_dial_cancel(struct mt_dial *dial)
{
	if (!dial->over) {
		stop(dial, NULL);
	}
}
