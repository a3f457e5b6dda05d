#include "proto/wire/channel.h"

#include "proto/wire/bytes.h"

#include <string.h>

#define LENGTH_LEN 2

static void read_text(struct mt_reader *r, struct mt_channel_message *msg)
{
	msg->text_len = mt_reader_u8(r);
	msg->text = (const char *)mt_reader_bytes(r, msg->text_len);
}

/* What follows the known fields is left for later versions. */
static void read_body(struct mt_reader *r, struct mt_channel_message *msg)
{
	switch (msg->type) {
	case MT_CHANNEL_HELLO:
		msg->version = mt_reader_u8(r);
		msg->capabilities = mt_reader_u32(r);
		msg->max_streams = mt_reader_u32(r);
		read_text(r, msg);
		if (mt_reader_left(r) >= 2) { /* not in the first servers' Hellos */
			msg->max_sessions = mt_reader_u16(r);
		}
		if (mt_reader_left(r) >= sizeof(msg->trace)) {
			msg->trace = mt_reader_u64(r);
		}
		break;
	case MT_CHANNEL_SESSION_END: msg->session = mt_reader_u32(r); break;
	case MT_CHANNEL_PING: msg->sent_ns = mt_reader_u64(r); break;
	case MT_CHANNEL_PONG:
		msg->sent_ns = mt_reader_u64(r);
		msg->held_ns = mt_reader_u64(r);
		break;
	case MT_CHANNEL_NOTICE:
		msg->code = mt_reader_u16(r);
		read_text(r, msg);
		break;
	case MT_CHANNEL_CLOSING:
		msg->code = mt_reader_u32(r);
		read_text(r, msg);
		break;
	default: break;
	}
}

int mt_channel_decode(struct mt_channel_message *out, size_t *used, const uint8_t *data, size_t len)
{
	struct mt_channel_message msg;
	struct mt_reader r, body;
	const uint8_t *bytes = NULL;
	uint16_t length = 0;

	memset(&msg, 0, sizeof(msg));
	mt_reader_init(&r, data, len);
	length = mt_reader_u16(&r);
	if (r.failed) {
		return MT_E_AGAIN;
	}
	/* Judged before the rest is waited for: it might never come. */
	if (length == 0 || length > MT_CHANNEL_MESSAGE_MAX - LENGTH_LEN) {
		return MT_E_MALFORMED;
	}
	bytes = mt_reader_bytes(&r, length);
	if (bytes == NULL) {
		return MT_E_AGAIN;
	}
	mt_reader_init(&body, bytes, length);
	msg.type = mt_reader_u8(&body);
	read_body(&body, &msg);
	if (body.failed) {
		return MT_E_MALFORMED;
	}
	*out = msg;
	*used = LENGTH_LEN + (size_t)length;
	return 0;
}

static void write_text(struct mt_writer *w, const struct mt_channel_message *msg)
{
	if (msg->text == NULL && msg->text_len > 0) {
		w->failed = true;
		return;
	}
	mt_writer_u8(w, msg->text_len);
	mt_writer_bytes(w, msg->text, msg->text_len);
}

size_t mt_channel_encode(uint8_t *buf, size_t cap, const struct mt_channel_message *msg)
{
	struct mt_writer w;
	size_t len = 0;

	mt_writer_init(&w, buf, cap);
	mt_writer_u16(&w, 0); /* the length, known at the end */
	mt_writer_u8(&w, msg->type);
	switch (msg->type) {
	case MT_CHANNEL_HELLO:
		mt_writer_u8(&w, msg->version);
		mt_writer_u32(&w, msg->capabilities);
		mt_writer_u32(&w, msg->max_streams);
		write_text(&w, msg);
		if (msg->max_sessions > 0 || msg->trace != 0) {
			mt_writer_u16(&w, msg->max_sessions);
		}
		if (msg->trace != 0) {
			mt_writer_u64(&w, msg->trace);
		}
		break;
	case MT_CHANNEL_SESSION_END: mt_writer_u32(&w, msg->session); break;
	case MT_CHANNEL_PING: mt_writer_u64(&w, msg->sent_ns); break;
	case MT_CHANNEL_PONG:
		mt_writer_u64(&w, msg->sent_ns);
		mt_writer_u64(&w, msg->held_ns);
		break;
	case MT_CHANNEL_NOTICE:
		if (msg->code > UINT16_MAX) {
			return 0;
		}
		mt_writer_u16(&w, (uint16_t)msg->code);
		write_text(&w, msg);
		break;
	case MT_CHANNEL_CLOSING:
		mt_writer_u32(&w, msg->code);
		write_text(&w, msg);
		break;
	default: return 0;
	}
	if (w.failed) {
		return 0;
	}
	len = mt_writer_len(&w);
	mt_writer_init(&w, buf, cap);
	mt_writer_u16(&w, (uint16_t)(len - LENGTH_LEN));
	return len;
}
