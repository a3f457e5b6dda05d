#include "client/uplink.h"

#include "client/uplink_impl.h"
#include "proto/wire/encode.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TICK_MS          500
#define IDLE_TIMEOUT_NS  30000000000ull
#define STREAM_WINDOW    (8u * 1024 * 1024)
#define CONN_WINDOW      (32u * 1024 * 1024)
#define UDP_PAYLOAD      1452
#define STREAMS_EXPECTED 100 /* a connection, until one has told */

static void on_endpoint_established(void *user, struct mt_conn *c)
{
	struct mt_sink *sink = mt_conn_user(c);

	(void)user;
	if (sink != NULL && sink->on_established != NULL) {
		sink->on_established(sink, c);
	}
}

static void on_endpoint_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct mt_sink *sink = mt_conn_user(c);

	(void)user;
	if (sink != NULL && sink->on_end != NULL) {
		sink->on_end(sink, c, end);
	}
}

static void on_endpoint_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct mt_sink *sink = mt_conn_user(c);

	(void)user;
	if (sink != NULL && sink->on_datagram != NULL) {
		sink->on_datagram(sink, data, len);
	}
}

static void on_endpoint_streams_left(void *user, struct mt_conn *c)
{
	struct mt_sink *sink = mt_conn_user(c);

	(void)user;
	if (sink != NULL && sink->on_streams_left != NULL) {
		sink->on_streams_left(sink);
	}
}

const char *mt_uplink_state_text(enum mt_uplink_state state)
{
	switch (state) {
	case MT_UPLINK_CONNECTING: return "connecting";
	case MT_UPLINK_CONNECTED: return "connected";
	case MT_UPLINK_DRAINING: return "draining";
	case MT_UPLINK_RECONNECTING: return "reconnecting";
	case MT_UPLINK_FAILED: return "failed";
	}
	return "unknown";
}

static bool is_usable(const struct mt_uplink *u)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			return true;
		}
	}
	return false;
}

static bool is_draining(const struct mt_uplink *u)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (u->links[i]->draining) {
			return true;
		}
	}
	return false;
}

/* Tells the user when the state, or the reason for it, is news. */
static void set_state(struct mt_uplink *u, enum mt_uplink_state state, const char *reason)
{
	if (state == u->state && strcmp(reason, u->announced) == 0) {
		return;
	}
	u->state = state;
	(void)snprintf(u->announced, sizeof(u->announced), "%s", reason); /* of the same size */
	u->config.on_state(state, u->announced, u->config.user);
}

static void update(struct mt_uplink *u);
static void count_failure(struct mt_uplink *u);

static void fail(struct mt_uplink *u, const struct mt_reason *reason)
{
	if (u->failed) {
		return;
	}
	u->failed = true;
	u->reason = *reason;
	while (u->dial_count > 0) {
		mt_dial_cancel(u->dials[--u->dial_count]);
	}
	mt_uplink_fail_waiters(u, MT_E_CLOSED, u->reason.text);
	set_state(u, MT_UPLINK_FAILED, u->reason.text);
}

static void forget_link(struct mt_uplink *u, const struct mt_link *link)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (u->links[i] == link) {
			u->link_count--;
			memmove(&u->links[i], &u->links[i + 1],
				(u->link_count - i) * sizeof(u->links[0]));
			return;
		}
	}
}

static void on_link_end(struct mt_link *link, const struct mt_reason *reason, void *user)
{
	struct mt_uplink *u = user;

	forget_link(u, link);
	if (reason->permanent) {
		fail(u, reason);
		return;
	}
	if (!u->config.persistent && !is_usable(u)) {
		fail(u, reason);
		return;
	}
	if (reason->crowded) {
		/* The handshake went well, so no failure was counted: without a pause this would
		 * go round in circles.
		 */
		u->retry_ms = uv_now(u->config.loop) + MT_UPLINK_CROWDED_MS;
	}
	u->reason = *reason;
	/* A server that lets us in to throw us out must not be asked again and again at once. */
	if (mt_driver_now_ns(u->driver) - link->up_ns < MT_LINK_LASTING_NS) {
		count_failure(u);
	}
	update(u);
}

