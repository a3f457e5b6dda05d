#include "proto/quic/impl.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Of one connection in BUDGET_NS: so many packets always, more with so many bytes of payload each
 * on average, or one of ours for so many of them.
 */
#define BUDGET_NS      1000000000ull
#define BUDGET_PACKETS 20000u
#define BUDGET_PAYLOAD 16u
#define BUDGET_ANSWERS 4u
/* With more connections than a client has, those that it tries among them, a packet that belongs to
 * none is not shown to all. */
#define RESETS_LOOKED_AT 256u

void mt_endpoint_random(void *out, size_t len)
{
	/* Fails only when the kernel has no random numbers: nothing could be kept secret then. */
	if (gnutls_rnd(GNUTLS_RND_NONCE, out, len) != 0) {
		abort();
	}
}

int mt_endpoint_new_cid(struct mt_endpoint *ep, ngtcp2_cid *cid)
{
	cid->datalen = MT_CID_LEN;
	for (int tries = 0; tries < 8; tries++) {
		mt_endpoint_random(cid->data, MT_CID_LEN);
		cid->data[0] = ep->cfg.worker;
		cid->data[1] = ep->cfg.tag;
		if (!mt_cid_find(ep->cids, cid->data, cid->datalen)) {
			return 0;
		}
	}
	return MT_E_EXISTS;
}

static int check_limits(const struct mt_endpoint_limits *limits)
{
	if (limits->max_udp_payload < NGTCP2_MAX_UDP_PAYLOAD_SIZE ||
		limits->max_stream_window == 0 ||
		limits->max_conn_window < limits->max_stream_window ||
		limits->idle_timeout_ns == 0) {
		return MT_E_RANGE;
	}
	return 0;
}

int mt_endpoint_new(struct mt_endpoint **out, const struct mt_endpoint_config *config)
{
	struct mt_endpoint *ep;
	uint8_t key[16];
	int rc = check_limits(&config->limits);

	if (rc != 0) {
		return rc;
	}
	ep = calloc(1, sizeof(*ep));
	if (!ep) {
		return -ENOMEM;
	}
	ep->cfg = *config;
	ep->cfg.tls = config->tls ? mt_tls_server_ref(config->tls) : NULL;
	TAILQ_INIT(&ep->all);
	TAILQ_INIT(&ep->dirty);
	TAILQ_INIT(&ep->ready);
	TAILQ_INIT(&ep->ended);
	TAILQ_INIT(&ep->ready_streams);
	TAILQ_INIT(&ep->buried);
	TAILQ_INIT(&ep->opening);
	mt_endpoint_init_deferred(ep);
	TAILQ_INIT(&ep->starved);
	mt_endpoint_random(key, sizeof(key));
	ep->cids = mt_cid_table_new(config->mem, key);
	rc = ep->cids ? mt_endpoint_derive_secrets(ep) : -ENOMEM;
	if (rc != 0) {
		mt_endpoint_free(ep);
		return rc;
	}
	*out = ep;
	return 0;
}

static void free_buried(struct mt_endpoint *ep)
{
	struct mt_quic_stream *s;

	while ((s = TAILQ_FIRST(&ep->buried))) {
		TAILQ_REMOVE(&ep->buried, s, ready);
		mt_stream_free(s);
	}
}

static void free_ended(struct mt_endpoint *ep)
{
	struct mt_conn *c;

	while ((c = TAILQ_FIRST(&ep->ended))) {
		TAILQ_REMOVE(&ep->ended, c, ready);
		mt_conn_free(c);
	}
}

void mt_endpoint_free(struct mt_endpoint *ep)
{
	struct mt_expiry *e;
	struct mt_conn *c;

	if (!ep) {
		return;
	}
	while ((c = TAILQ_FIRST(&ep->all))) {
		c->end = (struct mt_conn_end){.err = MT_E_CLOSED};
		mt_conn_drop_qlog(c); /* without events */
		mt_conn_end_now(c, NULL, 0, false);
	}
	mt_endpoint_drop_deferred(ep);
	free_buried(ep);
	free_ended(ep);
	while ((e = mt_expiry_first(&ep->expiries))) {
		mt_closing_free(
			ep, (struct mt_closing *)((char *)e - offsetof(struct mt_closing, expiry)));
	}
	mt_expiry_queue_deinit(&ep->expiries);
	mt_cid_table_free(ep->cids);
	mt_tls_server_unref(ep->cfg.tls);
	explicit_bzero(ep->cfg.secret, sizeof(ep->cfg.secret));
	explicit_bzero(ep->reset_secret, sizeof(ep->reset_secret));
	explicit_bzero(ep->token_secret, sizeof(ep->token_secret));
	free(ep);
}

