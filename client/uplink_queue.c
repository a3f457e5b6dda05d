#include "client/uplink_impl.h"

/* Opens a stream on the first connection with room: extra ones then fall out of use and are closed.
 * One that does not answer is the last to be chosen.
 */
static struct mt_stream *open_stream(struct mt_uplink *u, bool doubtful, uint64_t *serial)
{
	for (size_t i = 0; i < u->link_count; i++) {
		struct mt_link *link = u->links[i];
		struct mt_stream *s;

		if (mt_link_is_usable(link) && link->suspect == doubtful &&
			mt_conn_streams_left(link->conn) > 0 &&
			mt_conn_open_stream(link->conn, &s) == 0) {
			*serial = mt_conn_serial(link->conn);
			return s;
		}
	}
	return NULL;
}

static struct mt_stream *find_stream(struct mt_uplink *u, uint64_t *serial)
{
	struct mt_stream *s;

	*serial = 0;
	switch (mt_uplink_choose(u)) {
	case MT_TRANSPORT_QUIC:
		s = open_stream(u, false, serial);
		return s != NULL ? s : open_stream(u, true, serial);
	case MT_TRANSPORT_TLS: return mt_uplink_tls_take(u);
	case MT_TRANSPORT_NONE: break;
	}
	return NULL;
}

void mt_uplink_serve(struct mt_uplink *u)
{
	while (!TAILQ_EMPTY(&u->waiting)) {
		struct mt_waiter *w = TAILQ_FIRST(&u->waiting);
		uint64_t serial;
		struct mt_stream *s = find_stream(u, &serial);

		if (s == NULL) {
			return;
		}
		TAILQ_REMOVE(&u->waiting, w, entry);
		u->waiting_count--;
		TAILQ_INSERT_TAIL(&u->served, w, entry);
		w->state = MT_WAITER_SERVED;
		w->serial = serial;
		w->on_stream(w, s);
	}
}

void mt_uplink_move(struct mt_uplink *u)
{
	struct mt_waiter *w = TAILQ_FIRST(&u->served);

	while (w != NULL) {
		struct mt_waiter *next = TAILQ_NEXT(w, entry); /* on_move concerns `w` alone */
		struct mt_link *link = mt_uplink_find_link(u, w->serial);

		if (w->on_move != NULL && link != NULL && link->suspect) {
			w->on_move(w);
		}
		w = next;
	}
}

void mt_uplink_forget(struct mt_uplink *u, struct mt_waiter *w)
{
	if (w->state == MT_WAITER_QUEUED) {
		TAILQ_REMOVE(&u->waiting, w, entry);
		u->waiting_count--;
	} else if (w->state == MT_WAITER_SERVED) {
		TAILQ_REMOVE(&u->served, w, entry);
	}
	w->state = MT_WAITER_NONE;
}

void mt_uplink_fail_waiters(struct mt_uplink *u, int err, const char *reason)
{
	while (!TAILQ_EMPTY(&u->waiting)) {
		struct mt_waiter *w = TAILQ_FIRST(&u->waiting);

		mt_uplink_forget(u, w);
		w->on_fail(w, err, reason);
	}
}

static void expire(struct mt_uplink *u, struct mt_waiters *list, const char *reason)
{
	uint64_t now = uv_now(u->config.loop);
	struct mt_waiter *w = TAILQ_FIRST(list);

	/* Both lists are nearly in the order of their deadlines, but a waiter that was put back may
	 * be anywhere: all are looked at. The handler may remove others, so each hit starts anew.
	 */
	while (w != NULL) {
		if (w->deadline_ms > now) {
			w = TAILQ_NEXT(w, entry);
			continue;
		}
		mt_uplink_forget(u, w);
		w->on_fail(w, MT_E_TIMEOUT, reason);
		w = TAILQ_FIRST(list);
	}
}

void mt_uplink_expire_waiters(struct mt_uplink *u)
{
	expire(u, &u->waiting,
		u->state == MT_UPLINK_CONNECTED ? "the server lets us open no more streams"
						: u->reason.text);
	expire(u, &u->served, "the server does not answer");
}

int mt_uplink_send_datagram(
	struct mt_uplink *u, const void *head, size_t head_len, const void *body, size_t body_len)
{
	if (u->transport == MT_TRANSPORT_TLS) {
		return MT_E_CLOSED;
	}
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			return mt_conn_send_datagram(
				u->links[i]->conn, head, head_len, body, body_len);
		}
	}
	return MT_E_CLOSED;
}

int mt_uplink_ping(struct mt_uplink *u)
{
	if (u->transport == MT_TRANSPORT_TLS) {
		return mt_channel_ping(&u->tls.channel);
	}
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			return mt_channel_ping(&u->links[i]->channel);
		}
	}
	return MT_E_CLOSED;
}
