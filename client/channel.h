/* The client's end of the control channel: Hello, pings, and what the server has to say. */
#pragma once

#include "proto/quic/stream.h"
#include "proto/wire/channel.h"

#include <stdint.h>

struct mt_channel_events {
	/* The answer to a ping: the round trip without the time that the server held it. */
	void (*on_pong)(void *user, uint64_t rtt_ns);
	void (*on_notice)(void *user, uint32_t code, const char *text, size_t text_len);
	/* The server has answered with a status: the channel is open if that is 0. May be NULL. */
	void (*on_answer)(void *user, uint8_t status);
	/* The server has ended the channel, or it has been lost: its stream, still there, is
	 * released next. Not after mt_channel_close. May be NULL.
	 */
	void (*on_closed)(void *user);
	void *user;
};

/* In its owner's memory, which stays in place until mt_channel_close. */
struct mt_channel {
	struct mt_stream *stream; /* NULL: not open, or ended: the connection lives on without it */
	struct mt_channel_events events;
	uint64_t (*now_ns)(void *user);  /* with the user of `events` */
	bool answered;                   /* with whatever status */
	bool answer_due;                 /* nobody has been told that it was a good one */
	bool closing;                    /* the server closes the connection with this: */
	uint32_t closing_code;           /* enum mt_app_code */
	bool greeted;                    /* the server's Hello has come */
	struct mt_channel_message hello; /* its numbers only */
	uint8_t buffer[MT_CHANNEL_MESSAGE_MAX];
	size_t fill;
};

/* Takes a new stream, even when this fails: MT_E_CLOSED, MT_E_AGAIN, -ENOMEM. */
int mt_channel_open(struct mt_channel *channel, struct mt_stream *stream,
	const struct mt_channel_events *events, uint64_t (*now_ns)(void *user)) MT_MUST_CHECK;
/* MT_E_CLOSED when there is no channel, MT_E_AGAIN when it takes no more now. */
int mt_channel_ping(struct mt_channel *channel) MT_MUST_CHECK;
/* Lost when there is no channel, or when it takes no more now: the server closes idle sessions
 * anyway.
 */
void mt_channel_end_session(struct mt_channel *channel, uint32_t session);
void mt_channel_close(struct mt_channel *channel);