void mt_endpoint_set_limits(struct mt_endpoint *ep, const struct mt_endpoint_limits *limits)
{
	if (check_limits(limits) == 0) {
		ep->cfg.limits = *limits;
	}
}

void mt_endpoint_set_tls(struct mt_endpoint *ep, struct mt_tls_server *tls)
{
	struct mt_tls_server *old = ep->cfg.tls;

	ep->cfg.tls = tls ? mt_tls_server_ref(tls) : NULL;
	mt_tls_server_unref(old);
}

void mt_endpoint_set_draining(struct mt_endpoint *ep, bool draining)
{
	ep->draining = draining;
}

struct mt_closing *mt_closing_new(struct mt_endpoint *ep, struct mt_conn *c, const uint8_t *packet,
	size_t len, uint64_t until_ns)
{
	struct mt_closing *closing = NULL;

	if (ep->closing_count < MT_CLOSING_MAX) {
		closing = mt_mem_calloc(ep->cfg.mem, sizeof(*closing) + len);
	}
	if (!closing) {
		return NULL; /* late packets are answered by stateless resets */
	}
	mt_expiry_init(&closing->expiry, true);
	if (mt_expiry_set(&ep->expiries, &closing->expiry, until_ns) != 0) {
		mt_mem_release(ep->cfg.mem, closing);
		return NULL;
	}
	closing->owner.kind = MT_OWNER_CLOSING;
	closing->len = len;
	if (len > 0) {
		memcpy(closing->packet, packet, len);
	}
	mt_cid_move_all(&c->owner, &closing->owner);
	ep->closing_count++;
	return closing;
}

void mt_closing_free(struct mt_endpoint *ep, struct mt_closing *closing)
{
	mt_expiry_remove(&ep->expiries, &closing->expiry);
	mt_cid_remove_all(ep->cids, &closing->owner);
	ep->closing_count--;
	mt_mem_release(ep->cfg.mem, closing);
}

/* Answers with the close packet again, at the 1st, 2nd, 4th... packet, and never with more than
 * three times what came in. */
static void receive_closing(
	struct mt_endpoint *ep, struct mt_closing *closing, const struct mt_path *path, size_t len)
{
	uint8_t *buf;

	closing->received++;
	closing->bytes_in += len;
	if (closing->len == 0 || (closing->received & (closing->received - 1)) != 0 ||
		closing->bytes_out + closing->len > 3 * closing->bytes_in) {
		return;
	}
	buf = ep->cfg.tx.reserve(ep->cfg.tx.user);
	if (!buf) {
		return;
	}
	memcpy(buf, closing->packet, closing->len);
	ep->cfg.tx.commit(ep->cfg.tx.user, path, 0, closing->len, closing->len);
	closing->bytes_out += closing->len;
	mt_count(&ep->cfg.counters->packets_sent, 1);
	mt_count(&ep->cfg.counters->wire_bytes_sent, closing->len);
}

static void update_remote(struct mt_conn *c)
{
	const ngtcp2_path *path = ngtcp2_conn_get_path(c->qc);
	struct mt_addr local, remote;

	if (mt_addr_from_sockaddr(&local, path->local.addr, path->local.addrlen) == 0 &&
		mt_addr_from_sockaddr(&remote, path->remote.addr, path->remote.addrlen) == 0) {
		c->info.local = local;
		c->info.remote = remote;
	}
}

/* ngtcp2 before 1.15 counts no glitches: a peer could keep us busy with packets that carry nothing.
 * Whoever sends many in a second, with hardly any payload, and not in answer to what we send, gets
 * no more of them looked at in that second. It is not closed: anybody who sees its connection id
 * could have sent them.
 */
