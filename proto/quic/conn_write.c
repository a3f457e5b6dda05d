/* Fills batches of packets from a connection's datagrams and streams (RFC 9000, sections 12 and
 * 13). */
#include "proto/quic/impl.h"
#include "proto/wire/probes.h"

#include <errno.h>
#include <string.h>

/* The largest batch: the kernel takes 64 segments, and what is an IP packet of less than 64 KiB
 * with the headers of IPv6, UDP and Ethernet: what is larger it would split in software. */
#define SEGMENTS_MAX 64u
#define BATCH_MAX    65473u
/* Acknowledgements and the like are smaller. */
#define REPETITION_MIN 1000u
/* A short path, see tx_max: 20 Gbit/s are the fastest that it is thought to be. */
#define SHORT_PATH_NS        10000000u
#define SHORT_PATH_BYTES     262144u
#define FASTEST_BYTES_PER_US 2500u
/* The same beside streams that exchange little, LITTLE_BYTES at a time: more than 10 Gbit/s a
 * tunnel does not carry. */
#define SHARED_PATH_BYTES   98304u
#define TUNNEL_BYTES_PER_US 1250u
#define LITTLE_BYTES        4096u
#define LITTLE_TOGETHER     16384u /* in LITTLE_NS to twice of it */
#define LITTLE_NS           100000000u
#define COARSE_NS           1000000u
#define GATHER_NS           8000000u
/* max_ack_delay, which both ends leave at its default. */
#define ACK_DELAY_NS 25000000u
/* Of the round trip: how long the library lets an acknowledgement wait, but for that bound. */
#define ACK_DELAY_SHARE 8u
/* Packets with a PATH_RESPONSE or a probe are larger. */
#define ANSWER_BYTES_MAX UINT8_MAX
/* Answers in a row that nobody is asked to acknowledge. */
#define BARE_MAX 15u
/* What may leave, with nothing to follow, before the pacer is told. */
#define UNPACED_BYTES 4096u

struct batch {
	uint8_t *buf;
	size_t len;
	size_t segment;
	size_t packets;
	unsigned ecn;
	struct mt_path path;
};

static void commit(struct mt_conn *c, struct batch *b)
{
	const struct mt_tx *tx = &c->ep->cfg.tx;

	if (b->len == 0) {
		return;
	}
	tx->commit(tx->user, &b->path, b->ecn, b->len, b->segment);
	c->packets_sent += b->packets;
	c->unpaced_bytes += (uint32_t)b->len;
	mt_count(&c->ep->cfg.counters->packets_sent, b->packets);
	mt_count(&c->ep->cfg.counters->wire_bytes_sent, b->len);
	b->len = b->packets = b->segment = 0;
}

static void pop_datagram(struct mt_conn *c, bool sent)
{
	struct mt_datagram_out *d = c->dgram_head;

	c->dgram_head = d->next;
	if (!c->dgram_head) {
		c->dgram_tail = NULL;
	}
	c->dgram_count--;
	if (sent) {
		mt_count(&c->ep->cfg.counters->datagrams_sent, 1);
		c->info.bytes_sent += d->len;
		mt_conn_charge_datagram(c, d->len);
	} else {
		mt_count(&c->ep->cfg.counters->datagrams_dropped, 1);
		MT_PROBE2(drop, "datagram_unsendable", 1);
	}
	mt_mem_release(c->ep->cfg.mem, d);
	if (c->dgram_was_full && c->dgram_count <= MT_DATAGRAMS_OUT_MAX / 2) {
		c->dgram_was_full = false;
		mt_conn_raise(c, MT_EV_DATAGRAM_ROOM);
	}
}

/* One step with the oldest datagram. NGTCP2_ERR_WRITE_MORE: the packet has room for more. */
static ngtcp2_ssize write_datagram(
	struct mt_conn *c, ngtcp2_path *path, ngtcp2_pkt_info *pi, uint8_t *buf, size_t cap)
{
	struct mt_datagram_out *d = c->dgram_head;
	ngtcp2_vec vec = {.base = d->data, .len = d->len};
	int accepted = 0;
	ngtcp2_ssize n;

	n = ngtcp2_conn_writev_datagram(c->qc, path, pi, buf, cap, &accepted,
		NGTCP2_WRITE_DATAGRAM_FLAG_MORE, 0, &vec, 1, c->ep->now_ns);
	if (accepted) {
		pop_datagram(c, true);
	} else if (n == NGTCP2_ERR_INVALID_ARGUMENT || n == NGTCP2_ERR_INVALID_STATE ||
		   (n >= 0 && d->len > mt_conn_datagram_max(c))) {
		pop_datagram(c, false); /* the path has become narrower since */
		return n > 0 ? n : NGTCP2_ERR_WRITE_MORE;
	}
	return n;
}

