#include "proto/quic/impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A reserve of the whole space at once. */
#define SEND_PIECES (MT_STREAM_UNSENT_MAX / MT_CHUNK_BYTES + 2)

static const struct mt_stream_kind kind;

struct mt_quic_stream *mt_stream_new(struct mt_conn *c, int64_t id, bool by_peer)
{
	struct mt_quic_stream *s = mt_mem_calloc(c->ep->cfg.mem, sizeof(*s));

	if (!s) {
		return NULL;
	}
	s->base.kind = &kind;
	s->ep = c->ep;
	s->conn = c;
	s->id = id;
	s->by_peer = by_peer;
	TAILQ_INSERT_TAIL(&c->streams, s, of_conn);
	c->stream_count++;
	c->ep->stream_count++;
	mt_count(&c->ep->cfg.counters->streams_opened, 1);
	return s;
}

static struct mt_chunk *new_chunk(struct mt_quic_stream *s)
{
	struct mt_chunk *chunk = mt_chunk_new(s->ep->cfg.mem);

	if (chunk && s->conn) {
		s->conn->share.bytes += sizeof(*chunk);
	}
	return chunk;
}

static void free_chunk(struct mt_quic_stream *s, struct mt_chunk *chunk)
{
	if (s->conn) {
		s->conn->share.bytes -= sizeof(*chunk);
	}
	mt_chunk_free(s->ep->cfg.mem, chunk);
}

static void free_chunks(struct mt_quic_stream *s, struct mt_chunk *chunk)
{
	struct mt_chunk *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		free_chunk(s, chunk);
	}
}

static void drop_tx(struct mt_quic_stream *s)
{
	free_chunks(s, s->tx_head);
	free_chunks(s, s->tx_spare);
	s->tx_head = s->tx_tail = s->tx_spare = s->tx_cur = NULL;
}

/* Credit for bytes that have left our hands: the stream's own only while it can still receive. */
static void return_credit(struct mt_quic_stream *s, size_t len)
{
	struct mt_conn *c = s->conn;

	if (!c || !c->qc || len == 0) {
		return;
	}
	if (!s->closed && !s->rx_fin && !s->rx_over) {
		/* Fails only without memory, and then for good: the write that follows reports it.
		 */
		(void)ngtcp2_conn_extend_max_stream_offset(c->qc, s->id, len);
	}
	ngtcp2_conn_extend_max_offset(c->qc, len);
	mt_conn_mark_credit(c, len);
}

static void drop_rx(struct mt_quic_stream *s)
{
	size_t len = s->rx_bytes;

	if (s->conn) {
		s->conn->rx_queued -= len;
	}
	free_chunks(s, s->rx_head);
	s->rx_head = s->rx_tail = NULL;
	s->rx_bytes = 0;
	return_credit(s, len);
}

void mt_stream_free(struct mt_quic_stream *s)
{
	struct mt_conn *c = s->conn;

	if (s->is_ready) {
		TAILQ_REMOVE(&s->ep->ready_streams, s, ready);
	}
	mt_stream_stop_waiting(s);
	drop_rx(s);
	drop_tx(s);
	if (c) {
		mt_stream_set_sendable(s, false);
		mt_conn_remove_given_up(s);
		TAILQ_REMOVE(&c->streams, s, of_conn);
		if (c->qc) {
			mt_conn_return_stream(s);
		}
	}
	mt_mem_release(s->ep->cfg.mem, s);
}

/* Frees later, from dispatch: a handler of this very stream may be running. */
static void bury(struct mt_quic_stream *s)
{
	if (s->buried) {
		return;
	}
	s->buried = true;
	if (s->is_ready) {
		TAILQ_REMOVE(&s->ep->ready_streams, s, ready);
		s->is_ready = false;
	}
	TAILQ_INSERT_TAIL(&s->ep->buried, s, ready);
}

void mt_stream_raise(struct mt_quic_stream *s, unsigned events)
{
	if (s->released) {
		return;
	}
	s->events |= events;
	if (!s->is_ready) {
		s->is_ready = true;
		TAILQ_INSERT_TAIL(&s->ep->ready_streams, s, ready);
	}
}

/* What ngtcp2 tells. */

