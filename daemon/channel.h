/* The server's side of the control channel (stream type 0x02). One thread. */
#pragma once

#include "daemon/env.h"
#include "proto/quic/stream.h"
#include "proto/wire/channel.h"
#include "proto/wire/err.h"

#include <stdint.h>

struct mt_channel;

struct mt_channel_events {
	/* The channel has ended and is gone: by the client, with the connection, or for a malformed
	 * message. */
	void (*on_end)(void *user);
	/* The client needs a UDP session no more. */
	void (*on_session_end)(void *user, uint32_t session);
	void *user;
};

/* Takes a stream whose type byte is consumed, on success: answers with the status and our Hello.
 * The caller then calls mt_channel_read once for what has arrived already.
 */
int mt_channel_open(struct mt_channel **out, struct mt_env *env, struct mt_stream *stream,
	uint32_t max_streams, uint64_t trace, const struct mt_channel_events *events) MT_MUST_CHECK;
/* Reads what is there; on_end may come from inside. */
void mt_channel_read(struct mt_channel *ch);
/* Says so with a status and ends a stream that asks for a second channel; taken. */
void mt_channel_refuse(struct mt_stream *stream);
/* A notice, or the reason of the close that follows; dropped when the client does not read. `text`
 * is cut at MT_CHANNEL_TEXT_MAX.
 */
void mt_channel_notice(struct mt_channel *ch, enum mt_notice code, const char *text);
void mt_channel_closing(struct mt_channel *ch, enum mt_app_code code, const char *text);
/* No event follows. NULL is allowed. */
void mt_channel_free(struct mt_channel *ch, uint64_t app_code);
