#include "client/uplink_impl.h"
#include "proto/wire/request.h"

#include <string.h>
#include <sys/random.h>

bool mt_uplink_has_link(const struct mt_uplink *u)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			return true;
		}
	}
	return false;
}

bool mt_uplink_is_draining(const struct mt_uplink *u)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (u->links[i]->draining) {
			return true;
		}
	}
	return false;
}

/* While TLS is in use a connection counts once more than its handshake has come through. */
enum mt_health mt_uplink_health(const struct mt_uplink *u)
{
	enum mt_health best = MT_HEALTH_DOWN;

	for (size_t i = 0; i < u->link_count; i++) {
		const struct mt_link *link = u->links[i];

		if (!mt_link_is_usable(link)) {
			continue;
		}
		if (!link->suspect &&
			(u->transport != MT_TRANSPORT_TLS || mt_link_is_proven(link))) {
			return MT_HEALTH_GOOD;
		}
		best = MT_HEALTH_DOUBTFUL;
	}
	return best;
}

struct mt_link *mt_uplink_find_link(struct mt_uplink *u, uint64_t serial)
{
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_conn_serial(u->links[i]->conn) == serial) {
			return u->links[i];
		}
	}
	return NULL;
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

/* The server answers, and is at a limit: without a pause this would go round in circles. */
static void note_crowded(struct mt_uplink *u, const struct mt_reason *reason)
{
	if (reason->crowded && !mt_uplink_tls_make_room(u)) {
		u->retry_ms = uv_now(u->config.loop) + MT_UPLINK_CROWDED_MS;
	}
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
	if (reason->permanent ||
		(!u->config.persistent && mt_uplink_choose(u) == MT_TRANSPORT_NONE)) {
		mt_uplink_fail(u, reason);
		return;
	}
	u->reason = *reason;
	/* A server that lets us in to throw us out must not be asked again and again at once. */
	if (mt_driver_now_ns(u->driver) - link->up_ns < MT_LINK_LASTING_NS) {
		count_failure(u);
	}
	note_crowded(u, reason);
	mt_uplink_update(u);
}

static void on_link_room(struct mt_link *link, void *user)
{
	(void)link;
	mt_uplink_update(user);
}

static void on_link_draining(struct mt_link *link, void *user)
{
	(void)link;
	mt_uplink_update(user);
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
	u->quic_failed = false;
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
	u->quic_failed = true;
	u->reason = *reason;
	mt_chooser_quic_failed(&u->chooser, uv_now(u->config.loop));
	/* With a connection up this one was an extra: its failure is no reason to give up. */
	if (reason->permanent || mt_uplink_is_hopeless(u)) {
		mt_uplink_fail(u, reason);
	} else {
		note_crowded(u, reason);
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
	mt_uplink_update(u);
}

/* How many dials should be under way: one while no connection can be used, and as many as those who
 * wait for a stream will fill.
 */
static size_t dials_wanted(struct mt_uplink *u)
{
	size_t wanted = (u->waiting_count + u->streams_per_link - 1) / u->streams_per_link;
	size_t room = MT_UPLINK_LINKS_MAX - u->link_count;

	if (!mt_chooser_wants_quic(&u->chooser, uv_now(u->config.loop))) {
		return 0;
	}
	if (wanted == 0 && !mt_uplink_has_link(u)) {
		wanted = 1;
	}
	/* To see whether it works again; those who wait go by TLS. */
	if (mt_uplink_choose(u) == MT_TRANSPORT_TLS) {
		wanted = mt_uplink_has_link(u) ? 0 : 1;
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

uint64_t mt_uplink_dial(struct mt_uplink *u)
{
	uint64_t now = uv_now(u->config.loop);
	size_t wanted = dials_wanted(u);

	if (u->dial_count < wanted && u->retry_ms > now) {
		return u->retry_ms;
	}
	while (u->dial_count < wanted) {
		struct mt_dial_config config = {
			.loop = u->config.loop,
			.route = &u->route,
			.tls = u->credentials,
			.host = u->host,
			.port = u->port,
			.timeout_ms = mt_uplink_choose(u) == MT_TRANSPORT_TLS ? MT_UPLINK_PROBE_MS
									      : MT_DIAL_TIMEOUT_MS,
			.on_done = on_dial_done,
			.user = u,
		};
		int err = mt_dial_start(&u->dials[u->dial_count], &config);

		if (err < 0) {
			struct mt_reason reason;

			mt_reason_from_error(&reason, "the server cannot be reached", err);
			on_dial_failed(u, &reason);
			return u->retry_ms;
		}
		u->dial_count++;
	}
	return UINT64_MAX;
}

void mt_uplink_stop_dials(struct mt_uplink *u)
{
	while (u->dial_count > 0) {
		mt_dial_cancel(u->dials[--u->dial_count]);
	}
}

void mt_uplink_close_links(struct mt_uplink *u)
{
	while (u->link_count > 0) {
		mt_link_close(u->links[--u->link_count], MT_APP_NONE);
	}
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

void mt_uplink_tick_links(struct mt_uplink *u)
{
	uint64_t now_ns = mt_driver_now_ns(u->driver);

	for (size_t i = 0; i < u->link_count; i++) {
		mt_link_tick(u->links[i], &u->route, now_ns);
		if (!u->links[i]->lasting && now_ns - u->links[i]->up_ns >= MT_LINK_LASTING_NS) {
			u->links[i]->lasting = true;
			u->failures = 0;
		}
	}
	close_unused(u, now_ns);
}
