#include "client/channel.h"

#include "proto/wire/request.h"

#include <string.h>

void mt_channel_close(struct mt_channel *channel)
{
	if (channel->stream != NULL) {
		mt_stream_release(channel->stream, MT_APP_NONE);
		channel->stream = NULL;
	}
}

static void on_message(struct mt_channel *ch, const struct mt_channel_message *msg)
{
	uint64_t now;

	switch (msg->type) {
	case MT_CHANNEL_HELLO:
		ch->greeted = true;
		ch->hello = *msg;
		ch->hello.text = NULL; /* borrowed from the buffer */
		ch->hello.text_len = 0;
		return;
	case MT_CHANNEL_PONG:
		now = ch->now_ns(ch->events.user);
		if (msg->sent_ns <= now && ch->events.on_pong != NULL) {
			uint64_t rtt = now - msg->sent_ns;

			/* The server's own time is believed only as far as it makes sense. */
			rtt -= msg->held_ns < rtt ? msg->held_ns : 0;
			ch->events.on_pong(ch->events.user, rtt);
		}
		return;
	case MT_CHANNEL_NOTICE:
		if (ch->events.on_notice != NULL) {
			ch->events.on_notice(ch->events.user, msg->code, msg->text, msg->text_len);
		}
		return;
	case MT_CHANNEL_CLOSING:
		ch->closing = true;
		ch->closing_code = msg->code;
		return;
	default: return; /* a Ping is not for clients; the rest is of later versions */
	}
}

/* Moves what the stream holds into the buffer; false when nothing is there. */
static bool fill(struct mt_channel *ch)
{
	struct iovec iov;
	size_t room = sizeof(ch->buffer) - ch->fill;
	size_t len;

	if (mt_stream_peek(ch->stream, &iov, 1) == 0) {
		return false;
	}
	len = iov.iov_len < room ? iov.iov_len : room;
	memcpy(ch->buffer + ch->fill, iov.iov_base, len);
	ch->fill += len;
	mt_stream_consume(ch->stream, len);
	return len > 0;
}

/* The server has ended it, or it is lost. */
static void end(struct mt_channel *ch, uint64_t app_code)
{
	if (ch->events.on_closed != NULL) {
		ch->events.on_closed(ch->events.user);
	}
	if (ch->stream != NULL) {
		mt_stream_release(ch->stream, app_code);
		ch->stream = NULL;
	}
}

static void tell_answer(struct mt_channel *ch, uint8_t status)
{
	ch->answer_due = false;
	if (ch->events.on_answer != NULL) {
		ch->events.on_answer(ch->events.user, status);
	}
}

/* Takes the status; false when there is no channel. */
static bool parse_status(struct mt_channel *ch)
{
	uint8_t status = ch->buffer[0];

	ch->answered = true;
	if (status != MT_STATUS_OK) {
		tell_answer(ch, status);
		return false;
	}
	/* With a Closing right behind it, it is no welcome. */
	ch->answer_due = true;
	return true;
}

/* Handles the messages in the buffer; false when they make no sense. */
static bool parse(struct mt_channel *ch)
{
	size_t done = 0;

	if (!ch->answered && ch->fill > 0) {
		if (!parse_status(ch)) {
			return false;
		}
		done = 1;
	}
	for (;;) {
		struct mt_channel_message msg;
		size_t used;
		int err = mt_channel_decode(&msg, &used, ch->buffer + done, ch->fill - done);

		if (err < 0 && err != MT_E_AGAIN) {
			return false;
		}
		if (ch->answer_due && !ch->closing &&
			(err != 0 || msg.type != MT_CHANNEL_CLOSING)) {
			tell_answer(ch, MT_STATUS_OK);
			if (ch->stream == NULL) { /* closed by a handler */
				return true;
			}
		}
		if (err == MT_E_AGAIN) {
			break;
		}
		on_message(ch, &msg);
		if (ch->stream == NULL) { /* closed by a handler */
			return true;
		}
		done += used;
	}
	ch->fill -= done;
	memmove(ch->buffer, ch->buffer + done, ch->fill);
	return true;
}

static void on_readable(struct mt_stream *s, void *user)
{
	struct mt_channel *ch = user;

	(void)s;
	while (ch->stream != NULL && fill(ch)) {
		if (!parse(ch)) {
			end(ch, MT_APP_PROTOCOL_ERROR);
			return;
		}
	}
	if (ch->stream != NULL && mt_stream_fin_received(ch->stream)) {
		end(ch, MT_APP_NONE);
	}
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	(void)app_code;
	end(user, MT_APP_NONE);
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	(void)err;
	end(user, MT_APP_NONE);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_end,
};

static int send_message(struct mt_channel *ch, const struct mt_channel_message *msg)
{
	uint8_t buf[MT_CHANNEL_MESSAGE_MAX];
	size_t len = mt_channel_encode(buf, sizeof(buf), msg);

	return len == 0 ? MT_E_TOO_LONG : mt_stream_send(ch->stream, buf, len);
}

int mt_channel_open(struct mt_channel *channel, struct mt_stream *stream,
	const struct mt_channel_events *events, uint64_t (*now_ns)(void *user))
{
	static const uint8_t type = MT_REQUEST_CONTROL;
	static const char agent[] = "mytunnel " MT_VERSION;
	struct mt_channel_message hello = {
		.type = MT_CHANNEL_HELLO,
		.version = MT_CHANNEL_VERSION,
		.capabilities = MT_CAP_EXTENDED_UDP | MT_CAP_UDP_STREAM,
		.text = agent,
		.text_len = sizeof(agent) - 1,
	};
	int err;

	*channel = (struct mt_channel){.events = *events, .now_ns = now_ns};
	channel->stream = stream;
	mt_stream_set_handler(channel->stream, &handler, channel);
	err = mt_stream_send(channel->stream, &type, 1);
	if (err == 0) {
		err = send_message(channel, &hello);
	}
	if (err < 0) {
		mt_channel_close(channel);
	}
	return err;
}

int mt_channel_ping(struct mt_channel *channel)
{
	struct mt_channel_message ping = {.type = MT_CHANNEL_PING};

	if (channel->stream == NULL) {
		return MT_E_CLOSED;
	}
	ping.sent_ns = channel->now_ns(channel->events.user);
	return send_message(channel, &ping);
}

void mt_channel_end_session(struct mt_channel *channel, uint32_t session)
{
	const struct mt_channel_message end = {.type = MT_CHANNEL_SESSION_END, .session = session};

	if (channel->stream != NULL) {
		int err = send_message(channel, &end);

		(void)err; /* it is a courtesy */
	}
}
