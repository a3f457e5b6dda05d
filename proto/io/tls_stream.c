#include "proto/io/tls_impl.h"

#include "proto/quic/conn.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void run(struct mt_tls_stream *s);

/* Told in the loop's next turn, or at the end of this one's run. */
static void announce(struct mt_tls_stream *s, unsigned events)
{
	if (!s->released) {
		s->told |= events;
	}
	mt_poller_defer(s->loop->poller, &s->item, 0);
}

void mt_tls_stream_drop_rx(struct mt_tls_stream *s)
{
	mt_tls_stream_drop_chunks(s, &s->rx_head);
	s->rx_tail = NULL;
	s->rx_bytes = 0;
	s->rx_over = true;
}

void mt_tls_stream_close(struct mt_tls_stream *s, bool by_reset)
{
	if (s->dead) {
		return;
	}
	if (by_reset) {
		mt_tls_socket_arm_reset(&s->sock);
	}
	mt_poller_close(s->loop->poller, &s->item);
	s->dead = true;
	mt_tls_stream_clear_due(s);
	mt_tls_stream_drop_chunks(s, &s->tx_head);
	s->tx_tail = NULL;
	s->tx_bytes = 0;
}

/* The socket has failed. Behind the peer's own end only our direction is cut. */
static void die(struct mt_tls_stream *s)
{
	bool whole = s->sock.fin_received;

	/* An alert of ours is still to arrive: a reset would take it away. */
	mt_tls_stream_close(s, s->sock.fault == MT_TLS_FAULT_RESET ||
				       s->sock.fault == MT_TLS_FAULT_TRANSPORT ||
				       s->sock.fault == MT_TLS_FAULT_ALERT);
	/* What came right before it is still handed over: a server that says why, and resets. */
	if (!whole && (s->told & MT_TLS_EV_READABLE) == 0) {
		mt_tls_stream_drop_rx(s);
	}
	announce(s, whole ? MT_TLS_EV_STOP : MT_TLS_EV_RESET);
}

/* ---- receiving ---- */

/* Where the next bytes go; NULL without memory. */
static struct mt_chunk *rx_room(struct mt_tls_stream *s)
{
	struct mt_chunk *chunk = s->rx_tail;

	if (chunk != NULL && chunk->len < MT_CHUNK_BYTES) {
		return chunk;
	}
	chunk = mt_chunk_new(s->loop->mem);
	if (chunk == NULL) {
		return NULL;
	}
	if (s->rx_tail != NULL) {
		s->rx_tail->next = chunk;
	} else {
		s->rx_head = chunk;
	}
	s->rx_tail = chunk;
	return chunk;
}

static void fill(struct mt_tls_stream *s)
{
	while (s->can_read && !s->dead && !s->rx_over && !s->sock.fin_received &&
		s->rx_bytes < MT_TLS_RX_MAX) {
		struct mt_chunk *chunk = rx_room(s);
		ssize_t got;

		if (chunk == NULL) {
			(void)mt_tls_socket_fail(&s->sock, -ENOMEM); /* latched */
			die(s);
			return;
		}
		got = mt_tls_socket_recv(
			&s->sock, chunk->data + chunk->len, MT_CHUNK_BYTES - chunk->len);
		if (got > 0) {
			chunk->len += (uint32_t)got;
			s->rx_bytes += (size_t)got;
			s->told |= MT_TLS_EV_READABLE;
		} else if (got == 0) {
			s->told |= MT_TLS_EV_READABLE;
		} else if (got == MT_E_AGAIN) {
			s->can_read = false;
		} else {
			die(s);
		}
	}
}

/* The peer has all of our bytes, and our end. */
static bool is_delivered(const struct mt_tls_stream *s)
{
	int left = 0;

	return ioctl(s->sock.fd, SIOCOUTQ, &left) == 0 && left == 0;
}

/* Behind our own end, and with nobody to read it, what still comes is thrown away: a reset would
 * take away what has not been delivered. Afterwards it is what a peer that goes on sending has to
 * learn.
 */
static void discard(struct mt_tls_stream *s)
{
	uint8_t scratch[MT_TLS_RECORD_MAX];
	size_t taken = 0;
	ssize_t got;

	while (s->can_read && !s->dead && taken < MT_TLS_RX_MAX) {
		got = recv(s->sock.fd, scratch, sizeof(scratch), 0);
		if (got > 0 && s->open && is_delivered(s)) {
			mt_tls_stream_close(s, true);
		} else if (got > 0) {
			taken += (size_t)got;
		} else if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
			s->can_read = errno == EINTR;
		} else {
			mt_tls_stream_close(s, false);
		}
	}
	if (!s->dead && s->can_read) {
		mt_poller_defer(s->loop->poller, &s->item, 0);
	}
}