/* Whether bytes of streams must wait: MAX_DATA or an acknowledgement brings us back. The peer
 * chooses how much it lets us send and when it acknowledges, so what is kept until then has a bound
 * of ours.
 */
static bool window_is_full(const struct mt_conn *c)
{
	return ngtcp2_conn_get_max_data_left(c->qc) == 0 || c->tx_unacked >= c->tx_max;
}

/* How many bytes of streams may be under way. What is more than a path carries in a round trip
 * stands in some buffer on the way, and whatever an interactive stream sends waits behind it. Where
 * the best round trip tells that the path is short, such as within one machine or one network, less
 * is let go: a fixed amount, for receivers that look seldom, and what the fastest network carries
 * in that time. Still less, which costs throughput, while somebody is there whom it would keep
 * waiting: on this connection or, as they share a thread with it, on any other of the endpoint.
 */
static uint64_t tx_max(const struct mt_conn *c, const ngtcp2_conn_info *info)
{
	uint64_t max = c->ep->cfg.limits.max_conn_window, enough;

	if (info->min_rtt >= SHORT_PATH_NS) {
		return max;
	}
	if (mt_endpoint_is_conversing(c->ep)) {
		enough = SHARED_PATH_BYTES + info->min_rtt * TUNNEL_BYTES_PER_US / 1000;
	} else {
		enough = SHORT_PATH_BYTES + info->min_rtt * FASTEST_BYTES_PER_US / 1000;
	}
	return enough < max ? enough : max;
}

/* The next unsent bytes as at most two pieces; `*fin` when they are the last. */
static size_t next_unsent(const struct mt_quic_stream *s, ngtcp2_vec vec[2], size_t *len, bool *fin)
{
	const struct mt_chunk *chunk = s->tx_cur;
	uint32_t off = s->tx_cur_off;
	size_t n = 0;

	*len = 0;
	for (; chunk && n < 2; chunk = chunk->next, off = 0) {
		if (chunk->len > off) {
			vec[n].base = (uint8_t *)chunk->data + off;
			vec[n].len = chunk->len - off;
			*len += vec[n].len;
			n++;
		}
	}
	*fin = s->tx_fin && *len == s->tx_end - s->tx_sent;
	return n;
}

bool mt_endpoint_is_conversing(const struct mt_endpoint *ep)
{
	return ep->little_ns != 0 && ep->now_ns - ep->little_ns < LITTLE_NS;
}

/* Whoever sends little again and again, and waits for no acknowledgement of more, exchanges words:
 * a bulk transfer also sends a small piece at times, but has sent much shortly before, and a
 * request is followed by no other. `len` bytes have just been sent.
 */
static void watch_little(struct mt_quic_stream *s, size_t len)
{
	uint64_t now_ns = s->ep->now_ns, age_ns = now_ns - s->talk.since_ns;

	if (age_ns >= LITTLE_NS) {
		s->talk.before = age_ns < 2 * LITTLE_NS ? s->tx_sent - len - s->talk.mark : 0;
		s->talk.mark = s->tx_sent - len;
		s->talk.since_ns = now_ns;
	}
	if (len == 0 || s->tx_sent != s->tx_end || s->tx_sent - s->tx_base > LITTLE_BYTES ||
		s->talk.before + s->tx_sent - s->talk.mark > LITTLE_TOGETHER) {
		return;
	}
	if (s->has_talked) {
		s->ep->little_ns = now_ns;
	}
	s->has_talked = true;
}

static void on_sent(struct mt_quic_stream *s, size_t len, bool fin)
{
	size_t left = len, n;

	while (left > 0) {
		n = s->tx_cur->len - s->tx_cur_off;
		if (left < n || (left == n && !s->tx_cur->next)) {
			s->tx_cur_off += (uint32_t)left;
			break;
		}
		left -= n;
		s->tx_cur = s->tx_cur->next;
		s->tx_cur_off = 0;
	}
	s->tx_sent += len;
	s->conn->tx_unacked += len;
	s->conn->info.bytes_sent += len;
	mt_conn_watch_large(s, len);
	watch_little(s, len);
	mt_stream_count_unsent(s);
	if (fin) {
		s->tx_fin_sent = true;
	}
	if (s->tx_sent == s->tx_end && (!s->tx_fin || s->tx_fin_sent)) {
		mt_stream_set_sendable(s, false);
	}
	if (s->tx_was_full && s->tx_end - s->tx_sent <= MT_STREAM_UNSENT_MAX / 2) {
		s->tx_was_full = false;
		mt_stream_raise(s, MT_EV_WRITABLE);
	}
}