static void on_link_room(struct mt_link *link, void *user)
{
	(void)link;
	mt_uplink_serve(user);
}

static void on_link_draining(struct mt_link *link, void *user)
{
	(void)link;
	update(user);
}

static void on_link_datagram(const uint8_t *data, size_t len, void *user)
{
	struct mt_uplink *u = user;

	if (u->config.on_datagram != NULL) {
		u->config.on_datagram(data, len, u->config.user);
	}
}

static void on_link_pong(uint64_t rtt_ns, void *user)
{
	struct mt_uplink *u = user;

	if (u->config.on_pong != NULL) {
		u->config.on_pong(rtt_ns, u->config.user);
	}
}

/* How long to wait after so many failures in a row: at once, then 100 ms, doubling, with a fifth of
 * it by chance, so that the clients of a restarted server do not come all at the same moment.
 */
static uint64_t backoff_ms(const struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);
	uint64_t cap = now - u->failing_ms < MT_UPLINK_SOON_MS ? MT_UPLINK_BACKOFF_SOON_MS
							       : MT_UPLINK_BACKOFF_MAX_MS;
	uint64_t wait = MT_UPLINK_BACKOFF_MS;
	uint8_t chance = 0;

	for (unsigned i = 1; i < u->failures && wait < cap; i++) {
		wait *= 2;
	}
	wait = wait < cap ? wait : cap;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0) {
		chance = 0;
	}
	return wait - wait * chance / (255 * 5);
}

static void count_failure(struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);

	if (u->failures++ == 0) {
		u->failing_ms = now;
	}
	u->retry_ms = now + backoff_ms(u);
}

static void add_link(struct mt_uplink *u, struct mt_conn *conn)
{
	struct mt_link_events events = {
		.on_end = on_link_end,
		.on_room = on_link_room,
		.on_draining = on_link_draining,
		.on_datagram = on_link_datagram,
		.on_pong = on_link_pong,
		.user = u,
	};
	struct mt_link *link = NULL;

	if (u->link_count < MT_UPLINK_LINKS_MAX) {
		link = mt_link_new(conn, u->driver, &events);
	}
	if (link == NULL) {
		mt_conn_close(conn, MT_APP_NONE, "");
		return;
	}
	u->links[u->link_count++] = link;
	u->streams_per_link = (size_t)mt_conn_streams_left(conn);
	if (u->streams_per_link == 0) {
		u->streams_per_link = 1;
	}
}

static void forget_dial(struct mt_uplink *u, const struct mt_dial *dial)
{
	for (size_t i = 0; i < u->dial_count; i++) {
		if (u->dials[i] == dial) {
			u->dials[i] = u->dials[--u->dial_count];
			return;
		}
	}
}

static void on_dial_failed(struct mt_uplink *u, const struct mt_reason *reason)
{
	count_failure(u);
	/* With a connection up this one was an extra: its failure is no reason to give up. */
	if (reason->permanent || (!u->config.persistent && !is_usable(u))) {
		fail(u, reason);
		return;
	}
	u->reason = *reason;
	if (!is_usable(u) && !is_draining(u)) {
		set_state(u, MT_UPLINK_RECONNECTING, u->reason.text);
	}
}

static void on_dial_done(
	struct mt_dial *dial, struct mt_conn *conn, const struct mt_reason *reason, void *user)
{
	struct mt_uplink *u = user;

	forget_dial(u, dial);
	if (conn != NULL) {
		u->retry_ms = 0;
		add_link(u, conn);
	} else {
		on_dial_failed(u, reason);
	}
	if (!u->failed) {
		update(u);
	}
}

/* How many dials should be under way: one while no connection can be used, and as many as those who
 * wait for a stream will fill.
 */
static size_t dials_wanted(const struct mt_uplink *u)
{
	size_t wanted = (u->waiting_count + u->streams_per_link - 1) / u->streams_per_link;
	size_t room = MT_UPLINK_LINKS_MAX - u->link_count;

	if (wanted == 0 && !is_usable(u)) {
		wanted = 1;
	}
	/* One at a time until the server has let us in: it may refuse. */
	if (u->link_count == 0 && wanted > 1) {
		wanted = 1;
	}
	if (wanted > room) {
		wanted = room;
	}
	return wanted < MT_UPLINK_DIALS_MAX ? wanted : MT_UPLINK_DIALS_MAX;
}

