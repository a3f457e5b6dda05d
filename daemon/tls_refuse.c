#include "daemon/tls_front_impl.h"

#include "daemon/front.h"
#include "proto/wire/channel.h"
#include "proto/wire/request.h"

#include <string.h>

/* Both in one piece, so that the client does not take the status alone for a welcome. */
static void say_why(struct mt_tls_visit *v)
{
	const struct mt_channel_message msg = {
		.type = MT_CHANNEL_CLOSING,
		.code = (uint32_t)v->refusal_code,
		.text = v->refusal_text,
		.text_len = (uint8_t)strnlen(v->refusal_text, MT_CHANNEL_TEXT_MAX),
	};
	uint8_t buf[1 + MT_CHANNEL_MESSAGE_MAX] = {MT_STATUS_OK};
	size_t len = mt_channel_encode(buf + 1, sizeof(buf) - 1, &msg);

	mt_stream_consume(v->stream, mt_stream_readable(v->stream)); /* its Hello */
	/* When the client does not listen any more, the release resets. */
	if (len > 0 && mt_stream_send(v->stream, buf, 1 + len) == 0) {
		mt_stream_send_fin(v->stream);
	}
}

static void answer(struct mt_tls_visit *v)
{
	uint8_t type = 0;
	bool asks = mt_stream_front(v->stream, &type, sizeof(type)) > 0;

	if (!asks && !mt_stream_fin_received(v->stream)) {
		return;
	}
	mt_deadline_cancel(&v->refusal);
	if (asks && type == MT_REQUEST_CONTROL) {
		say_why(v);
		mt_stream_release(v->stream, v->refusal_code);
	} else {
		mt_channel_refuse(v->stream);
	}
}

static void on_late(struct mt_deadline *deadline)
{
	struct mt_tls_visit *v =
		(struct mt_tls_visit *)((char *)deadline - offsetof(struct mt_tls_visit, refusal));

	mt_stream_release(v->stream, v->refusal_code);
}

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	answer(user);
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	struct mt_tls_visit *v = user;

	(void)app_code;
	mt_deadline_cancel(&v->refusal);
	mt_stream_release(s, MT_APP_NONE);
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	(void)err;
	on_cut(s, MT_APP_NONE, user);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_end,
};

void mt_tls_front_refuse(struct mt_tls_visit *v, enum mt_app_code code, const char *text)
{
	v->refusal_code = code;
	v->refusal_text = text;
	v->refusal.on_due = on_late;
	mt_deadline_set(&v->front->cfg.env->deadlines, &v->refusal, MT_REQUEST_TIMEOUT_MS);
	mt_stream_set_handler(v->stream, &handler, v);
	answer(v);
}
