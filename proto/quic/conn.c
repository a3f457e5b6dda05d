#include "proto/quic/impl.h"
#include "proto/wire/probes.h"
#include "proto/wire/request.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Before 1.25 ngtcp2 drops what arrives out of order after STOP_SENDING, though acknowledged, and
 * waits for ever for a RESET_STREAM of a peer that has finished. A stream that should be over for
 * so long does not count against the peer any more; how many are forgiven a connection is bounded,
 * as a peer could do it on purpose.
 */
#define WRITE_OFF_NS    10000000000ull
#define WRITTEN_OFF_MAX 1000u

#define CLOSE_PTOS 3u

const char *mt_cc_text(enum mt_cc cc)
{
	return cc == MT_CC_BBR ? "bbr" : cc == MT_CC_RENO ? "reno" : "cubic";
}

void mt_conn_tell_refused(struct mt_conn *c, const uint8_t *fingerprint)
{
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;

	c->refused = true;
	mt_count(&c->ep->cfg.counters->identity_refused, 1);
	if (ev->on_refused) {
		ev->on_refused(ev->user, &c->info.remote, NULL, fingerprint);
	}
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void mt_conn_drop_tls(struct mt_conn *c)
{
	if (c->qc) {
		ngtcp2_conn_set_tls_native_handle(c->qc, NULL);
	}
	mt_tls_session_deinit(&c->tls);
}

static void free_datagrams(struct mt_conn *c, struct mt_datagram_out *d)
{
	struct mt_datagram_out *next;

	for (; d; d = next) {
		next = d->next;
		mt_mem_release(c->ep->cfg.mem, d);
	}
}

void mt_conn_free_datagrams(struct mt_conn *c)
{
	free_datagrams(c, c->dgram_head);
	free_datagrams(c, c->early);
	c->dgram_head = c->dgram_tail = c->early = NULL;
	c->dgram_count = 0;
}

void mt_conn_deliver_early(struct mt_conn *c)
{
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;
	struct mt_datagram_out *oldest = NULL, *d;

	while ((d = c->early)) {
		c->early = d->next;
		d->next = oldest;
		oldest = d;
	}
	for (d = oldest; d && ev->on_datagram; d = d->next) {
		ev->on_datagram(ev->user, c, d->data, d->len);
	}
	free_datagrams(c, oldest);
}

void mt_conn_free(struct mt_conn *c)
{
	assert(!c->qc && TAILQ_EMPTY(&c->streams));
	mt_mem_release(c->ep->cfg.mem, c);
}

void mt_conn_mark_dirty(struct mt_conn *c)
{
	if (!c->is_dirty && !c->ended) {
		c->is_dirty = true;
		TAILQ_INSERT_TAIL(&c->ep->dirty, c, dirty);
	}
}

void mt_conn_raise(struct mt_conn *c, unsigned events)
{
	c->events |= events;
	if (!c->is_ready && !c->ended) {
		c->is_ready = true;
		TAILQ_INSERT_TAIL(&c->ep->ready, c, ready);
	}
}

static void set_end_from_ccerr(struct mt_conn *c, const ngtcp2_ccerr *e, bool by_peer)
{
	size_t n = e->reason ? smaller(e->reasonlen, sizeof(c->end.reason) - 1) : 0;

	c->end.by_peer = by_peer;
	c->end.is_app = e->type == NGTCP2_CCERR_TYPE_APPLICATION;
	c->end.code = e->error_code;
	if (!c->end.is_app && e->error_code >= NGTCP2_CRYPTO_ERROR && e->error_code <= 0x1ff) {
		c->end.alert = (int)(e->error_code - NGTCP2_CRYPTO_ERROR);
	}
	if (n > 0) {
		memcpy(c->end.reason, e->reason, n);
	}
	c->end.reason[n] = '\0';
	c->end.err = c->end.alert ? MT_E_TLS : c->end.is_app || by_peer ? MT_E_CLOSED : MT_E_QUIC;
}

/* Those with an unwelcome identity were told already, and a Retry is no failure. */
static void count_handshake_failure(struct mt_conn *c)
{
	struct mt_quic_counters *counters = c->ep->cfg.counters;

	if (!c->server || c->refused || c->wants_retry) {
		return;
	}
	if (c->end.err == MT_E_TIMEOUT) {
		mt_count(&counters->handshake_timeout, 1);
	} else if (c->end.alert != 0 || c->end.err == MT_E_TLS || c->end.err == MT_E_PIN) {
		mt_count(&counters->handshake_tls, 1);
	} else if (c->end.by_peer) {
		mt_count(&counters->handshake_closed, 1);
	} else {
		mt_count(&counters->handshake_protocol, 1);
	}
}

void mt_conn_end_now(struct mt_conn *c, const uint8_t *packet, size_t packet_len, bool keep_ids)
{
	struct mt_endpoint *ep = c->ep;
	struct mt_quic_stream *s, *next;
	struct mt_conn_info info;
	struct mt_closing *closing = NULL;
	ngtcp2_duration pto;

	if (c->ended) {
		return;
	}
	mt_conn_get_info(c, &info);
	c->info = info;
	if (c->tls.error != 0 && !c->end.by_peer) {
		c->end.err = c->tls.error;
	}
	if (keep_ids) {
		pto = ngtcp2_conn_get_pto(c->qc);
		closing = mt_closing_new(ep, c, packet, packet_len, ep->now_ns + CLOSE_PTOS * pto);
	}
	if (!closing) {
		mt_cid_remove_all(ep->cids, &c->owner);
	}
	c->ended = true;
	for (s = TAILQ_FIRST(&c->streams); s; s = next) {
		next = TAILQ_NEXT(s, of_conn);
		mt_stream_detach(s, c->end.err ? c->end.err : MT_E_CLOSED);
	}
	mt_conn_free_datagrams(c);
	ngtcp2_conn_del(c->qc); /* which ends a qlog */
	c->qc = NULL;
	mt_conn_drop_qlog(c);
	mt_tls_session_deinit(&c->tls);
	mt_expiry_remove(&ep->expiries, &c->expiry);
	if (c->is_dirty) {
		TAILQ_REMOVE(&ep->dirty, c, dirty);
	}
	if (c->is_ready) {
		TAILQ_REMOVE(&ep->ready, c, ready);
	}
	TAILQ_REMOVE(&ep->all, c, all);
	ep->count--;
	if (c->server && ep->cfg.places) {
		(void)atomic_fetch_sub_explicit(
			ep->cfg.places, 1, memory_order_relaxed); /* gives the old value */
	}
	if (c->established) {
		mt_count(&ep->cfg.counters->connections_active, (uint64_t)-1);
	} else {
		mt_count(&ep->cfg.counters->connections_failed, 1);
		count_handshake_failure(c);
		if (c->server) {
			mt_conn_leave_opening(c);
		}
	}
	TAILQ_INSERT_TAIL(&ep->ended, c, ready);
}

void mt_conn_fail(struct mt_conn *c, int liberr)
{
	struct mt_quic_counters *counters = c->ep->cfg.counters;

	if (c->ended) {
		return;
	}
	switch (liberr) {
	case NGTCP2_ERR_DRAINING:
		set_end_from_ccerr(c, ngtcp2_conn_get_ccerr(c->qc), true);
		if (c->got_reset) {
			c->end = (struct mt_conn_end){.err = MT_E_RESET, .by_peer = true};
		}
		mt_conn_end_now(c, NULL, 0, true);
		return;
	case NGTCP2_ERR_IDLE_CLOSE:
	case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
		mt_count(&counters->timeouts, 1);
		c->end = (struct mt_conn_end){.err = MT_E_TIMEOUT};
		mt_conn_end_now(c, NULL, 0, false);
		return;
	case NGTCP2_ERR_RETRY:
		c->wants_retry = true;
		c->end = (struct mt_conn_end){.err = MT_E_QUIC};
		mt_conn_end_now(c, NULL, 0, false);
		return;
	case NGTCP2_ERR_DROP_CONN:
	case NGTCP2_ERR_CLOSING:
		c->end = (struct mt_conn_end){.err = MT_E_QUIC};
		mt_conn_end_now(c, NULL, 0, false);
		return;
	default: break;
	}
	if (c->close_err.error_code == NGTCP2_NO_ERROR) {
		if (liberr == NGTCP2_ERR_CRYPTO) {
			ngtcp2_ccerr_set_tls_alert(
				&c->close_err, ngtcp2_conn_get_tls_alert(c->qc), NULL, 0);
		} else {
			ngtcp2_ccerr_set_liberr(&c->close_err, liberr, NULL, 0);
		}
	}
	if (liberr != NGTCP2_ERR_CRYPTO && liberr != NGTCP2_ERR_NOMEM) {
		mt_count(&counters->protocol_errors, 1);
	}
	mt_conn_write_close(c);
}

/* Writes CONNECTION_CLOSE for c->close_err, and ends the connection. */
void mt_conn_write_close(struct mt_conn *c)
{
	struct mt_endpoint *ep = c->ep;
	ngtcp2_path_storage ps;
	ngtcp2_pkt_info pi;
	ngtcp2_ssize n = 0;
	uint8_t packet[1500], *buf;
	struct mt_path path = {.socket = NULL};

	set_end_from_ccerr(c, &c->close_err, false);
	ngtcp2_path_storage_zero(&ps);
	n = ngtcp2_conn_write_connection_close(
		c->qc, &ps.path, &pi, packet, sizeof(packet), &c->close_err, ep->now_ns);
	if (n > 0 && (buf = ep->cfg.tx.reserve(ep->cfg.tx.user)) &&
		mt_addr_from_sockaddr(&path.local, ps.path.local.addr, ps.path.local.addrlen) ==
			0 &&
		mt_addr_from_sockaddr(&path.remote, ps.path.remote.addr, ps.path.remote.addrlen) ==
			0) {
		path.socket = ps.path.user_data;
		memcpy(buf, packet, (size_t)n);
		ep->cfg.tx.commit(ep->cfg.tx.user, &path, pi.ecn, (size_t)n, (size_t)n);
		mt_count(&ep->cfg.counters->packets_sent, 1);
		mt_count(&ep->cfg.counters->wire_bytes_sent, (uint64_t)n);
	}
	mt_conn_end_now(c, packet, n > 0 ? (size_t)n : 0, n > 0);
}

void mt_conn_return_stream(struct mt_quic_stream *s)
{
	if (s->by_peer && !s->credited) {
		s->credited = true;
		ngtcp2_conn_extend_max_streams_bidi(s->conn->qc, 1);
		mt_conn_mark_dirty(s->conn);
	}
}

void mt_conn_add_given_up(struct mt_quic_stream *s)
{
	s->given_up_ns = s->ep->now_ns;
	s->given_up_base = s->tx_base;
	s->is_given_up = true;
	TAILQ_INSERT_TAIL(&s->conn->given_up, s, given_up);
}

void mt_conn_remove_given_up(struct mt_quic_stream *s)
{
	if (s->is_given_up) {
		TAILQ_REMOVE(&s->conn->given_up, s, given_up);
		s->is_given_up = false;
	}
}

void mt_conn_write_off(struct mt_conn *c)
{
	struct mt_quic_stream *s;

	while ((s = TAILQ_FIRST(&c->given_up)) && c->written_off_count < WRITTEN_OFF_MAX &&
		s->given_up_ns + WRITE_OFF_NS <= c->ep->now_ns) {
		mt_conn_remove_given_up(s);
		if (s->tx_fin_sent && s->tx_base == s->given_up_base) {
			/* Nothing was acknowledged for as long: a STOP_SENDING had come, which
			 * ngtcp2 does not tell when there is nothing left to write. */
			mt_stream_reset(&s->base, 0);
		}
		if (!s->tx_over) {
			mt_conn_add_given_up(s); /* it still delivers an answer */
		} else if (s->by_peer) {
			c->written_off_count++;
			mt_conn_return_stream(s);
		}
	}
}

/* What the user calls. */

void mt_conn_set_user(struct mt_conn *c, void *user)
{
	c->user = user;
}

void *mt_conn_user(const struct mt_conn *c)
{
	return c->user;
}

uint64_t mt_conn_serial(const struct mt_conn *c)
{
	return c->serial;
}

const uint8_t *mt_conn_fingerprint(const struct mt_conn *c)
{
	return c->tls.has_fingerprint ? c->tls.fingerprint : NULL;
}

bool mt_conn_is_established(const struct mt_conn *c)
{
	return c->established;
}

bool mt_conn_is_closing(const struct mt_conn *c)
{
	return c->ended || c->close_pending;
}

void mt_conn_get_info(struct mt_conn *c, struct mt_conn_info *out)
{
	ngtcp2_conn_info stat;

	*out = c->info;
	out->streams = c->stream_count;
	out->congestion_control = c->cc;
	if (!c->qc) {
		return;
	}
	ngtcp2_conn_get_conn_info(c->qc, &stat);
	out->smoothed_rtt_ns = stat.smoothed_rtt;
	out->min_rtt_ns = stat.min_rtt == UINT64_MAX ? 0 : stat.min_rtt;
	out->cwnd_bytes = stat.cwnd;
	out->in_flight_bytes = stat.bytes_in_flight;
	out->migrations = c->migrations;
#ifdef NGTCP2_CONN_INFO_V2
	mt_count(&c->ep->cfg.counters->packets_lost, stat.pkt_lost - c->lost_counted);
	c->lost_counted = stat.pkt_lost;
#endif
}

uint64_t mt_conn_handshake_ns(const struct mt_conn *c)
{
	return c->handshake_ns;
}

const struct mt_addr *mt_conn_remote(const struct mt_conn *c)
{
	return &c->info.remote;
}

int mt_conn_get_path(struct mt_conn *c, struct mt_path *out)
{
	struct mt_path path = {.retired = false};
	const ngtcp2_path *now;

	if (!c->qc) {
		return MT_E_CLOSED;
	}
	now = ngtcp2_conn_get_path(c->qc);
	if (mt_addr_from_sockaddr(&path.local, now->local.addr, now->local.addrlen) != 0 ||
		mt_addr_from_sockaddr(&path.remote, now->remote.addr, now->remote.addrlen) != 0) {
		return MT_E_QUIC;
	}
	path.socket = now->user_data;
	*out = path;
	return 0;
}

uint64_t mt_conn_streams_left(const struct mt_conn *c)
{
	return c->qc && !c->close_pending ? ngtcp2_conn_get_streams_bidi_left(c->qc) : 0;
}

int mt_conn_open_stream(struct mt_conn *c, struct mt_stream **out)
{
	struct mt_quic_stream *s;
	int64_t id;
	int rc;

	if (!c->qc || c->close_pending) {
		return MT_E_CLOSED;
	}
	rc = ngtcp2_conn_open_bidi_stream(c->qc, &id, NULL);
	if (rc != 0) {
		return rc == NGTCP2_ERR_STREAM_ID_BLOCKED ? MT_E_LIMIT
		       : rc == NGTCP2_ERR_NOMEM           ? -ENOMEM
							  : MT_E_QUIC;
	}
	s = mt_stream_new(c, id, false);
	if (!s || ngtcp2_conn_set_stream_user_data(c->qc, id, s) != 0) {
		/* A stream without an owner cannot be closed any more: the connection goes. */
		mt_conn_close(c, MT_APP_LIMIT, "out of memory");
		return -ENOMEM;
	}
	*out = &s->base;
	return 0;
}

size_t mt_conn_datagram_max(const struct mt_conn *c)
{
	const ngtcp2_transport_params *remote;
	size_t packet, overhead;

	if (!c->qc || c->close_pending) {
		return 0;
	}
	remote = ngtcp2_conn_get_remote_transport_params(c->qc);
	if (!remote || remote->max_datagram_frame_size < 4) {
		return 0;
	}
	packet = mt_conn_path_payload(c);
	/* short header, packet number, AEAD tag; then frame type and length */
	overhead = 1 + ngtcp2_conn_get_dcid(c->qc)->datalen + 4 + 16;
	packet = (size_t)smaller(packet - overhead, remote->max_datagram_frame_size);
	return packet - 3;
}

size_t mt_conn_datagram_room(const struct mt_conn *c)
{
	return MT_DATAGRAMS_OUT_MAX - c->dgram_count;
}

void mt_conn_want_datagram_room(struct mt_conn *c)
{
	c->dgram_was_full = c->dgram_was_full || c->dgram_count > 0;
}

int mt_conn_send_datagram(
	struct mt_conn *c, const void *head, size_t head_len, const void *body, size_t body_len)
{
	struct mt_datagram_out *d;

	if (!c->qc || c->close_pending) {
		return MT_E_CLOSED;
	}
	if (head_len + body_len > mt_conn_datagram_max(c)) {
		mt_count(&c->ep->cfg.counters->datagrams_dropped, 1);
		MT_PROBE2(drop, "datagram_too_long", 1);
		return MT_E_TOO_LONG;
	}
	d = mt_mem_alloc(c->ep->cfg.mem, sizeof(*d) + head_len + body_len);
	if (!d) {
		return -ENOMEM;
	}
	d->next = NULL;
	d->len = head_len + body_len;
	if (head_len > 0) {
		memcpy(d->data, head, head_len);
	}
	if (body_len > 0) {
		memcpy(d->data + head_len, body, body_len);
	}
	if (c->dgram_count == MT_DATAGRAMS_OUT_MAX) {
		struct mt_datagram_out *oldest = c->dgram_head;

		c->dgram_head = oldest->next;
		mt_mem_release(c->ep->cfg.mem, oldest);
		c->dgram_count--;
		mt_count(&c->ep->cfg.counters->datagrams_dropped, 1);
		MT_PROBE2(drop, "datagram_queue", 1);
	}
	if (c->dgram_head) {
		c->dgram_tail->next = d;
	} else {
		c->dgram_head = d;
	}
	c->dgram_tail = d;
	if (++c->dgram_count == MT_DATAGRAMS_OUT_MAX) {
		c->dgram_was_full = true;
	}
	c->ep->stirred_ns = c->ep->now_ns;
	mt_conn_mark_dirty(c);
	return 0;
}

void mt_conn_close(struct mt_conn *c, uint64_t app_code, const char *reason)
{
	size_t len = reason ? strnlen(reason, sizeof(c->close_reason)) : 0;

	if (!c->qc || c->close_pending) {
		return;
	}
	memcpy(c->close_reason, reason ? reason : "", len);
	ngtcp2_ccerr_set_application_error(
		&c->close_err, app_code, (const uint8_t *)c->close_reason, len);
	c->close_pending = true;
	mt_conn_mark_dirty(c);
}

int mt_conn_migrate(struct mt_conn *c, const struct mt_addr *local, void *socket, uint64_t now_ns)
{
	struct mt_path path = {.local = *local, .remote = c->info.remote, .socket = socket};
	ngtcp2_path np;
	int rc;

	if (!c->qc || c->close_pending) {
		return MT_E_CLOSED;
	}
	if (now_ns > c->ep->now_ns) {
		c->ep->now_ns = now_ns;
	}
	mt_ngtcp2_path(&np, &path);
	rc = ngtcp2_conn_initiate_immediate_migration(c->qc, &np, c->ep->now_ns);
	if (rc != 0) {
		return rc == NGTCP2_ERR_NOMEM ? -ENOMEM : MT_E_QUIC;
	}
	c->info.local = *local;
	mt_conn_mark_dirty(c);
	return 0;
}

void mt_conn_set_keep_alive(struct mt_conn *c, uint64_t interval_ns)
{
	if (c->qc) {
		ngtcp2_conn_set_keep_alive_timeout(c->qc, interval_ns ? interval_ns : UINT64_MAX);
		mt_conn_mark_dirty(c);
	}
}

uint64_t mt_conn_last_received_ns(const struct mt_conn *c)
{
	return c->last_received_ns;
}