static void on_retry(uv_timer_t *timer)
{
	update(timer->data);
}

static void start_dials(struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);
	size_t wanted = dials_wanted(u);

	if (u->dial_count < wanted && u->retry_ms > now) {
		/* A callback is given: this cannot fail. */
		(void)uv_timer_start(&u->retry, on_retry, u->retry_ms - now, 0);
		return;
	}
	while (u->dial_count < wanted) {
		struct mt_dial_config config = {
			.loop = u->config.loop,
			.route = &u->route,
			.tls = u->tls,
			.host = u->host,
			.port = u->port,
			.on_done = on_dial_done,
			.user = u,
		};
		int err = mt_dial_start(&u->dials[u->dial_count], &config);

		if (err < 0) {
			struct mt_reason reason;

			mt_reason_from_error(&reason, "the server cannot be reached", err);
			on_dial_failed(u, &reason);
			return; /* the tick tries again */
		}
		u->dial_count++;
	}
}

/* Brings everything in line after a change. */
static void update(struct mt_uplink *u)
{
	if (u->failed || !u->started) {
		return;
	}
	mt_uplink_serve(u);
	if (is_usable(u)) {
		set_state(u, MT_UPLINK_CONNECTED, "");
	} else if (is_draining(u)) {
		set_state(u, MT_UPLINK_DRAINING, "");
	} else if (u->state == MT_UPLINK_CONNECTED || u->state == MT_UPLINK_DRAINING) {
		set_state(u, MT_UPLINK_RECONNECTING,
			u->link_count > 0 ? "the server does not answer" : u->reason.text);
	}
	start_dials(u);
}