int mt_stream_on_data(struct mt_quic_stream *s, const uint8_t *data, size_t len, bool fin)
{
	struct mt_chunk *chunk;
	size_t room, n;

	if (s->released || s->rx_over) {
		s->rx_fin = s->rx_fin || fin;
		return_credit(s, len);
		return 0;
	}
	if (s->conn) {
		s->conn->info.bytes_received += len;
		s->conn->rx_queued += len;
	}
	while (len > 0) {
		chunk = s->rx_tail;
		if (!chunk || chunk->len == MT_CHUNK_BYTES) {
			chunk = new_chunk(s);
			if (!chunk) {
				return -ENOMEM;
			}
			if (s->rx_tail) {
				s->rx_tail->next = chunk;
			} else {
				s->rx_head = chunk;
			}
			s->rx_tail = chunk;
		}
		room = MT_CHUNK_BYTES - chunk->len;
		n = len < room ? len : room;
		memcpy(chunk->data + chunk->len, data, n);
		chunk->len += (uint32_t)n;
		s->rx_bytes += n;
		data += n;
		len -= n;
	}
	s->rx_fin = s->rx_fin || fin;
	mt_stream_raise(s, MT_EV_READABLE);
	return 0;
}

void mt_stream_on_acked(struct mt_quic_stream *s, size_t len)
{
	struct mt_chunk *chunk;
	size_t n;

	s->tx_base += len;
	if (s->tx_over) {
		return; /* dropped and discounted already */
	}
	s->conn->tx_unacked -= len;
	while (len > 0 && (chunk = s->tx_head)) {
		n = chunk->len - chunk->off;
		if (len < n) {
			chunk->off += (uint32_t)len;
			return;
		}
		len -= n;
		chunk->off = chunk->len;
		if (chunk == s->tx_cur) { /* all of it was sent: what is unsent starts behind it */
			s->tx_cur = chunk->next;
			s->tx_cur_off = 0;
		}
		s->tx_head = chunk->next;
		if (!s->tx_head) {
			s->tx_tail = NULL;
		}
		free_chunk(s, chunk);
	}
}

void mt_stream_on_reset(struct mt_quic_stream *s, uint64_t code)
{
	s->rx_over = true;
	drop_rx(s);
	s->reset_code = code;
	mt_stream_raise(s, MT_EV_RESET);
}

/* Our direction is reset: ngtcp2 sends none of it again, acknowledged or not. */
static void end_tx(struct mt_quic_stream *s)
{
	mt_stream_stop_waiting(s);
	mt_conn_forget_large(s);
	s->tx_over = true;
	s->conn->tx_unacked -= s->tx_sent - s->tx_base;
	drop_tx(s);
	mt_stream_set_sendable(s, false);
}

void mt_stream_on_stop(struct mt_quic_stream *s, uint64_t code)
{
	end_tx(s);
	s->stop_code = code;
	mt_stream_raise(s, MT_EV_STOP);
}

static void discount(struct mt_conn *c, struct mt_quic_stream *s)
{
	c->stream_count--;
	c->ep->stream_count -= !s->quiet;
	c->quiet_count -= s->quiet;
	mt_count(&s->ep->cfg.counters->streams_closed, 1);
}

void mt_stream_on_close(struct mt_quic_stream *s, uint64_t code)
{
	bool all_sent = s->tx_fin_sent && s->tx_base == s->tx_end;

	s->closed = true;
	mt_stream_set_sendable(s, false);
	if (!s->tx_over && !all_sent) {
		/* Only a STOP_SENDING ends our direction before its time. */
		mt_stream_on_stop(s, code);
	}
	drop_tx(s);
	discount(s->conn, s);
	if (s->released) {
		bury(s);
	} else {
		mt_stream_raise(s, MT_EV_END);
	}
}

void mt_stream_detach(struct mt_quic_stream *s, int err)
{
	struct mt_conn *c = s->conn;

	mt_stream_set_sendable(s, false);
	mt_stream_stop_waiting(s);
	mt_conn_remove_given_up(s);
	mt_conn_forget_large(s);
	TAILQ_REMOVE(&c->streams, s, of_conn);
	c->rx_queued -= s->rx_bytes;
	s->conn = NULL;
	drop_tx(s);
	if (!s->closed) {
		discount(c, s);
		s->closed = true;
		s->tx_over = true;
		s->end_err = err;
		mt_stream_raise(s, MT_EV_END);
	}
	if (s->released || (s->events & MT_EV_OPEN)) {
		s->released = true; /* nobody was told of it */
		bury(s);
	}
}

