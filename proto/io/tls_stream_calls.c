#include "proto/io/tls_impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void mt_tls_stream_set_user(struct mt_stream *s, void *user)
{
	mt_tls_stream_of(s)->events.user = user;
}

const struct mt_tls_socket *mt_tls_stream_socket(const struct mt_stream *s)
{
	return s->kind == &mt_tls_stream_kind ? &mt_tls_stream_of_const(s)->sock : NULL;
}

static bool is_detached(const struct mt_stream *base)
{
	return mt_tls_stream_of_const(base)->dead;
}

static size_t readable(const struct mt_stream *base)
{
	return mt_tls_stream_of_const(base)->rx_bytes;
}

static size_t peek(const struct mt_stream *base, struct iovec *iov, size_t max)
{
	size_t n = 0;

	for (struct mt_chunk *chunk = mt_tls_stream_of_const(base)->rx_head;
		chunk != NULL && n < max; chunk = chunk->next) {
		if (chunk->len > chunk->off) {
			iov[n].iov_base = chunk->data + chunk->off;
			iov[n].iov_len = chunk->len - chunk->off;
			n++;
		}
	}
	return n;
}

static void consume(struct mt_stream *base, size_t len)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);
	struct mt_chunk *chunk;
	size_t n;

	assert(len <= s->rx_bytes);
	s->rx_bytes -= len;
	while ((chunk = s->rx_head) != NULL) {
		n = chunk->len - chunk->off;
		if (len < n) {
			chunk->off += (uint32_t)len;
			break;
		}
		len -= n;
		s->rx_head = chunk->next;
		if (s->rx_head == NULL) {
			s->rx_tail = NULL;
		}
		mt_chunk_free(s->loop->mem, chunk);
	}
	if (s->can_read && !s->dead && s->open && s->rx_bytes <= MT_TLS_RX_MAX / 2) {
		mt_poller_defer(s->loop->poller, &s->item, 0);
	}
}

static bool fin_received(const struct mt_stream *base)
{
	return mt_tls_stream_of_const(base)->sock.fin_received &&
	       !mt_tls_stream_of_const(base)->rx_over;
}

static void stop(struct mt_stream *base, uint64_t app_code)
{
	(void)app_code; /* TLS has no word for it: what comes is thrown away */
	mt_tls_stream_drop_rx(mt_tls_stream_of(base));
}

static size_t send_space(const struct mt_stream *base)
{
	const struct mt_tls_stream *s = mt_tls_stream_of_const(base);

	if (s->tx_fin || s->dead || s->tx_bytes >= MT_TLS_TX_MAX) {
		return 0;
	}
	return MT_TLS_TX_MAX - s->tx_bytes;
}

static size_t reserve(struct mt_stream *base, struct iovec *iov, size_t max)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);
	size_t space = send_space(base), n = 0, len;
	struct mt_chunk **link = &s->tx_spare, *tail = s->tx_tail;

	if (tail != NULL && tail->len < MT_CHUNK_BYTES && max > 0 && space > 0) {
		len = MT_CHUNK_BYTES - tail->len;
		len = len < space ? len : space;
		iov[n++] = (struct iovec){.iov_base = tail->data + tail->len, .iov_len = len};
		space -= len;
	}
	for (; n < max && space > 0; n++) {
		if (*link == NULL) {
			*link = mt_chunk_new(s->loop->mem);
			if (*link == NULL) {
				break;
			}
		}
		len = MT_CHUNK_BYTES < space ? MT_CHUNK_BYTES : space;
		iov[n] = (struct iovec){.iov_base = (*link)->data, .iov_len = len};
		space -= len;
		link = &(*link)->next;
	}
	return n;
}

