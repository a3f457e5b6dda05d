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
	struct mt_addresses addresses;
	size_t next; /* address of the next attempt */
	uint64_t starts;
	struct attempt attempts[MT_DIAL_ATTEMPTS_MAX];
	struct mt_reason reason; /* of the last failure */
	bool over;
	uint64_t deadline_ms;
	uv_timer_t timer;
	struct mt_resolve *resolve; /* NULL: not under way */
};

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
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
	mt_resolve_cancel(d->resolve);
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
	if (d->reason.permanent || (!is_racing(d) && d->next >= d->addresses.count)) {
		fail(d);
	} else if (d->next < d->addresses.count) {
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
	if (d->next >= d->addresses.count) {
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

	while (d->next < d->addresses.count && err < 0) {
		err = start_attempt(d, &d->addresses.list[d->next++]);
	}
	if (err < 0) {
		mt_reason_from_error(&d->reason, "the server cannot be reached", err);
		if (!is_racing(d)) {
			fail(d);
			return;
		}
	}
	if (d->next >= d->addresses.count) {
		wait = MT_DIAL_REPEAT_MS;
	}
	/* Cannot fail: the timer is initialised and has a callback. */
	(void)uv_timer_start(&d->timer, on_timer, wait, 0);
}

static void on_resolved(const struct mt_addresses *addresses, const char *why, void *user)
{
	struct mt_dial *d = user;

	d->resolve = NULL;
	if (addresses == NULL) {
		d->reason.permanent = false;
		(void)snprintf(d->reason.text, sizeof(d->reason.text),
			"the server's name '%s' does not resolve (%s)", d->config.host, why);
		fail(d);
		return;
	}
	d->addresses = *addresses;
	start_next(d);
}

int mt_dial_start(struct mt_dial **out, const struct mt_dial_config *config)
{
	struct mt_dial *d = calloc(1, sizeof(*d));
	uint64_t first_ms = 0;
	int err;

	if (d == NULL) {
		return -ENOMEM;
	}
	d->config = *config;
	(void)snprintf(d->reason.text, sizeof(d->reason.text), "the server does not answer");
	err = mt_addresses_of_literal(&d->addresses, config->host, config->port);
	if (err == MT_E_AGAIN) {
		first_ms = config->timeout_ms;
		err = mt_resolve_start(
			&d->resolve, config->loop, config->host, config->port, on_resolved, d);
	}
	if (err < 0) {
		free(d);
		return err;
	}
	d->deadline_ms = uv_now(config->loop) + config->timeout_ms;
	(void)uv_timer_init(config->loop, &d->timer); /* always 0 */
	d->timer.data = d;
	(void)uv_timer_start(&d->timer, on_timer, first_ms, 0); /* a callback is given: always 0 */
	*out = d;
	return 0;
}

void mt_dial_cancel(struct mt_dial *dial)
{
	if (!dial->over) {
		stop(dial, NULL);
	}
}