static bool is_over_budget(struct mt_conn *c)
{
	uint64_t now_ns = c->ep->now_ns;

	if (now_ns - c->budget.since_ns >= BUDGET_NS) {
		c->budget.since_ns = now_ns;
		c->budget.packets = 0;
		c->budget.bytes_then = c->info.bytes_received;
		c->budget.sent_then = c->packets_sent;
	}
	c->budget.packets++;
	return c->budget.packets > BUDGET_PACKETS &&
	       c->info.bytes_received - c->budget.bytes_then < c->budget.packets * BUDGET_PAYLOAD &&
	       c->packets_sent - c->budget.sent_then < c->budget.packets / BUDGET_ANSWERS;
}

static void receive_conn(struct mt_conn *c, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	ngtcp2_pkt_info pi = {.ecn = (uint8_t)ecn};
	ngtcp2_path np;
	int rc;

	if (is_over_budget(c)) {
		mt_count(&c->ep->cfg.counters->packets_over_budget, 1);
		return;
	}
	mt_ngtcp2_path(&np, path);
	c->got_payload = false;
	rc = ngtcp2_conn_read_pkt(c->qc, &np, &pi, data, len, c->ep->now_ns);
	if (rc != 0) {
		mt_conn_fail(c, rc);
		return;
	}
	c->last_received_ns = c->ep->now_ns;
	c->unanswered_ns = 0;
	mt_conn_write_off(c);
	if (!mt_addr_equal(&path->remote, &c->info.remote) ||
		!mt_addr_equal(&path->local, &c->info.local)) {
		update_remote(c);
		c->answer_len = 0; /* what validates the path needs room */
		mt_conn_mark_dirty(c);
	}
	if (!mt_conn_settle(c, ecn, len)) {
		mt_conn_mark_dirty(c);
	}
}

static bool is_foreign(const struct mt_endpoint *ep, const ngtcp2_version_cid *vc)
{
	return ep->cfg.events.on_foreign && vc->dcidlen == MT_CID_LEN &&
	       vc->dcid[1] == ep->cfg.tag && vc->dcid[0] != ep->cfg.worker &&
	       vc->dcid[0] < ep->cfg.worker_count;
}

/* A stateless reset names no connection: whoever talks to its sender looks whether it ends with its
 * token (RFC 9000, section 10.3.1). Only clients look, whose connections are few.
 */