/* What the user calls. */

static struct mt_conn *stream_conn(struct mt_stream *base)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	return s->conn;
}

static int64_t stream_id(const struct mt_stream *base)
{
	return ((const struct mt_quic_stream *)base)->id;
}

static void stream_set_quiet(struct mt_stream *base)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;

	if (s->conn && !s->closed && !s->quiet) {
		s->quiet = true;
		s->conn->quiet_count++;
		s->ep->stream_count--;
	}
}

static bool stream_is_detached(const struct mt_stream *base)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;
	return !s->conn;
}

static size_t stream_readable(const struct mt_stream *base)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;
	return s->rx_bytes;
}

static size_t stream_peek(const struct mt_stream *base, struct iovec *iov, size_t max)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;
	size_t n = 0;

	for (struct mt_chunk *chunk = s->rx_head; chunk && n < max; chunk = chunk->next) {
		if (chunk->len > chunk->off) {
			iov[n].iov_base = chunk->data + chunk->off;
			iov[n].iov_len = chunk->len - chunk->off;
			n++;
		}
	}
	return n;
}

static void stream_consume(struct mt_stream *base, size_t len)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	size_t left = len, n;
	struct mt_chunk *chunk;

	assert(len <= s->rx_bytes);
	s->rx_bytes -= len;
	if (s->conn) {
		s->conn->rx_queued -= len;
	}
	while ((chunk = s->rx_head)) {
		n = chunk->len - chunk->off;
		if (left < n) {
			chunk->off += (uint32_t)left;
			break;
		}
		left -= n;
		s->rx_head = chunk->next;
		if (!s->rx_head) {
			s->rx_tail = NULL;
		}
		free_chunk(s, chunk);
	}
	return_credit(s, len);
}

static bool stream_fin_received(const struct mt_stream *base)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;
	return s->rx_fin && !s->rx_over;
}

static void stream_stop(struct mt_stream *base, uint64_t app_code)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	if (s->rx_over) {
		return;
	}
	s->rx_over = true;
	drop_rx(s);
	if (s->conn && s->conn->qc && !s->closed && !s->rx_fin) {
		/* Fails only without memory; the next write reports that. */
		(void)ngtcp2_conn_shutdown_stream_read(s->conn->qc, 0, s->id, app_code);
		mt_conn_mark_dirty(s->conn);
	}
}

static size_t send_space(const struct mt_quic_stream *s)
{
	size_t unsent = (size_t)(s->tx_end - s->tx_sent);

	if (s->tx_fin || s->tx_over || s->closed || !s->conn) {
		return 0;
	}
	return unsent < MT_STREAM_UNSENT_MAX ? MT_STREAM_UNSENT_MAX - unsent : 0;
}

static size_t stream_send_space(const struct mt_stream *base)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;

	return s->is_starved || s->waits_for_room ? 0 : send_space(s);
}

static size_t reserve(struct mt_quic_stream *s, struct iovec *iov, size_t max, size_t space)
{
	struct mt_chunk **link = &s->tx_spare, *tail = s->tx_tail;
	size_t n = 0, len, given = space;

	if (tail && tail->len < MT_CHUNK_BYTES && max > 0 && space > 0) {
		len = MT_CHUNK_BYTES - tail->len;
		len = len < space ? len : space;
		iov[n].iov_base = tail->data + tail->len;
		iov[n].iov_len = len;
		space -= len;
		n++;
	}
	for (; n < max && space > 0; n++) {
		if (!*link) {
			*link = new_chunk(s);
			if (!*link) {
				break;
			}
		}
		len = MT_CHUNK_BYTES < space ? MT_CHUNK_BYTES : space;
		iov[n].iov_base = (*link)->data;
		iov[n].iov_len = len;
		space -= len;
		link = &(*link)->next;
	}
	s->reserved = given - space;
	return n;
}

static size_t stream_reserve(struct mt_stream *base, struct iovec *iov, size_t max)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;

	bool may = send_space(s) > 0 && !mt_endpoint_starves(s->ep, s);

	return may ? reserve(s, iov, max, mt_stream_take_room(s, send_space(s))) : 0;
}

static void fill(struct mt_quic_stream *s, struct mt_chunk *chunk, size_t n)
{
	if (!s->tx_cur) {
		s->tx_cur = chunk;
		s->tx_cur_off = chunk->len;
	}
	chunk->len += (uint32_t)n;
}

