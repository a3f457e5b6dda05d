#include "proto/quic/stream_kind.h"

void mt_stream_set_handler(struct mt_stream *s, const struct mt_stream_handler *handler, void *user)
{
	s->handler = handler;
	s->user = user;
}

struct mt_conn *mt_stream_conn(struct mt_stream *s)
{
	return s->kind->conn != NULL ? s->kind->conn(s) : NULL;
}

int64_t mt_stream_id(const struct mt_stream *s)
{
	return s->kind->id != NULL ? s->kind->id(s) : -1;
}

void mt_stream_set_quiet(struct mt_stream *s)
{
	if (s->kind->set_quiet != NULL) {
		s->kind->set_quiet(s);
	}
}

bool mt_stream_is_detached(const struct mt_stream *s)
{
	return s->kind->is_detached(s);
}

size_t mt_stream_readable(const struct mt_stream *s)
{
	return s->kind->readable(s);
}

size_t mt_stream_peek(const struct mt_stream *s, struct iovec *iov, size_t max)
{
	return s->kind->peek(s, iov, max);
}

void mt_stream_consume(struct mt_stream *s, size_t len)
{
	s->kind->consume(s, len);
}

bool mt_stream_fin_received(const struct mt_stream *s)
{
	return s->kind->fin_received(s);
}

void mt_stream_stop(struct mt_stream *s, uint64_t app_code)
{
	s->kind->stop(s, app_code);
}

size_t mt_stream_send_space(const struct mt_stream *s)
{
	return s->kind->send_space(s);
}

size_t mt_stream_reserve(struct mt_stream *s, struct iovec *iov, size_t max)
{
	return s->kind->reserve(s, iov, max);
}

void mt_stream_commit(struct mt_stream *s, size_t len)
{
	s->kind->commit(s, len);
}

int mt_stream_send(struct mt_stream *s, const void *data, size_t len)
{
	return s->kind->send(s, data, len);
}

void mt_stream_send_fin(struct mt_stream *s)
{
	s->kind->send_fin(s);
}

void mt_stream_reset(struct mt_stream *s, uint64_t app_code)
{
	s->kind->reset(s, app_code);
}

uint64_t mt_stream_acked_bytes(const struct mt_stream *s)
{
	return s->kind->acked_bytes(s);
}

void mt_stream_release(struct mt_stream *s, uint64_t app_code)
{
	s->kind->release(s, app_code);
}
