#include "tests/unit/fake_stream.h"

#include "proto/quic/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void mt_stream_set_handler(struct mt_stream *s, const struct mt_stream_handler *handler, void *user)
{
	s->handler = handler;
	s->user = user;
}

bool mt_stream_is_detached(const struct mt_stream *s)
{
	return s->detached;
}

size_t mt_stream_readable(const struct mt_stream *s)
{
	return s->rx_to - s->rx_from;
}

size_t mt_stream_peek(const struct mt_stream *s, struct iovec *iov, size_t max)
{
	size_t n = 0;

	for (size_t at = s->rx_from; at < s->rx_to && n < max; n++) {
		size_t len = s->rx_to - at < MT_CHUNK_BYTES ? s->rx_to - at : MT_CHUNK_BYTES;

		iov[n] = (struct iovec){.iov_base = s->rx + at, .iov_len = len};
		at += len;
	}
	return n;
}

void mt_stream_consume(struct mt_stream *s, size_t len)
{
	assert_true(len <= mt_stream_readable(s));
	s->rx_from += len;
}

bool mt_stream_fin_received(const struct mt_stream *s)
{
	return s->rx_fin && !s->rx_over;
}

size_t mt_stream_send_space(const struct mt_stream *s)
{
	return s->detached || s->tx_over || s->fin_sent ? 0 : s->tx_limit - s->tx_len;
}

size_t mt_stream_reserve(struct mt_stream *s, struct iovec *iov, size_t max)
{
	size_t space = mt_stream_send_space(s);
	size_t n = 0;

	for (size_t at = s->tx_len; space > 0 && n < max && !s->no_memory; n++) {
		size_t len = space < MT_CHUNK_BYTES ? space : MT_CHUNK_BYTES;

		iov[n] = (struct iovec){.iov_base = s->tx + at, .iov_len = len};
		at += len;
		space -= len;
	}
	return n;
}

void mt_stream_commit(struct mt_stream *s, size_t len)
{
	s->tx_len += len;
	assert_true(s->tx_len <= s->tx_limit);
}

void mt_stream_send_fin(struct mt_stream *s)
{
	s->fin_sent = s->fin_sent || (!s->detached && !s->tx_over);
}

void mt_stream_release(struct mt_stream *s, uint64_t app_code)
{
	assert_false(s->released);
	s->released = true;
	s->release_code = app_code;
	s->handler = NULL;
}