/* One step with the stream whose turn it is, or without one. */
static ngtcp2_ssize write_stream(
	struct mt_conn *c, ngtcp2_path *path, ngtcp2_pkt_info *pi, uint8_t *buf, size_t cap)
{
	struct mt_quic_stream *s = mt_conn_next_stream(c);
	uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE;
	ngtcp2_ssize n, sent = -1;
	size_t count = 0, len = 0;
	ngtcp2_vec vec[2];
	bool fin = false;

	if (s && c->established) {
		count = next_unsent(s, vec, &len, &fin);
	}
	if (s && len > 0 && window_is_full(c)) {
		s = NULL;
	}
	if (!s || !c->established) {
		return ngtcp2_conn_writev_stream(c->qc, path, pi, buf, cap, &sent,
			NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0, c->ep->now_ns);
	}
	if (fin) {
		flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
	}
	n = ngtcp2_conn_writev_stream(
		c->qc, path, pi, buf, cap, &sent, flags, s->id, vec, count, c->ep->now_ns);
	if (sent >= 0) {
		on_sent(s, (size_t)sent, fin && (size_t)sent == len);
		mt_stream_charge(s, (size_t)sent);
	}
	switch (n) {
	case NGTCP2_ERR_STREAM_DATA_BLOCKED: mt_stream_set_blocked(s); return NGTCP2_ERR_WRITE_MORE;
	case NGTCP2_ERR_STREAM_SHUT_WR: /* ngtcp2 has answered a STOP_SENDING by RESET_STREAM */
		mt_stream_on_stop(s, 0);
		return NGTCP2_ERR_WRITE_MORE;
	case NGTCP2_ERR_STREAM_NOT_FOUND:
		mt_stream_set_sendable(s, false);
		return NGTCP2_ERR_WRITE_MORE;
	default: return n;
	}
}

/* Releases of ngtcp2 that do not tell how many packets were lost show it by what they write: a
 * packet of some size with nothing new in it, and no probe for a larger MTU, is a repetition.
 */
static void count_repetition(struct mt_conn *c, size_t n, uint64_t sent_before)
{
#ifndef NGTCP2_CONN_INFO_V2
	if (c->established && n >= REPETITION_MIN && c->info.bytes_sent == sent_before &&
		n <= ngtcp2_conn_get_path_max_tx_udp_payload_size(c->qc)) {
		mt_count(&c->ep->cfg.counters->packets_lost, 1);
	}
#else
	(void)c;
	(void)n;
	(void)sent_before;
#endif
}

static bool is_turn_of_datagrams(const struct mt_conn *c)
{
	return c->dgram_head && c->established &&
	       (mt_conn_prefers_datagrams(c) || !mt_conn_has_sendable(c) || window_is_full(c));
}

static ngtcp2_ssize write_packet(
	struct mt_conn *c, ngtcp2_path *path, ngtcp2_pkt_info *pi, uint8_t *buf, size_t cap)
{
	uint64_t sent_before = c->info.bytes_sent;
	ngtcp2_ssize n;

	do {
		if (is_turn_of_datagrams(c)) {
			n = write_datagram(c, path, pi, buf, cap);
		} else {
			n = write_stream(c, path, pi, buf, cap);
		}
	} while (n == NGTCP2_ERR_WRITE_MORE);
	if (n > 0) {
		mt_conn_note_sent(c, (size_t)n);
		count_repetition(c, (size_t)n, sent_before);
	}
	return n;
}

static bool is_addr(const struct mt_addr *addr, const ngtcp2_addr *raw)
{
	uint64_t a, b; /* what counts of an IPv4 address lies in its first eight bytes */

	if (addr->len == sizeof(addr->v4) && raw->addrlen == sizeof(addr->v4)) {
		memcpy(&a, &addr->v4, sizeof(a));
		memcpy(&b, raw->addr, sizeof(b));
		return a == b;
	}
	return addr->len == raw->addrlen && memcmp(&addr->sa, raw->addr, raw->addrlen) == 0;
}

/* Makes `path` the one of the packet just written, which nearly always it is already; `*moved` when
 * not. */
