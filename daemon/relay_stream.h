/* UDP over a stream (type 0x03), of QUIC or of TLS: the relay's end of it. One thread. */
#pragma once

#include "daemon/relay.h"
#include "proto/quic/stream.h"

/* Takes a stream whose type byte is consumed, answers with a status and serves it to its end; on
 * failure it is refused. */
void mt_relay_accept_stream(struct mt_relay *relay, struct mt_stream *stream);

struct mt_relay_stream;

/* Ends it. Not after mt_relay_free, which does it. NULL is allowed. */
void mt_relay_stream_close(struct mt_relay_stream *stream);