static void stream_commit(struct mt_stream *base, size_t len)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	size_t left = len, n;
	struct mt_chunk *chunk;

	if (left > 0 && s->tx_tail && s->tx_tail->len < MT_CHUNK_BYTES) {
		n = MT_CHUNK_BYTES - s->tx_tail->len;
		n = left < n ? left : n;
		fill(s, s->tx_tail, n);
		left -= n;
	}
	while (left > 0) {
		chunk = s->tx_spare;
		assert(chunk);
		s->tx_spare = chunk->next;
		chunk->next = NULL;
		if (s->tx_tail) {
			s->tx_tail->next = chunk;
		} else {
			s->tx_head = chunk;
		}
		s->tx_tail = chunk;
		n = left < MT_CHUNK_BYTES ? left : MT_CHUNK_BYTES;
		fill(s, chunk, n);
		left -= n;
	}
	free_chunks(s, s->tx_spare);
	s->tx_spare = NULL;
	s->tx_end += len;
	s->tx_was_full = s->tx_was_full || send_space(s) == 0;
	mt_stream_fill_room(s, len);
}

static int stream_send(struct mt_stream *base, const void *data, size_t len)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	const uint8_t *from = data;
	struct iovec iov[SEND_PIECES];
	size_t pieces, room = 0, done = 0, n;

	if (s->tx_fin || s->tx_over || s->closed || !s->conn) {
		return MT_E_CLOSED;
	}
	if (len > send_space(s)) {
		s->tx_was_full = true;
		return MT_E_AGAIN;
	}
	pieces = reserve(
		s, iov, SEND_PIECES, send_space(s)); /* messages of ours do not wait for memory */
	for (size_t i = 0; i < pieces; i++) {
		room += iov[i].iov_len;
	}
	if (room < len) {
		stream_commit(&s->base, 0);
		return -ENOMEM;
	}
	for (size_t i = 0; i < pieces && done < len; i++) {
		n = len - done < iov[i].iov_len ? len - done : iov[i].iov_len;
		memcpy(iov[i].iov_base, from + done, n);
		done += n;
	}
	stream_commit(&s->base, len);
	return 0;
}

static void stream_send_fin(struct mt_stream *base)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	if (s->tx_fin || s->tx_over || s->closed || !s->conn) {
		return;
	}
	s->tx_fin = true;
	if (s->tx_sent == s->tx_end) {
		mt_stream_put_first(s);
	} else {
		mt_stream_set_sendable(s, true);
	}
}

static void stream_reset(struct mt_stream *base, uint64_t app_code)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	if (s->tx_over || s->closed || !s->conn) {
		return;
	}
	if (s->conn->qc) {
		/* Fails only without memory; the next write reports that. */
		(void)ngtcp2_conn_shutdown_stream_write(s->conn->qc, 0, s->id, app_code);
		mt_conn_mark_dirty(s->conn);
	}
	end_tx(s);
}

static uint64_t stream_acked_bytes(const struct mt_stream *base)
{
	const struct mt_quic_stream *s = (const struct mt_quic_stream *)base;
	return s->tx_base;
}

static void stream_release(struct mt_stream *base, uint64_t app_code)
{
	struct mt_quic_stream *s = (struct mt_quic_stream *)base;
	if (s->released) {
		return;
	}
	if (!s->rx_fin) {
		stream_stop(&s->base, app_code);
	}
	drop_rx(s);
	if (!s->tx_fin) {
		stream_reset(&s->base, app_code);
	}
	mt_stream_stop_waiting(s);
	s->released = true;
	base->handler = NULL;
	s->events = 0;
	if (s->closed || !s->conn) {
		bury(s);
	} else if (s->rx_over) {
		mt_conn_add_given_up(s);
	}
}

static const struct mt_stream_kind kind = {
	.conn = stream_conn,
	.id = stream_id,
	.set_quiet = stream_set_quiet,
	.is_detached = stream_is_detached,
	.readable = stream_readable,
	.peek = stream_peek,
	.consume = stream_consume,
	.fin_received = stream_fin_received,
	.stop = stream_stop,
	.send_space = stream_send_space,
	.reserve = stream_reserve,
	.commit = stream_commit,
	.send = stream_send,
	.send_fin = stream_send_fin,
	.reset = stream_reset,
	.acked_bytes = stream_acked_bytes,
	.release = stream_release,
};