static int follow_path(struct mt_path *path, const ngtcp2_path *now, bool *moved)
{
	if (path->socket == now->user_data && is_addr(&path->remote, &now->remote) &&
		is_addr(&path->local, &now->local)) {
		return 0;
	}
	*moved = true;
	path->socket = now->user_data;
	if (mt_addr_from_sockaddr(&path->local, now->local.addr, now->local.addrlen) != 0 ||
		mt_addr_from_sockaddr(&path->remote, now->remote.addr, now->remote.addrlen) != 0) {
		return NGTCP2_ERR_INTERNAL;
	}
	return 0;
}

static bool is_same_path(const struct mt_path *a, const struct mt_path *b)
{
	return a->socket == b->socket && mt_addr_equal(&a->remote, &b->remote) &&
	       mt_addr_equal(&a->local, &b->local);
}

/* Starts a batch with the packet that stands at `packet`, in a room of its own. */
static bool start_over(struct mt_conn *c, struct batch *b, const uint8_t *packet, size_t n)
{
	const struct mt_tx *tx = &c->ep->cfg.tx;

	commit(c, b);
	b->buf = tx->reserve(tx->user);
	if (!b->buf) {
		return false; /* this packet counts as lost */
	}
	memmove(b->buf, packet, n);
	return true;
}

enum outcome {
	MORE,    /* the quantum is used up */
	DONE,    /* nothing more to send now */
	BLOCKED, /* no room for packets */
	FAILED,
};

/* `is_answer`: nothing waits to be sent but an acknowledgement, and a packet with room left holds
 * that and whatever the library has. */
static enum outcome write_batches(struct mt_conn *c, bool is_answer)
{
	size_t quantum = ngtcp2_conn_get_send_quantum(c->qc), total = 0;
	const struct mt_tx *tx = &c->ep->cfg.tx;
	struct batch b = {.buf = tx->reserve(tx->user)};
	size_t usual = mt_conn_path_payload(c), cap = mt_conn_probe_payload(c);
	ngtcp2_conn_info info;
	ngtcp2_path_storage ps;
	ngtcp2_pkt_info pi;
	struct mt_path path = {0};
	bool moved = false;
	ngtcp2_ssize n;

	if (!b.buf) {
		return BLOCKED;
	}
	ngtcp2_conn_get_conn_info(c->qc, &info);
	mt_conn_watch_path(c, info.bytes_in_flight);
	c->tx_max = tx_max(c, &info);
	mt_conn_set_round(c, &info);
	mt_conn_retry_blocked(c);
	ngtcp2_path_storage_zero(&ps);
	while (total == 0 || total + cap <= quantum) {
		n = write_packet(c, &ps.path, &pi, b.buf + b.len, cap);
		if (n < 0) {
			commit(c, &b);
			mt_conn_fail(c, (int)n);
			return FAILED;
		}
		if (n == 0) {
			commit(c, &b);
			return DONE;
		}
		if (follow_path(&path, &ps.path, &moved) != 0) {
			commit(c, &b);
			mt_conn_fail(c, NGTCP2_ERR_INTERNAL);
			return FAILED;
		}
		/* What cannot go with those before it starts the next batch. */
		if (b.len > 0 && ((size_t)n > b.segment || pi.ecn != b.ecn ||
					 (moved && !is_same_path(&path, &b.path)))) {
			if (!start_over(c, &b, b.buf + b.len, (size_t)n)) {
				return BLOCKED;
			}
		}
		if (b.len == 0) {
			b.path = path;
			moved = false;
			b.ecn = pi.ecn;
			b.segment = (size_t)n;
		}
		b.len += (size_t)n;
		b.packets++;
		total += (size_t)n;
		cap = usual;
		if (is_answer && (size_t)n <= ANSWER_BYTES_MAX) {
			c->answer_len = (uint8_t)n;
			c->bare_count = 0;
			commit(c, &b);
			return DONE;
		}
		if ((size_t)n < b.segment || (size_t)n > usual || b.packets == SEGMENTS_MAX ||
			b.len + cap > BATCH_MAX) {
			commit(c, &b);
			b.buf = tx->reserve(tx->user);
			if (!b.buf) {
				return BLOCKED;
			}
		}
	}
	commit(c, &b);
	return MORE;
}

/* Acknowledges a keep-alive, and nothing else: the packet has as much room as the last one took.
 * With more of it the library adds a PING when it has sent nothing else for a round trip, which
 * among keep-alives is to every second one, and brings one more packet each time. That what is
 * acknowledged is forgotten some time (RFC 9000, section 13.2.4) needs it seldom: after BARE_MAX,
 * and when an acknowledgement has grown. Not while there is a qlog: the library begins its record
 * of some packets before it sees that they have no room. Returns the packet's length, 0 when
 * nothing was written, or the library's error.
 */