/* Extra connections without tunnels are closed after a while, the youngest first; one stays. */
static void close_unused(struct mt_uplink *u, uint64_t now_ns)
{
	size_t usable = 0;

	for (size_t i = 0; i < u->link_count; i++) {
		usable += mt_link_is_usable(u->links[i]) ? 1 : 0;
	}
	for (size_t i = u->link_count; i-- > 0 && usable > 1;) {
		struct mt_link *link = u->links[i];

		if (mt_link_is_usable(link) && now_ns - link->unused_ns > MT_UPLINK_UNUSED_NS) {
			forget_link(u, link);
			mt_link_close(link, MT_APP_NONE);
			usable--;
		}
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct mt_uplink *u = timer->data;
	uint64_t now_ns = mt_driver_now_ns(u->driver);

	u->started = true;
	if (u->failed) {
		return;
	}
	for (size_t i = 0; i < u->link_count; i++) {
		mt_link_tick(u->links[i], &u->route, now_ns);
		if (!u->links[i]->lasting && now_ns - u->links[i]->up_ns >= MT_LINK_LASTING_NS) {
			u->links[i]->lasting = true;
			u->failures = 0;
		}
	}
	close_unused(u, now_ns);
	mt_uplink_expire_waiters(u);
	update(u);
}

void mt_uplink_check_paths(struct mt_uplink *u)
{
	uint64_t soon_ms = uv_now(u->config.loop) + MT_UPLINK_BACKOFF_MS;

	for (size_t i = 0; i < u->link_count; i++) {
		mt_link_check_path(u->links[i], &u->route, mt_driver_now_ns(u->driver));
	}
	/* What failed for want of a network may work now; but changes may come all the time. */
	if (u->retry_ms > soon_ms) {
		u->retry_ms = soon_ms;
	}
	update(u);
}

int mt_uplink_wait(struct mt_uplink *u, struct mt_waiter *w)
{
	if (u->waiting_count >= MT_UPLINK_WAITING_MAX) {
		return MT_E_LIMIT;
	}
	if (u->failed) {
		return MT_E_CLOSED;
	}
	w->deadline_ms = uv_now(u->config.loop) + MT_UPLINK_TIMEOUT_MS;
	w->state = MT_WAITER_QUEUED;
	TAILQ_INSERT_TAIL(&u->waiting, w, entry);
	u->waiting_count++;
	update(u);
	return 0;
}

void mt_uplink_wait_again(struct mt_uplink *u, struct mt_waiter *w)
{
	mt_uplink_forget(u, w);
	w->state = MT_WAITER_QUEUED;
	TAILQ_INSERT_HEAD(&u->waiting, w, entry);
	u->waiting_count++;
	/* The tick, or the end of the connection that follows, goes on from here. */
}

static int make_tls(struct mt_uplink *u, const struct mt_profile *profile)
{
	struct mt_tls_client_config config = {
		.has_key = profile->has_key,
		.host = profile->host,
		.pin_count = profile->pin_count,
	};
	int err;

	memcpy(config.key, profile->key, sizeof(config.key));
	memcpy(config.pins, profile->pins, sizeof(config.pins));
	err = mt_tls_client_new(&u->tls, &config);
	mt_wipe(&config, sizeof(config));
	return err;
}

static int make_driver(struct mt_uplink *u)
{
	struct mt_endpoint_config config = {
		.mem = u->config.mem,
		.counters = &u->counters,
		.events =
			{
				.on_established = on_endpoint_established,
				.on_datagram = on_endpoint_datagram,
				.on_streams_left = on_endpoint_streams_left,
				.on_end = on_endpoint_end,
				.user = u,
			},
		.limits =
			{
				.max_connections = MT_UPLINK_LINKS_MAX +
						   MT_UPLINK_DIALS_MAX * (MT_DIAL_ATTEMPTS_MAX + 1),
				.max_streams = 1,
				.idle_timeout_ns = IDLE_TIMEOUT_NS,
				.max_stream_window = STREAM_WINDOW,
				.max_conn_window = CONN_WINDOW,
				.max_udp_payload = UDP_PAYLOAD,
				.congestion_control = MT_CC_CUBIC,
			},
		.worker_count = 1,
	};
	int err;

	if (getrandom(config.secret, sizeof(config.secret), 0) != (ssize_t)sizeof(config.secret) ||
		getrandom(&config.tag, sizeof(config.tag), 0) != (ssize_t)sizeof(config.tag)) {
		return -errno;
	}
	err = mt_driver_new(&u->driver, u->config.loop, &config);
	mt_wipe(config.secret, sizeof(config.secret));
	return err;
}

int mt_uplink_new(struct mt_uplink **out, const struct mt_uplink_config *config)
{
	struct mt_uplink *u = calloc(1, sizeof(*u));
	int err;

	if (u == NULL) {
		return -ENOMEM;
	}
	u->config = *config;
	u->config.profile = NULL;
	(void)snprintf(
		u->host, sizeof(u->host), "%s", config->profile->host); /* of the same size */
	u->port = config->profile->port;
	u->streams_per_link = STREAMS_EXPECTED;
	(void)snprintf(u->reason.text, sizeof(u->reason.text), "the server does not answer");
	TAILQ_INIT(&u->waiting);
	TAILQ_INIT(&u->served);
	err = make_tls(u, config->profile);
	if (err < 0) {
		goto out;
	}
	err = make_driver(u);
	if (err < 0) {
		goto out;
	}
	mt_route_init(&u->route, u->driver);
	/* Timers cannot fail to be set up. */
	(void)uv_timer_init(config->loop, &u->tick);
	(void)uv_timer_init(config->loop, &u->retry);
	u->tick.data = u;
	u->retry.data = u;
	u->open_timers = 2;
	(void)uv_timer_start(&u->tick, on_tick, 0, TICK_MS);
	*out = u;
	return 0;
out:
	mt_tls_client_unref(u->tls);
	free(u);
	return err;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct mt_uplink *u = handle->data;

	if (--u->open_timers == 0) {
		free(u);
	}
}

void mt_uplink_free(struct mt_uplink *u)
{
	if (u == NULL) {
		return;
	}
	u->failed = true;
	while (u->dial_count > 0) {
		mt_dial_cancel(u->dials[--u->dial_count]);
	}
	while (u->link_count > 0) {
		mt_link_close(u->links[--u->link_count], MT_APP_NONE);
	}
	mt_driver_free(u->driver);
	mt_tls_client_unref(u->tls);
	uv_close((uv_handle_t *)&u->tick, on_timer_closed);
	uv_close((uv_handle_t *)&u->retry, on_timer_closed);
}
