/* UDP over a stream (type 0x03): the relay's end of it. A stream of QUIC is taken by
 * mt_relay_accept_stream; any other carrier of bytes is joined with the relay by the calls below
 * it. One thread.
 */
#pragma once

#include "daemon/relay.h"
#include "proto/io/frames.h"
#include "proto/quic/stream.h"

/* Takes a stream whose type byte is consumed, answers with a status and serves it to its end; on
 * failure it is refused. */
void mt_relay_accept_stream(struct mt_relay *relay, struct mt_stream *stream);

struct mt_relay_stream;

/* Joins a carrier, whose request was read and whose status is OK. */
int mt_relay_stream_open(struct mt_relay_stream **out, struct mt_relay *relay,
	const struct mt_carrier *carrier) MT_MUST_CHECK;
/* Bytes from the client. */
void mt_relay_stream_receive(struct mt_relay_stream *stream, const uint8_t *data, size_t len);
/* The carrier has room again. */
void mt_relay_stream_resume(struct mt_relay_stream *stream);
/* The carrier has ended. Not after mt_relay_free, which does it. NULL is allowed. */
void mt_relay_stream_close(struct mt_relay_stream *stream);