static ngtcp2_ssize write_bare(struct mt_conn *c)
{
	const struct mt_tx *tx = &c->ep->cfg.tx;
	struct batch b = {.packets = 1};
	ngtcp2_path_storage ps;
	ngtcp2_pkt_info pi;
	bool moved = false;
	ngtcp2_ssize n;

	if (c->answer_len == 0 || c->bare_count == BARE_MAX || c->qlog) {
		return 0;
	}
	b.buf = tx->reserve(tx->user);
	if (!b.buf) {
		return 0;
	}
	ngtcp2_path_storage_zero(&ps);
	n = ngtcp2_conn_writev_stream(c->qc, &ps.path, &pi, b.buf, c->answer_len, NULL,
		NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0, c->ep->now_ns);
	if (n <= 0) {
		return n;
	}
	if (follow_path(&b.path, &ps.path, &moved) != 0) {
		return NGTCP2_ERR_INTERNAL;
	}
	b.len = b.segment = (size_t)n;
	b.ecn = pi.ecn;
	commit(c, &b);
	c->answer_len = (uint8_t)n;
	c->bare_count++;
	return n;
}

static uint64_t smoothed_rtt(const struct mt_conn *c)
{
	ngtcp2_conn_info info;

	ngtcp2_conn_get_conn_info(c->qc, &info);
	return info.smoothed_rtt;
}

static uint64_t round_up(uint64_t at_ns, uint64_t step_ns)
{
	return (at_ns + step_ns - 1) / step_ns * step_ns;
}

/* With nothing to send, what is due next is an acknowledgement, a keep-alive or a loss timer: none
 * needs more than a millisecond's precision, and in the same millisecond an answer may take the
 * acknowledgement along, and other connections' packets the same system call. A server holds many
 * connections without a stream but for a quiet one, whose answers to keep-alives are mostly all
 * that it sends: those gather for longer, as long as no acknowledgement is late by that (RFC 9000,
 * section 13.2.1).
 */
static uint64_t next_expiry(struct mt_conn *c)
{
	bool idle = c->established && !mt_conn_has_sendable(c) && !c->dgram_head;
	bool paced = !idle || c->unpaced_bytes >= UNPACED_BYTES;
	uint64_t at_ns;

	/* ngtcp2 holds the next packet back until some moment, and what passes between that and the
	 * next call lets it hurry later. Whoever has nothing to send would pile up haste for whole
	 * transfers with each acknowledgement: it asks for that moment seldom, and then wakes up
	 * for it.
	 */
	if (paced) {
		ngtcp2_conn_update_pkt_tx_time(c->qc, c->ep->now_ns);
		c->unpaced_bytes = 0;
	}
	at_ns = ngtcp2_conn_get_expiry(c->qc);
	if (!idle || at_ns > UINT64_MAX - GATHER_NS) {
		return at_ns;
	}
	if (c->server && !paced && c->stream_count == c->quiet_count &&
		(at_ns > c->ep->now_ns + ACK_DELAY_NS ||
			smoothed_rtt(c) / ACK_DELAY_SHARE + GATHER_NS <= ACK_DELAY_NS)) {
		return round_up(at_ns, GATHER_NS);
	}
	return round_up(at_ns, COARSE_NS);
}

void mt_conn_rearm(struct mt_conn *c)
{
	if (c->ended) {
		return;
	}
	if (mt_expiry_set(&c->ep->expiries, &c->expiry, next_expiry(c)) != 0) {
		/* No room in the queue: without a timer the connection would hang, so it goes. */
		mt_conn_fail(c, NGTCP2_ERR_NOMEM);
	}
}

bool mt_conn_write(struct mt_conn *c)
{
	bool is_answer = c->is_answer && !mt_conn_has_sendable(c) && !c->dgram_head;
	bool is_brief = is_answer && c->is_brief;
	enum outcome outcome;
	ngtcp2_ssize n;

	c->is_answer = c->is_brief = false;
	c->is_resting = false;
	if (c->close_pending) {
		mt_conn_write_close(c);
		return true;
	}
	n = is_brief ? write_bare(c) : 0;
	if (n < 0) {
		mt_conn_fail(c, (int)n);
		return true;
	}
	outcome = write_batches(c, is_answer && n == 0);
	if (outcome == FAILED) {
		return true;
	}
	mt_conn_rearm(c);
	if (outcome != DONE) {
		mt_conn_mark_dirty(c);
	}
	return outcome != BLOCKED;
}
