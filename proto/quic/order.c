/* In which order a connection's streams send. In a round each stream with something to send may
 * send round_max bytes. Whoever comes with something new goes first, with the first of these bytes:
 * an interactive stream does not wait for the bulk of the others, and, as that counts, it cannot
 * live on being new. Datagrams are first as long as they take no more than streams do.
 */
#include "proto/quic/impl.h"

/* What packets, and the other side's writes to a socket, make worthwhile: less on a path that takes
 * longer for it, where all wait for each other. */
#define ROUND_MIN 16384u
#define ROUND_MAX 65536u
#define ROUND_NS  4000000u
/* Where streams take turns to fill, a round lets them send what they took. */
#define SLICE_NS 400000u
/* Three packets: a request, a key stroke's echo, the beginning of a page. */
#define FIRST_BYTES 4096u
/* Above a round: datagrams' share is exact as long as none is larger. */
#define LEAD_ABOVE 4096u

void mt_conn_init_order(struct mt_conn *c)
{
	TAILQ_INIT(&c->fresh);
	TAILQ_INIT(&c->current);
	TAILQ_INIT(&c->later);
	TAILQ_INIT(&c->blocked);
	mt_conn_init_room(c);
	c->round = 1; /* which no stream has been in */
	c->round_max = ROUND_MIN;
}

void mt_conn_set_round(struct mt_conn *c, const ngtcp2_conn_info *info)
{
	uint64_t bytes = info->smoothed_rtt > 0 ? info->cwnd * ROUND_NS / info->smoothed_rtt : 0;

	c->round_max = bytes < ROUND_MIN   ? ROUND_MIN
		       : bytes < ROUND_MAX ? (uint32_t)bytes
					   : ROUND_MAX;
	mt_conn_set_slice(c, bytes / (ROUND_NS / SLICE_NS));
	if (c->slice > c->round_max) {
		c->round_max = c->slice;
	}
}

bool mt_conn_has_sendable(const struct mt_conn *c)
{
	return !TAILQ_EMPTY(&c->fresh) || !TAILQ_EMPTY(&c->current) || !TAILQ_EMPTY(&c->later);
}

/* What it sent beyond its share of the last round counts in the next. */
static void begin_round(struct mt_quic_stream *s)
{
	uint32_t max = s->conn->round_max;

	if (s->round != s->conn->round) {
		s->round = s->conn->round;
		s->round_bytes = s->round_bytes > max ? s->round_bytes - max : 0;
	}
}

static void unlink_queued(struct mt_quic_stream *s)
{
	if (s->queue) {
		TAILQ_REMOVE(s->queue, s, queued);
		s->queue = NULL;
	}
}

static void leave(struct mt_quic_stream *s)
{
	unlink_queued(s);
	mt_stream_count_unsent(s);
}

static void enter(struct mt_quic_stream *s, struct mt_stream_list *queue)
{
	unlink_queued(s);
	s->queue = queue;
	TAILQ_INSERT_TAIL(queue, s, queued);
	mt_stream_count_unsent(s);
}

/* Who took a whole turn's bytes comes with nothing new. */
static bool is_fresh(const struct mt_quic_stream *s)
{
	return s->round_bytes < FIRST_BYTES && !(s->is_hungry && s->conn->slice);
}

static void enter_round(struct mt_quic_stream *s)
{
	struct mt_conn *c = s->conn;

	begin_round(s);
	enter(s, is_fresh(s) ? &c->fresh : s->round_bytes < c->round_max ? &c->current : &c->later);
}

struct mt_quic_stream *mt_conn_next_stream(struct mt_conn *c)
{
	struct mt_quic_stream *s = TAILQ_FIRST(&c->fresh);

	if (s) {
		return s;
	}
	if (TAILQ_EMPTY(&c->current) && !TAILQ_EMPTY(&c->later)) {
		TAILQ_FOREACH(s, &c->later, queued)
		{
			s->queue = &c->current;
		}
		TAILQ_CONCAT(&c->current, &c->later, queued);
		c->round++;
	}
	s = TAILQ_FIRST(&c->current);
	if (s) {
		begin_round(s);
	}
	return s;
}

void mt_stream_charge(struct mt_quic_stream *s, size_t len)
{
	struct mt_conn *c = s->conn;

	if (len > 0 && s->is_retried) {
		s->is_retried = false;
		mt_stream_count_unsent(s);
	}
	begin_round(s);
	s->round_bytes += (uint32_t)len;
	c->datagram_lead -= len < c->datagram_lead ? (uint32_t)len : c->datagram_lead;
	if (s->queue == &c->fresh && s->round_bytes >= FIRST_BYTES) {
		enter(s, &c->current);
	}
	if (s->queue == &c->current && s->round_bytes >= c->round_max) {
		enter(s, &c->later);
	}
}

void mt_stream_set_sendable(struct mt_quic_stream *s, bool sendable)
{
	if (!s->conn || (sendable && s->queue && s->queue != &s->conn->blocked)) {
		return;
	}
	if (sendable) {
		s->is_retried = false;
		enter_round(s);
		mt_conn_mark_dirty(s->conn);
	} else {
		leave(s);
	}
}

void mt_stream_put_first(struct mt_quic_stream *s)
{
	unlink_queued(s);
	s->queue = &s->conn->fresh;
	TAILQ_INSERT_HEAD(s->queue, s, queued);
	mt_conn_mark_dirty(s->conn);
}

void mt_stream_set_blocked(struct mt_quic_stream *s)
{
	enter(s, &s->conn->blocked);
}

/* ngtcp2 does not tell that a STOP_SENDING came, only a write to the stream shows it. A stream
 * without credit is not written to, and would wait for ever: one of them tries again in each turn.
 */
void mt_conn_retry_blocked(struct mt_conn *c)
{
	struct mt_quic_stream *s = TAILQ_FIRST(&c->blocked);

	if (s) {
		s->is_retried = true;
		enter_round(s); /* no reason to be written again for: not marked dirty */
	}
}

/* Streams do not wait longer where their own turns are long. */
static uint32_t datagram_round(const struct mt_conn *c)
{
	return c->round_max < ROUND_MAX ? c->round_max : ROUND_MAX;
}

bool mt_conn_prefers_datagrams(const struct mt_conn *c)
{
	return c->datagram_lead < datagram_round(c);
}

void mt_conn_charge_datagram(struct mt_conn *c, size_t len)
{
	const uint32_t max = datagram_round(c) + LEAD_ABOVE;

	c->datagram_lead += (uint32_t)len;
	if (c->datagram_lead > max) {
		c->datagram_lead = max; /* they do not pay for what streams did not want */
	}
}
