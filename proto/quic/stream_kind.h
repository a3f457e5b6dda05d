/* What carries a stream implements this; its users know proto/quic/stream.h alone, which says what
 * each call means. QUIC does (stream.c), and TLS over TCP (proto/io/tls_stream.c).
 */
#pragma once

#include "proto/quic/stream.h"

struct mt_stream_kind {
	/* These three may be NULL. */
	struct mt_conn *(*conn)(struct mt_stream *s);
	int64_t (*id)(const struct mt_stream *s);
	void (*set_quiet)(struct mt_stream *s);
	bool (*is_detached)(const struct mt_stream *s);
	size_t (*readable)(const struct mt_stream *s);
	size_t (*peek)(const struct mt_stream *s, struct iovec *iov, size_t max);
	void (*consume)(struct mt_stream *s, size_t len);
	bool (*fin_received)(const struct mt_stream *s);
	void (*stop)(struct mt_stream *s, uint64_t app_code);
	size_t (*send_space)(const struct mt_stream *s);
	size_t (*reserve)(struct mt_stream *s, struct iovec *iov, size_t max);
	void (*commit)(struct mt_stream *s, size_t len);
	int (*send)(struct mt_stream *s, const void *data, size_t len);
	void (*send_fin)(struct mt_stream *s);
	void (*reset)(struct mt_stream *s, uint64_t app_code);
	uint64_t (*acked_bytes)(const struct mt_stream *s);
	void (*release)(struct mt_stream *s, uint64_t app_code);
};

/* The first member of what implements it. */
struct mt_stream {
	const struct mt_stream_kind *kind;
	const struct mt_stream_handler *handler; /* NULL: nobody is told */
	void *user;
};
