#include "daemon/channel.h"

#include "daemon/front.h"
#include "daemon/relay.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#define AGENT "mytunneld/" MT_VERSION

struct mt_channel {
	struct mt_env *env;
	struct mt_stream *stream;
	struct mt_channel_events events;
	bool blocked; /* an answer waits for room: reading waits too */
};

static int send_message(struct mt_channel *ch, const struct mt_channel_message *msg)
{
	uint8_t buf[MT_CHANNEL_MESSAGE_MAX];
	size_t len = mt_channel_encode(buf, sizeof(buf), msg);

	if (len == 0) {
		return MT_E_TOO_LONG;
	}
	return mt_stream_send(ch->stream, buf, len);
}

static int send_hello(struct mt_channel *ch, uint32_t max_streams, uint64_t trace)
{
	const struct mt_channel_message hello = {
		.type = MT_CHANNEL_HELLO,
		.version = MT_CHANNEL_VERSION,
		.capabilities = MT_CAP_EXTENDED_UDP | MT_CAP_UDP_STREAM,
		.max_streams = max_streams,
		.max_sessions = MT_RELAY_SESSIONS_MAX,
		.trace = trace,
		.text = AGENT,
		.text_len = sizeof(AGENT) - 1,
	};

	return send_message(ch, &hello);
}

static int answer_ping(
	struct mt_channel *ch, const struct mt_channel_message *ping, uint64_t read_ns)
{
	const struct mt_channel_message pong = {
		.type = MT_CHANNEL_PONG,
		.sent_ns = ping->sent_ns,
		.held_ns = uv_hrtime() - read_ns,
	};

	return send_message(ch, &pong);
}

/* Reads every complete message. 0, or MT_E_MALFORMED. */
static int read_messages(struct mt_channel *ch)
{
	uint8_t buf[MT_CHANNEL_MESSAGE_MAX];
	struct mt_channel_message msg;
	uint64_t read_ns = uv_hrtime();
	size_t used = 0;
	size_t len;
	int rv;

	while (!ch->blocked) {
		len = mt_stream_front(ch->stream, buf, sizeof(buf));
		rv = mt_channel_decode(&msg, &used, buf, len);
		if (rv == MT_E_AGAIN) {
			return 0;
		}
		if (rv < 0) {
			return rv;
		}
		/* Hellos of clients need no answer, and unknown types are skipped. */
		if (msg.type == MT_CHANNEL_PING && answer_ping(ch, &msg, read_ns) < 0) {
			ch->blocked = true; /* it is read again when there is room */
			return 0;
		}
		if (msg.type == MT_CHANNEL_SESSION_END) {
			ch->events.on_session_end(ch->events.user, msg.session);
		}
		mt_stream_consume(ch->stream, used);
	}
	return 0;
}

static void end(struct mt_channel *ch, uint64_t app_code)
{
	struct mt_channel_events events = ch->events;

	mt_channel_free(ch, app_code);
	events.on_end(events.user);
}

void mt_channel_read(struct mt_channel *ch)
{
	if (read_messages(ch) < 0) {
		mt_count(&ch->env->counters->channel_errors, 1);
		end(ch, MT_APP_PROTOCOL_ERROR);
	} else if (mt_stream_fin_received(ch->stream) && !ch->blocked) {
		mt_stream_send_fin(ch->stream);
	}
}

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	mt_channel_read(user);
}

static void on_writable(struct mt_stream *s, void *user)
{
	struct mt_channel *ch = user;

	(void)s;
	ch->blocked = false;
	mt_channel_read(ch);
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	(void)app_code;
	end(user, MT_APP_NONE);
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	(void)err;
	end(user, MT_APP_NONE);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_stream_end,
};

int mt_channel_open(struct mt_channel **out, struct mt_env *env, struct mt_stream *stream,
	uint32_t max_streams, uint64_t trace, const struct mt_channel_events *events)
{
	const uint8_t ok = MT_STATUS_OK;
	struct mt_channel *ch = mt_mem_calloc(env->mem, sizeof(*ch));
	int rv;

	if (ch == NULL) {
		return -ENOMEM;
	}
	ch->env = env;
	ch->stream = stream;
	ch->events = *events;
	rv = mt_stream_send(stream, &ok, 1);
	if (rv == 0) {
		rv = send_hello(ch, max_streams, trace);
	}
	if (rv < 0) {
		mt_mem_release(env->mem, ch);
		return rv;
	}
	mt_stream_set_handler(stream, &handler, ch);
	mt_stream_set_quiet(stream);
	*out = ch;
	return 0;
}

void mt_channel_refuse(struct mt_stream *stream)
{
	const uint8_t status = MT_STATUS_GENERAL_FAILURE;

	/* When the client does not listen any more, the release resets. */
	if (mt_stream_send(stream, &status, 1) == 0) {
		mt_stream_send_fin(stream);
	}
	mt_stream_release(stream, MT_APP_NONE);
}

static void tell(struct mt_channel *ch, uint8_t type, uint32_t code, const char *text)
{
	const struct mt_channel_message msg = {
		.type = type,
		.code = code,
		.text = text,
		.text_len = (uint8_t)strnlen(text, MT_CHANNEL_TEXT_MAX),
	};
	int rv = send_message(ch, &msg);

	if (rv < 0 && rv != MT_E_CLOSED) {
		mt_count(&ch->env->counters->channel_errors, 1);
	}
}

void mt_channel_notice(struct mt_channel *ch, enum mt_notice code, const char *text)
{
	tell(ch, MT_CHANNEL_NOTICE, (uint32_t)code, text);
}

void mt_channel_closing(struct mt_channel *ch, enum mt_app_code code, const char *text)
{
	tell(ch, MT_CHANNEL_CLOSING, (uint32_t)code, text);
}

void mt_channel_free(struct mt_channel *ch, uint64_t app_code)
{
	if (ch == NULL) {
		return;
	}
	mt_stream_release(ch->stream, app_code);
	mt_mem_release(ch->env->mem, ch);
}
