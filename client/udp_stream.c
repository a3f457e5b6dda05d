#include "client/udp_stream.h"

#include "proto/io/frames_stream.h"
#include "proto/wire/frame.h"
#include "proto/wire/request.h"

#include <stdlib.h>
#include <string.h>

#define IDLE_MS       60000 /* without a datagram either way */
#define REFUSED_MS    10000 /* before a server that has refused is asked again */
#define WAITING_MAX   64    /* datagrams before there is a stream */
#define WAITING_BYTES ((size_t)512 * 1024)

struct waiting {
	TAILQ_ENTRY(waiting) link;
	size_t len;
	uint8_t data[];
};

TAILQ_HEAD(waiting_list, waiting);

struct mt_udp_stream {
	struct mt_udp_stream_config config;
	struct mt_waiter waiter;
	bool asked;                      /* in the uplink's queue */
	struct mt_frames_stream *frames; /* NULL: no stream */
	enum mt_transport transport;     /* of the stream */
	struct waiting_list waiting;
	size_t waiting_count;
	size_t waiting_bytes;
	uint64_t used_ms;
	uint64_t refused_ms; /* not to be asked before */
	uint64_t dropped;
	uint64_t dropped_before; /* by streams that are gone */
};

static uint64_t now_ms(const struct mt_udp_stream *s)
{
	return uv_now(s->config.loop);
}

static void drop_first(struct mt_udp_stream *s)
{
	struct waiting *first = TAILQ_FIRST(&s->waiting);

	TAILQ_REMOVE(&s->waiting, first, link);
	s->waiting_count--;
	s->waiting_bytes -= first->len;
	free(first);
}

static void drop_all(struct mt_udp_stream *s)
{
	s->dropped += s->waiting_count;
	while (s->waiting_count > 0) {
		drop_first(s);
	}
}

static void close_frames(struct mt_udp_stream *s)
{
	if (s->frames != NULL) {
		s->dropped_before += mt_frames_stats(mt_frames_stream_frames(s->frames))->dropped;
		mt_frames_stream_free(s->frames, MT_APP_NONE);
		s->frames = NULL;
	}
}

static void on_datagram(void *user, const uint8_t *data, size_t len)
{
	struct mt_udp_stream *s = user;

	s->used_ms = now_ms(s);
	s->config.on_datagram(s->config.user, data, len);
}

static void on_end(void *user, int err)
{
	struct mt_udp_stream *s = user;

	if (err == MT_E_UNSUPPORTED) {
		s->refused_ms = now_ms(s) + REFUSED_MS;
	}
	close_frames(s); /* the next datagram opens another one */
}

static int open_frames(struct mt_udp_stream *s, struct mt_stream *stream)
{
	static const uint8_t type = MT_REQUEST_UDP_STREAM;
	const struct mt_frames_stream_config config = {
		.mem = s->config.mem,
		.stream = stream,
		.by_us = true,
		.on_datagram = on_datagram,
		.on_end = on_end,
		.user = s,
	};
	int err = mt_stream_send(stream, &type, 1);

	return err < 0 ? err : mt_frames_stream_new(&s->frames, &config);
}

static void on_stream(struct mt_waiter *w, struct mt_stream *stream)
{
	struct mt_udp_stream *s =
		(struct mt_udp_stream *)((char *)w - offsetof(struct mt_udp_stream, waiter));

	/* Data follows at once: whether the server answers is seen by the stream's end. */
	mt_uplink_forget(s->config.uplink, w);
	s->asked = false;
	if (open_frames(s, stream) < 0) {
		mt_stream_release(stream, MT_APP_NONE);
		drop_all(s);
		return;
	}
	s->used_ms = now_ms(s);
	s->transport = mt_uplink_transport(s->config.uplink);
	while (s->waiting_count > 0) {
		struct waiting *first = TAILQ_FIRST(&s->waiting);
		int err = mt_frames_send(
			mt_frames_stream_frames(s->frames), first->data, first->len, NULL, 0);

		(void)err; /* counted by the frames */
		drop_first(s);
	}
}

static void on_fail(struct mt_waiter *w, int err, const char *reason)
{
	struct mt_udp_stream *s =
		(struct mt_udp_stream *)((char *)w - offsetof(struct mt_udp_stream, waiter));

	(void)err;
	(void)reason; /* the uplink's state says it */
	s->asked = false;
	drop_all(s);
}

struct mt_udp_stream *mt_udp_stream_new(const struct mt_udp_stream_config *config)
{
	struct mt_udp_stream *s = calloc(1, sizeof(*s));

	if (s != NULL) {
		s->config = *config;
		s->waiter.on_stream = on_stream;
		s->waiter.on_fail = on_fail;
		TAILQ_INIT(&s->waiting);
	}
	return s;
}

void mt_udp_stream_free(struct mt_udp_stream *s)
{
	if (s == NULL) {
		return;
	}
	if (s->asked) {
		mt_uplink_forget(s->config.uplink, &s->waiter);
	}
	close_frames(s);
	drop_all(s);
	free(s);
}

static int enqueue(struct mt_udp_stream *s, const void *head, size_t head_len, const void *body,
	size_t body_len)
{
	struct waiting *one = malloc(sizeof(*one) + head_len + body_len);

	if (one == NULL) {
		s->dropped++;
		return 0;
	}
	one->len = head_len + body_len;
	memcpy(one->data, head, head_len);
	if (body_len > 0) {
		memcpy(one->data + head_len, body, body_len);
	}
	while (s->waiting_count >= WAITING_MAX ||
		(s->waiting_count > 0 && s->waiting_bytes + one->len > WAITING_BYTES)) {
		s->dropped++;
		drop_first(s);
	}
	TAILQ_INSERT_TAIL(&s->waiting, one, link);
	s->waiting_count++;
	s->waiting_bytes += one->len;
	return 0;
}

int mt_udp_stream_send(struct mt_udp_stream *s, const void *head, size_t head_len, const void *body,
	size_t body_len)
{
	int err;

	if (head_len + body_len > MT_FRAME_MAX) {
		return MT_E_TOO_LONG;
	}
	if (s->frames != NULL && mt_uplink_transport(s->config.uplink) != s->transport) {
		close_frames(s); /* the old one was left because it does not answer */
	}
	if (s->frames != NULL) {
		s->used_ms = now_ms(s);
		return mt_frames_send(
			mt_frames_stream_frames(s->frames), head, head_len, body, body_len);
	}
	if (now_ms(s) < s->refused_ms) {
		return MT_E_UNSUPPORTED;
	}
	err = enqueue(s, head, head_len, body, body_len);
	if (err == 0 && !s->asked) {
		s->asked = true; /* it may be served before mt_uplink_wait returns */
		err = mt_uplink_wait(s->config.uplink, &s->waiter);
		if (err < 0) {
			s->asked = false;
			drop_all(s);
		}
	}
	return err;
}

void mt_udp_stream_tick(struct mt_udp_stream *s)
{
	if (s->frames != NULL && now_ms(s) - s->used_ms >= IDLE_MS) {
		close_frames(s);
	}
}

uint64_t mt_udp_stream_dropped(const struct mt_udp_stream *s)
{
	uint64_t dropped = s->dropped + s->dropped_before;

	if (s->frames != NULL) {
		dropped += mt_frames_stats(mt_frames_stream_frames(s->frames))->dropped;
	}
	return dropped;
}
