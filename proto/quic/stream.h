/* Streams of a connection (RFC 9000, section 2), used like a pair of bounded queues. All calls
 * belong to the endpoint's thread. Events are delivered from mt_endpoint_dispatch, never from
 * inside another call, so a handler may call anything here.
 *
 * Life: a stream that the connection announces (on_stream) or opens belongs to its user until
 * mt_stream_release. When the connection ends first, the stream stays readable with what had
 * arrived; mt_stream_is_detached says so and on_end has told why.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct mt_conn;
struct mt_stream;

/* Events coalesce: one call may stand for several. Any member may be NULL. */
struct mt_stream_handler {
	/* New bytes, or the peer's FIN, can be read. */
	void (*on_readable)(struct mt_stream *s, void *user);
	/* mt_stream_send_space has grown from 0. */
	void (*on_writable)(struct mt_stream *s, void *user);
	/* The peer ended its direction by RESET_STREAM: what was not consumed is gone. */
	void (*on_reset)(struct mt_stream *s, uint64_t app_code, void *user);
	/* The peer wants no more (STOP_SENDING); our direction has been reset in answer. */
	void (*on_stop)(struct mt_stream *s, uint64_t app_code, void *user);
	/* Both directions are finished and acknowledged, or the connection has ended (err is then
	 * MT_E_CLOSED, MT_E_RESET or MT_E_TIMEOUT, else 0). Last event of a stream.
	 */
	void (*on_end)(struct mt_stream *s, int err, void *user);
};

void mt_stream_set_handler(
	struct mt_stream *s, const struct mt_stream_handler *handler, void *user);
struct mt_conn *mt_stream_conn(struct mt_stream *s); /* NULL once detached, and without QUIC */
int64_t mt_stream_id(const struct mt_stream *s);     /* -1 without QUIC */
/* It mostly lies still: a connection that has no others counts as one without a stream, whose
 * timers may gather with those of others. */
void mt_stream_set_quiet(struct mt_stream *s);
bool mt_stream_is_detached(const struct mt_stream *s);

/* Receiving. Bytes stay in the stream's queue, and their credit with it, until consumed. */
size_t mt_stream_readable(const struct mt_stream *s);
/* Borrows the queued bytes as at most `max` pieces; returns the number of pieces. */
size_t mt_stream_peek(const struct mt_stream *s, struct iovec *iov, size_t max);
/* Drops `len` bytes from the front and returns their credit to the peer. */
void mt_stream_consume(struct mt_stream *s, size_t len);
/* The peer's FIN is behind what is queued (true as soon as it has arrived with all before it). */
bool mt_stream_fin_received(const struct mt_stream *s);
/* Asks the peer to stop (STOP_SENDING); what arrives later is dropped. */
void mt_stream_stop(struct mt_stream *s, uint64_t app_code);

/* Sending. Reserve gives up to `max` pieces of free buffer of at most mt_stream_send_space bytes;
 * read into them in order, then commit how many bytes were filled. Nothing else of this stream may
 * be called between. A reserve of 0 pieces means no space, or no memory.
 */
size_t mt_stream_send_space(const struct mt_stream *s);
size_t mt_stream_reserve(struct mt_stream *s, struct iovec *iov, size_t max);
void mt_stream_commit(struct mt_stream *s, size_t len);
/* Copies `len` bytes in. All or nothing: MT_E_AGAIN without space, MT_E_CLOSED after FIN or reset.
 */
int mt_stream_send(struct mt_stream *s, const void *data, size_t len) MT_MUST_CHECK;
/* FIN behind what was committed. Repeated calls do nothing. */
void mt_stream_send_fin(struct mt_stream *s);
/* RESET_STREAM: drops what was not sent. */
void mt_stream_reset(struct mt_stream *s, uint64_t app_code);
/* Bytes of payload that have gone out and been acknowledged. */
uint64_t mt_stream_acked_bytes(const struct mt_stream *s);

/* The user is done: no event follows. A direction that is still open is reset, or stopped, with
 * `app_code`; with both directions finished by FIN the data still travels to its end.
 */
void mt_stream_release(struct mt_stream *s, uint64_t app_code);