/* ---- sending ---- */

static void sent(struct mt_tls_stream *s, size_t len)
{
	struct mt_chunk *chunk = s->tx_head;

	chunk->off += (uint32_t)len;
	s->tx_bytes -= len;
	s->tx_sent += len;
	if (chunk->off == chunk->len) {
		s->tx_head = chunk->next;
		if (s->tx_head == NULL) {
			s->tx_tail = NULL;
		}
		mt_chunk_free(s->loop->mem, chunk);
	}
	if (s->tx_was_full && s->tx_bytes <= MT_TLS_TX_MAX / 2) {
		s->tx_was_full = false;
		announce(s, MT_TLS_EV_WRITABLE);
	}
}

void mt_tls_stream_flush(struct mt_tls_stream *s)
{
	uint64_t before = s->tx_sent;
	ssize_t put;
	int rv;

	while (s->open && !s->dead && s->can_write && s->tx_head != NULL &&
		s->tx_head->off < s->tx_head->len) {
		put = mt_tls_socket_send(&s->sock, s->tx_head->data + s->tx_head->off,
			s->tx_head->len - s->tx_head->off);
		if (put > 0) {
			sent(s, (size_t)put);
		} else if (put == MT_E_AGAIN) {
			s->can_write = false;
		} else {
			die(s);
		}
	}
	if (s->released && s->tx_sent > before && s->tx_bytes > 0 && !s->dead) {
		mt_tls_stream_set_due(s, &s->loop->lingering, MT_TLS_DELIVER_MS);
	}
	if (s->open && !s->dead && s->can_write && s->tx_fin && s->tx_bytes == 0 &&
		!s->sock.fin_sent) {
		rv = mt_tls_socket_send_fin(&s->sock);
		if (rv == MT_E_AGAIN) {
			s->can_write = false;
		} else if (rv < 0) {
			die(s);
		}
	}
}

/* ---- events ---- */

static void deliver(struct mt_tls_stream *s)
{
	struct mt_stream *base = &s->base;

	/* A handler may release the stream at any step: its handler is gone then. */
	while (s->told != 0 && base->handler != NULL) {
		const struct mt_stream_handler *h = base->handler;
		unsigned told = s->told;
		unsigned one = told & -told;

		s->told = told & ~one;
		if (one == MT_TLS_EV_READABLE && h->on_readable != NULL && !s->rx_over) {
			h->on_readable(base, base->user);
		} else if (one == MT_TLS_EV_WRITABLE && h->on_writable != NULL && !s->dead) {
			h->on_writable(base, base->user);
		} else if (one == MT_TLS_EV_RESET) {
			mt_tls_stream_drop_rx(s);
			if (h->on_reset != NULL) {
				h->on_reset(base, MT_APP_CANCELLED, base->user);
			}
		} else if (one == MT_TLS_EV_STOP && h->on_stop != NULL) {
			h->on_stop(base, MT_APP_CANCELLED, base->user);
		} else if (one == MT_TLS_EV_END && h->on_end != NULL) {
			h->on_end(base, 0, base->user);
		}
	}
}

static void check_end(struct mt_tls_stream *s)
{
	if (s->dead || !s->sock.fin_sent) {
		return;
	}
	if (s->released && s->sock.fin_received) {
		mt_tls_stream_close(s, false);
	} else if (s->released && !s->lingers) {
		s->lingers = true;
		mt_tls_stream_set_due(s, &s->loop->lingering, MT_TLS_LINGER_MS);
	} else if (s->sock.fin_received && !s->end_told) {
		s->end_told = true;
		announce(s, MT_TLS_EV_END);
	}
}

static void run(struct mt_tls_stream *s)
{
	fill(s);
	mt_tls_stream_flush(s);
	check_end(s);
	deliver(s);
	if (s->released && !s->dead && s->sock.fin_sent) {
		discard(s);
	}
	if (s->released && s->dead) {
		mt_tls_stream_free(s);
	}
}

/* Behind the peer's end nothing is read any more that would tell of a reset. */
static void check_hang_up(struct mt_tls_stream *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (!s->dead && s->sock.fin_received &&
		getsockopt(s->sock.fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err != 0) {
		(void)mt_tls_socket_fail(&s->sock, -err); /* latched */
		die(s);
	}
}

void mt_tls_stream_on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_tls_stream *s =
		(struct mt_tls_stream *)((char *)item - offsetof(struct mt_tls_stream, item));

	if (s->on_raw != NULL) {
		s->on_raw(s->raw_user, events);
		return;
	}
	s->can_read = s->can_read || (events & MT_POLL_IN) != 0;
	s->can_write = s->can_write || (events & MT_POLL_OUT) != 0;
	if (!s->open && !s->released && !s->dead) {
		mt_tls_stream_queue_handshake(s);
	} else {
		if ((events & MT_POLL_HUP) != 0) {
			check_hang_up(s);
		}
		run(s);
	}
}