static bool receive_reset(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *data, size_t len)
{
	struct mt_conn *c, *next;
	bool seen = false;

	if (ep->count > RESETS_LOOKED_AT) {
		return false;
	}
	for (c = TAILQ_FIRST(&ep->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (!c->server && c->established && mt_addr_equal(&c->info.remote, &path->remote)) {
			receive_conn(c, path, 0, data, len);
			seen = true;
		}
	}
	return seen;
}

static void receive_owned(struct mt_endpoint *ep, struct mt_conn *c, const struct mt_path *path,
	unsigned ecn, const uint8_t *data, size_t len)
{
	if (c->established || !c->server) {
		mt_endpoint_note_traffic(ep);
	} else if (mt_endpoint_defer(ep, MT_DEFERRED_BEGUN, path, NULL, ecn, data, len)) {
		return;
	}
	receive_conn(c, path, ecn, data, len);
}

/* The ids of a packet, as ngtcp2_pkt_decode_version_cid. All but a handshake's packets have short
 * headers, with our own id right behind the first byte (RFC 9000, section 17.3).
 */
static int decode_ids(ngtcp2_version_cid *vc, const uint8_t *data, size_t len)
{
	if (data[0] & LONG_HEADER) {
		return ngtcp2_pkt_decode_version_cid(vc, data, len, MT_CID_LEN);
	}
	*vc = (ngtcp2_version_cid){.dcid = data + 1, .dcidlen = MT_CID_LEN};
	return 0;
}

void mt_endpoint_receive_one(struct mt_endpoint *ep, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	const struct mt_endpoint_events *ev = &ep->cfg.events;
	struct mt_conn *accepted = NULL;
	struct mt_cid_owner *owner;
	ngtcp2_version_cid vc;
	int rc;

	if (len < PACKET_MIN) {
		mt_count(&ep->cfg.counters->packets_invalid, 1);
		return;
	}
	rc = decode_ids(&vc, data, len);
	if (rc == NGTCP2_ERR_VERSION_NEGOTIATION) {
		mt_endpoint_send_version_negotiation(ep, path, &vc, len);
		return;
	}
	if (rc != 0 || vc.dcidlen > NGTCP2_MAX_CIDLEN || vc.scidlen > NGTCP2_MAX_CIDLEN) {
		mt_count(&ep->cfg.counters->packets_invalid, 1);
		return;
	}
	owner = mt_cid_find(ep->cids, vc.dcid, vc.dcidlen);
	if (owner && owner->kind == MT_OWNER_CONN) {
		receive_owned(ep, (struct mt_conn *)owner, path, ecn, data, len);
	} else if (owner && owner->kind == MT_OWNER_WAITING) {
		mt_endpoint_defer_more(ep, owner, path, ecn, data, len);
	} else if (owner) {
		receive_closing(ep, (struct mt_closing *)owner, path, len);
	} else if (is_foreign(ep, &vc)) {
		mt_count(&ep->cfg.counters->packets_foreign, 1);
		ev->on_foreign(ev->user, vc.dcid[0], path, ecn, data, len);
	} else if (!ep->cfg.tls && !(data[0] & LONG_HEADER) && receive_reset(ep, path, data, len)) {
		return;
	} else {
		mt_endpoint_receive_unknown(ep, path, &vc, ecn, data, len, &accepted);
		if (accepted) {
			receive_conn(accepted, path, ecn, data, len);
			if (accepted->wants_retry) { /* freed by dispatch, not before */
				mt_endpoint_send_retry(ep, path, data, len);
			}
		}
	}
}

static void advance(struct mt_endpoint *ep, uint64_t now_ns)
{
	if (now_ns > ep->now_ns) {
		ep->now_ns = now_ns;
	}
}

void mt_endpoint_receive(struct mt_endpoint *ep, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len, size_t segment, uint64_t now_ns)
{
	size_t n;

	advance(ep, now_ns);
	mt_endpoint_look_ahead(ep);
	if (segment == 0 || segment > len) {
		segment = len;
	}
	mt_count(&ep->cfg.counters->packets_received, len > 0 ? (len - 1) / segment + 1 : 1);
	mt_count(&ep->cfg.counters->wire_bytes_received, len);
	do {
		n = len < segment ? len : segment;
		mt_endpoint_receive_one(ep, path, ecn, data, n);
		data += n;
		len -= n;
	} while (len > 0);
}

void mt_endpoint_expire(struct mt_endpoint *ep, uint64_t now_ns)
{
	struct mt_expiry *e;
	struct mt_conn *c;
	int rc;

	advance(ep, now_ns);
	(void)mt_endpoint_run_deferred(ep); /* there may be none */
	while ((e = mt_expiry_first(&ep->expiries)) && e->ts_ns <= ep->now_ns) {
		if (e->is_closing) {
			mt_closing_free(
				ep, (struct mt_closing *)((char *)e -
							  offsetof(struct mt_closing, expiry)));
			continue;
		}
		c = (struct mt_conn *)((char *)e - offsetof(struct mt_conn, expiry));
		mt_expiry_remove(&ep->expiries, e);
		rc = ngtcp2_conn_handle_expiry(c->qc, ep->now_ns);
		if (rc != 0) {
			mt_conn_fail(c, rc);
		} else {
			mt_conn_doubt_path(c);
			mt_conn_mark_dirty(c); /* which sets the timer again */
		}
	}
}

static void deliver_conn(struct mt_conn *c)
{
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;
	unsigned events = c->events;

	c->events = 0;
	if (events & MT_EV_ESTABLISHED) {
		mt_conn_drop_tls(c);
		c->announced = true;
		if (ev->on_established) {
			ev->on_established(ev->user, c);
		}
		mt_conn_drop_held_qlog(c);
		mt_conn_deliver_early(c);
	}
	if ((events & MT_EV_STREAMS_LEFT) && ev->on_streams_left && !c->close_pending) {
		ev->on_streams_left(ev->user, c);
	}
	if ((events & MT_EV_DATAGRAM_ROOM) && ev->on_datagram_room && !c->close_pending) {
		ev->on_datagram_room(ev->user, c);
	}
}

static void deliver_stream(struct mt_quic_stream *s)
{
	const struct mt_endpoint_events *ev = &s->ep->cfg.events;
	struct mt_stream *base = &s->base;
	unsigned events = s->events;

	s->events = 0;
	if (events & MT_EV_OPEN) {
		if (!ev->on_stream || !s->conn || s->conn->close_pending) {
			mt_stream_release(base, 0);
			return;
		}
		ev->on_stream(ev->user, s->conn, base);
	}
	/* A handler may release the stream at any step: its handler is gone then. */
	if ((events & MT_EV_READABLE) && base->handler && base->handler->on_readable &&
		!s->rx_over) {
		base->handler->on_readable(base, base->user);
	}
	if ((events & MT_EV_WRITABLE) && base->handler && base->handler->on_writable &&
		!s->tx_over) {
		base->handler->on_writable(base, base->user);
	}
	if ((events & MT_EV_RESET) && base->handler && base->handler->on_reset) {
		base->handler->on_reset(base, s->reset_code, base->user);
	}
	if ((events & MT_EV_STOP) && base->handler && base->handler->on_stop) {
		base->handler->on_stop(base, s->stop_code, base->user);
	}
	if ((events & MT_EV_END) && base->handler && base->handler->on_end) {
		base->handler->on_end(base, s->end_err, base->user);
	}
	mt_stream_end_invitation(s);
}

void mt_endpoint_dispatch(struct mt_endpoint *ep, uint64_t now_ns)
{
	const struct mt_endpoint_events *ev = &ep->cfg.events;
	struct mt_quic_stream *s;
	struct mt_conn *c;

	advance(ep, now_ns);
	mt_endpoint_relieve(ep);
	for (;;) {
		if ((c = TAILQ_FIRST(&ep->ready))) {
			TAILQ_REMOVE(&ep->ready, c, ready);
			c->is_ready = false;
			deliver_conn(c);
		} else if ((s = TAILQ_FIRST(&ep->ready_streams))) {
			TAILQ_REMOVE(&ep->ready_streams, s, ready);
			s->is_ready = false;
			deliver_stream(s);
		} else if ((c = TAILQ_FIRST(&ep->ended))) {
			TAILQ_REMOVE(&ep->ended, c, ready);
			if (ev->on_end && (c->announced || !c->server)) {
				ev->on_end(ev->user, c, &c->end);
			}
			mt_conn_free(c);
		} else {
			break;
		}
	}
	free_buried(ep);
}

bool mt_endpoint_flush(struct mt_endpoint *ep, uint64_t now_ns)
{
	struct mt_conn *c, *last;
	uint64_t packets;
	bool room = true;

	advance(ep, now_ns);
	/* Connections that used up their quantum queue up again behind `last`: their turn comes in
	 * the next flush. */
	last = TAILQ_LAST(&ep->dirty, mt_conn_list);
	while (room && (c = TAILQ_FIRST(&ep->dirty))) {
		bool was_last = c == last;

		TAILQ_REMOVE(&ep->dirty, c, dirty);
		c->is_dirty = false;
		packets = c->packets_sent;
		room = mt_conn_write(c);
		if (!room && c->is_dirty && c->packets_sent == packets) {
			/* It has not had its turn. */
			TAILQ_REMOVE(&ep->dirty, c, dirty);
			TAILQ_INSERT_HEAD(&ep->dirty, c, dirty);
		}
		if (was_last) {
			break;
		}
	}
	ep->flushing_blocked = !room;
	return room;
}

uint64_t mt_endpoint_expiry(struct mt_endpoint *ep)
{
	const struct mt_expiry *e = mt_expiry_first(&ep->expiries);
	uint64_t first_ns = mt_endpoint_deferred_expiry(ep);

	if (!TAILQ_EMPTY(&ep->ready) || !TAILQ_EMPTY(&ep->ready_streams) ||
		!TAILQ_EMPTY(&ep->ended) || !TAILQ_EMPTY(&ep->buried) ||
		(!TAILQ_EMPTY(&ep->dirty) && !ep->flushing_blocked)) {
		return 0;
	}
	return e && e->ts_ns < first_ns ? e->ts_ns : first_ns;
}

int mt_endpoint_connect(struct mt_endpoint *ep, const struct mt_path *path,
	struct mt_tls_client *tls, uint64_t now_ns, struct mt_conn **out)
{
	struct mt_conn_new how = {.path = path, .tls_client = tls};

	advance(ep, now_ns);
	return mt_conn_new(ep, &how, out);
}

size_t mt_endpoint_count(const struct mt_endpoint *ep)
{
	return ep->count;
}

uint64_t mt_endpoint_take_serial(struct mt_endpoint *ep)
{
	return ++ep->next_serial;
}