static void commit(struct mt_stream *base, size_t len)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);
	struct mt_chunk *chunk;
	size_t left = len, n;

	if (left > 0 && s->tx_tail != NULL && s->tx_tail->len < MT_CHUNK_BYTES) {
		n = MT_CHUNK_BYTES - s->tx_tail->len;
		n = left < n ? left : n;
		s->tx_tail->len += (uint32_t)n;
		left -= n;
	}
	while (left > 0) {
		chunk = s->tx_spare;
		assert(chunk != NULL);
		s->tx_spare = chunk->next;
		chunk->next = NULL;
		if (s->tx_tail != NULL) {
			s->tx_tail->next = chunk;
		} else {
			s->tx_head = chunk;
		}
		s->tx_tail = chunk;
		n = left < MT_CHUNK_BYTES ? left : MT_CHUNK_BYTES;
		chunk->len = (uint32_t)n;
		left -= n;
	}
	mt_tls_stream_drop_chunks(s, &s->tx_spare);
	s->tx_bytes += len;
	mt_tls_stream_flush(s);
	s->tx_was_full = s->tx_was_full || s->tx_bytes >= MT_TLS_TX_MAX;
}

static int send_copy(struct mt_stream *base, const void *data, size_t len)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);
	const uint8_t *from = data;
	struct iovec iov[MT_TLS_TX_MAX / MT_CHUNK_BYTES + 2];
	size_t pieces, room = 0, done = 0, n;

	if (s->tx_fin || s->dead) {
		return MT_E_CLOSED;
	}
	if (len > send_space(base)) {
		s->tx_was_full = true;
		return MT_E_AGAIN;
	}
	pieces = reserve(base, iov, sizeof(iov) / sizeof(iov[0]));
	for (size_t i = 0; i < pieces; i++) {
		room += iov[i].iov_len;
	}
	if (room < len) {
		commit(base, 0);
		return -ENOMEM;
	}
	for (size_t i = 0; i < pieces && done < len; i++) {
		n = len - done < iov[i].iov_len ? len - done : iov[i].iov_len;
		memcpy(iov[i].iov_base, from + done, n);
		done += n;
	}
	commit(base, len);
	return 0;
}

static void send_fin(struct mt_stream *base)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);

	if (s->tx_fin || s->dead) {
		return;
	}
	s->tx_fin = true;
	mt_tls_stream_flush(s);
	if (!s->dead && s->sock.fin_sent) {
		mt_poller_defer(s->loop->poller, &s->item, 0); /* perhaps the end of both */
	}
}

static void reset(struct mt_stream *base, uint64_t app_code)
{
	(void)app_code; /* an RST has none */
	mt_tls_stream_close(mt_tls_stream_of(base), true);
	mt_tls_stream_drop_rx(mt_tls_stream_of(base));
}

static uint64_t acked_bytes(const struct mt_stream *base)
{
	return mt_tls_stream_of_const(base)->tx_sent;
}

static void release(struct mt_stream *base, uint64_t app_code)
{
	struct mt_tls_stream *s = mt_tls_stream_of(base);

	if (s->released) {
		return;
	}
	s->released = true;
	s->told = 0;
	base->handler = NULL;
	mt_tls_stream_drop_rx(s);
	/* Behind our FIN nothing but an RST can say that the rest is not wanted. */
	if (!s->tx_fin || !s->open || (app_code != 0 && !s->sock.fin_received)) {
		reset(base, app_code);
	} else if (!s->dead && s->sock.fin_received && s->sock.fin_sent) {
		mt_tls_stream_close(s, false);
	} else if (!s->dead) {
		mt_tls_stream_set_due(s, &s->loop->lingering,
			s->tx_bytes > 0 ? MT_TLS_DELIVER_MS : MT_TLS_LINGER_MS);
	}
	mt_poller_defer(s->loop->poller, &s->item, 0);
}

const struct mt_stream_kind mt_tls_stream_kind = {
	.is_detached = is_detached,
	.readable = readable,
	.peek = peek,
	.consume = consume,
	.fin_received = fin_received,
	.stop = stop,
	.send_space = send_space,
	.reserve = reserve,
	.commit = commit,
	.send = send_copy,
	.send_fin = send_fin,
	.reset = reset,
	.acked_bytes = acked_bytes,
	.release = release,
};
