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

static void on_endpoint_datagram_room(void *user, struct mt_conn *c)
{
	struct mt_uplink *u = user;

	(void)c;
	if (u->config.on_datagram_room != NULL) {
		u->config.on_datagram_room(u->config.user);
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

void mt_uplink_fail(struct mt_uplink *u, const struct mt_reason *reason)
{
	const struct mt_reason why = *reason; /* it may be the uplink's own */

	if (u->failed) {
		return;
	}
	u->failed = true;
	u->reason = why;
	mt_uplink_stop_dials(u);
	mt_uplink_tls_stop(u);
	mt_uplink_fail_waiters(u, MT_E_CLOSED, u->reason.text);
	set_state(u, MT_UPLINK_FAILED, u->reason.text);
}

enum mt_transport mt_uplink_choose(struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);

	mt_chooser_set_quic(&u->chooser, mt_uplink_health(u), now);
	return mt_chooser_transport(&u->chooser, now);
}

enum mt_transport mt_uplink_transport(struct mt_uplink *u)
{
	return u->failed ? MT_TRANSPORT_NONE : mt_uplink_choose(u);
}

bool mt_uplink_is_hopeless(struct mt_uplink *u)
{
	return !u->config.persistent && mt_uplink_choose(u) == MT_TRANSPORT_NONE &&
	       (u->config.choice == MT_CHOICE_TLS || u->quic_failed) &&
	       (u->config.choice == MT_CHOICE_QUIC || u->tls.failed);
}

static void announce(struct mt_uplink *u, enum mt_transport transport)
{
	const char *why = "";

	if (transport == MT_TRANSPORT_NONE || transport == u->transport) {
		return;
	}
	if (transport == MT_TRANSPORT_QUIC) {
		u->tls.room_ms = 0;
	}
	if (u->transport == MT_TRANSPORT_TLS) {
		why = "UDP gets through";
	} else if (u->config.choice == MT_CHOICE_AUTO && transport == MT_TRANSPORT_TLS) {
		why = u->transport == MT_TRANSPORT_NONE ? "no answer over UDP so far"
							: "no answer over UDP any more";
	}
	u->transport = transport;
	if (u->config.on_transport != NULL) {
		u->config.on_transport(transport, why, u->config.user);
	}
}

/* Why nothing is up: of QUIC, then of TLS where both are tried. */
static const char *explain(const struct mt_uplink *u, char *out, size_t cap)
{
	const char *quic = u->link_count > 0 ? "the server does not answer" : u->reason.text;

	if (u->config.choice == MT_CHOICE_TLS) {
		quic = u->tls.reason.text;
	}
	if (u->config.choice == MT_CHOICE_AUTO && u->tls.failed) {
		/* For people: cut when it is too long. */
		(void)snprintf(
			out, cap, "over UDP: %.160s; over TCP: %.160s", quic, u->tls.reason.text);
	} else {
		(void)snprintf(out, cap, "%s", quic);
	}
	return out;
}

static void show_state(struct mt_uplink *u, enum mt_transport transport)
{
	char why[sizeof(u->announced)];
	bool tried = u->quic_failed || u->tls.failed || u->state == MT_UPLINK_CONNECTED ||
		     u->state == MT_UPLINK_DRAINING;

	if (transport != MT_TRANSPORT_NONE) {
		set_state(u, MT_UPLINK_CONNECTED, "");
	} else if (mt_uplink_is_draining(u) || u->tls.draining) {
		set_state(u, MT_UPLINK_DRAINING, "");
	} else if (tried) {
		set_state(u, MT_UPLINK_RECONNECTING, explain(u, why, sizeof(why)));
	}
}

static void on_retry(uv_timer_t *timer)
{
	mt_uplink_update(timer->data);
}

void mt_uplink_update(struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);
	enum mt_transport transport;
	uint64_t next_ms;
	uint64_t chooser_ms;

	if (u->failed || !u->started) {
		return;
	}
	transport = mt_uplink_choose(u);
	announce(u, transport);
	if (transport == MT_TRANSPORT_TLS) {
		mt_uplink_move(u);
	}
	mt_uplink_serve(u);
	mt_uplink_tls_update(u);
	next_ms = mt_uplink_dial(u);
	if (u->failed) {
		return;
	}
	show_state(u, mt_uplink_choose(u));
	chooser_ms = mt_chooser_next_ms(&u->chooser, now);
	next_ms = next_ms < chooser_ms ? next_ms : chooser_ms;
	if (next_ms != UINT64_MAX) {
		/* A callback is given: this cannot fail. */
		(void)uv_timer_start(&u->retry, on_retry, next_ms > now ? next_ms - now : 1, 0);
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct mt_uplink *u = timer->data;

	u->started = true;
	if (u->failed) {
		return;
	}
	mt_uplink_tick_links(u);
	mt_uplink_expire_waiters(u);
	mt_uplink_update(u);
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
	mt_chooser_hurry(&u->chooser, uv_now(u->config.loop));
	mt_uplink_update(u);
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
	mt_uplink_update(u);
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
	err = mt_tls_client_new(&u->credentials, &config);
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
				.on_datagram_room = on_endpoint_datagram_room,
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
				.max_udp_payload = MT_UDP_PAYLOAD_CEILING,
				.congestion_control = MT_CC_BBR,
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
	(void)snprintf(u->tls.reason.text, sizeof(u->tls.reason.text), "%s", u->reason.text);
	TAILQ_INIT(&u->waiting);
	TAILQ_INIT(&u->served);
	err = make_tls(u, config->profile);
	if (err < 0) {
		goto out;
	}
	err = mt_uplink_tls_new(u);
	if (err < 0) {
		goto out;
	}
	err = make_driver(u);
	if (err < 0) {
		goto out;
	}
	mt_chooser_init(&u->chooser, config->choice, uv_now(config->loop));
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
	mt_uplink_tls_free(u);
	mt_tls_client_unref(u->credentials);
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
	mt_uplink_stop_dials(u);
	mt_uplink_close_links(u);
	mt_uplink_tls_free(u);
	mt_driver_free(u->driver);
	mt_tls_client_unref(u->credentials);
	uv_close((uv_handle_t *)&u->tick, on_timer_closed);
	uv_close((uv_handle_t *)&u->retry, on_timer_closed);
}