/* ---- the handshake ---- */

/* Nobody is told anything more, but for on_gone; an alert is left the time to arrive. */
static void abandon(struct mt_tls_stream *s)
{
	bool explains = s->sock.fault == MT_TLS_FAULT_REFUSED;

	if (s->events.on_failed != NULL) {
		s->events.on_failed(&s->sock, s->events.user);
	}
	s->base.handler = NULL;
	s->released = true;
	mt_tls_stream_drop_rx(s);
	mt_tls_stream_clear_due(s);
	if (explains && s->loop->lingering_count < MT_TLS_LINGERING_MAX &&
		shutdown(s->sock.fd, SHUT_WR) == 0) {
		s->sock.fin_sent = true;
		s->tx_fin = true;
	} else {
		mt_tls_stream_close(s, true);
	}
	run(s);
}

void mt_tls_stream_step_handshake(struct mt_tls_stream *s)
{
	int rv;

	if (s->dead || s->released) {
		return;
	}
	rv = mt_tls_socket_handshake(&s->sock, s->loop->kernel);
	if (rv < 0) {
		mt_tls_socket_push(&s->sock);
	}
	if (rv == MT_E_AGAIN) {
		return;
	}
	mt_tls_stream_clear_due(s);
	if (rv < 0) {
		abandon(s);
		return;
	}
	s->open = true;
	/* A client that has waited for it says at once what it wants, in the same segment. */
	if (s->events.on_established != NULL) {
		s->events.on_established(&s->base, s->events.user);
	}
	if (!s->dead) {
		mt_tls_socket_push(&s->sock);
	}
	if (s->sock.ktls == MT_KTLS_ON) {
		mt_tls_socket_drop_session(&s->sock);
	}
	/* The handshake's reads say nothing about what lies behind it. */
	s->can_read = true;
	s->can_write = true;
	run(s);
}

void mt_tls_stream_on_due(struct mt_tls_stream *s)
{
	if (!s->open && !s->released) {
		(void)mt_tls_socket_fail(&s->sock, MT_E_TIMEOUT); /* latched */
		mt_tls_stream_clear_due(s);
		abandon(s);
	} else {
		mt_tls_stream_close(s, true);
		run(s);
	}
}

void mt_tls_stream_check_silence(struct mt_tls_stream *s)
{
	if (!s->open || s->dead || !mt_tls_socket_is_silent(&s->sock)) {
		return;
	}
	(void)mt_tls_socket_fail(&s->sock, -ETIMEDOUT); /* latched */
	if (s->on_raw != NULL) {
		s->on_raw(s->raw_user, 0);
	} else {
		die(s);
		run(s);
	}
}

static int start(struct mt_tls_stream *s, int fd)
{
	int rv = mt_poller_add(s->loop->poller, &s->item, fd, mt_tls_stream_on_ready);

	if (rv == 0) {
		mt_tls_stream_set_due(s, &s->loop->handshakes, MT_TLS_HANDSHAKE_MS);
	}
	return rv;
}

static int begin(struct mt_stream **out, struct mt_tls_stream *s, int fd, int rv)
{
	if (rv == 0) {
		rv = start(s, fd);
	}
	if (rv < 0) {
		s->dead = true; /* the descriptor stays the caller's */
		mt_poller_init_item(&s->item, mt_tls_stream_on_ready);
		s->events.on_gone = NULL;
		mt_tls_stream_free(s);
		return rv;
	}
	*out = &s->base;
	return 0;
}

int mt_tls_stream_accept(struct mt_stream **out, struct mt_tls_loop *l, int fd,
	struct mt_tls_server *tls, mt_tls_authorize_fn authorize,
	const struct mt_tls_stream_events *events)
{
	struct mt_tls_stream *s = mt_tls_stream_new(l, events);

	if (s == NULL) {
		return -ENOMEM;
	}
	return begin(
		out, s, fd, mt_tls_socket_init_server(&s->sock, fd, tls, authorize, events->user));
}

int mt_tls_stream_connect(struct mt_stream **out, struct mt_tls_loop *l, int fd,
	struct mt_tls_client *tls, const struct mt_tls_stream_events *events)
{
	struct mt_tls_stream *s = mt_tls_stream_new(l, events);

	if (s == NULL) {
		return -ENOMEM;
	}
	return begin(out, s, fd, mt_tls_socket_init_client(&s->sock, fd, tls));
}
