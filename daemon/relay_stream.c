#include "daemon/relay_stream.h"

#include "daemon/drop.h"
#include "daemon/relay_impl.h"
#include "proto/io/frames_stream.h"

#include <errno.h>

struct mt_relay_stream {
	LIST_ENTRY(mt_relay_stream) of_relay;
	struct mt_relay *relay;
	struct mt_frames_stream *carrier;
	struct mt_frames *frames; /* of the carrier */
	uint64_t dropped;         /* of the frames', that the worker's counters know of */
	uint32_t number;
};

struct mt_frames *mt_relay_stream_frames(struct mt_relay_stream *stream)
{
	return stream->frames;
}

uint32_t mt_relay_stream_number(const struct mt_relay_stream *stream)
{
	return stream->number;
}

static void count_dropped(struct mt_relay_stream *stream)
{
	const struct mt_frames_stats *stats = mt_frames_stats(stream->frames);

	if (stats->dropped == stream->dropped) {
		return;
	}
	MT_COUNT_DROP(
		stream->relay->env->counters, udp_dropped_stream, stats->dropped - stream->dropped);
	stream->dropped = stats->dropped;
}

static void on_datagram(void *user, const uint8_t *data, size_t len)
{
	struct mt_relay_stream *stream = user;

	mt_relay_take(stream->relay, stream, data, len);
}

static void on_room(void *user)
{
	struct mt_relay_stream *stream = user;

	count_dropped(stream);
	mt_relay_resume(stream->relay);
}

static struct mt_relay_stream *make(struct mt_relay *relay)
{
	struct mt_relay_stream *stream = mt_mem_calloc(relay->env->mem, sizeof(*stream));

	if (stream == NULL) {
		mt_count(&relay->env->counters->errors, 1);
		return NULL;
	}
	stream->relay = relay;
	stream->number = ++relay->streams_ever;
	return stream;
}

static void join(struct mt_relay_stream *stream)
{
	LIST_INSERT_HEAD(&stream->relay->streams, stream, of_relay);
	mt_count(&stream->relay->env->counters->udp_streams_active, 1);
}

void mt_relay_stream_close(struct mt_relay_stream *stream)
{
	struct mt_relay *r;
	struct mt_relay_session *next;

	if (stream == NULL) {
		return;
	}
	r = stream->relay;
	for (struct mt_relay_session *s = TAILQ_FIRST(&r->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, by_use);
		if (s->stream == stream && !s->extended && r->conn == NULL) {
			mt_relay_session_free(s); /* nobody else can use it */
		} else if (s->stream == stream) {
			s->stream = NULL;
			s->via = MT_RELAY_NOWHERE;
		}
	}
	count_dropped(stream);
	LIST_REMOVE(stream, of_relay);
	mt_count(&r->env->counters->udp_streams_active, UINT64_MAX); /* one less */
	mt_frames_stream_free(stream->carrier, MT_APP_NONE);
	mt_mem_release(r->env->mem, stream);
	mt_relay_resume(r); /* nobody waits for this one's room any more */
}

static void on_end(void *user, int err)
{
	(void)err; /* by FIN or not: there is nothing left to deliver */
	mt_relay_stream_close(user);
}

static void refuse(struct mt_stream *stream)
{
	const uint8_t status = MT_STATUS_GENERAL_FAILURE;

	/* When the client does not listen any more, the release resets. */
	if (mt_stream_send(stream, &status, 1) == 0) {
		mt_stream_send_fin(stream);
	}
	mt_stream_release(stream, MT_APP_NONE);
}

void mt_relay_accept_stream(struct mt_relay *relay, struct mt_stream *stream)
{
	const uint8_t ok = MT_STATUS_OK;
	struct mt_relay_stream *rs = make(relay);
	const struct mt_frames_stream_config config = {
		.mem = relay->env->mem,
		.stream = stream,
		.on_datagram = on_datagram,
		.on_room = on_room,
		.on_end = on_end,
		.user = rs,
	};

	if (rs == NULL || mt_frames_stream_new(&rs->carrier, &config) < 0) {
		mt_mem_release(relay->env->mem, rs);
		refuse(stream);
		return;
	}
	rs->frames = mt_frames_stream_frames(rs->carrier);
	join(rs);
	if (mt_stream_send(stream, &ok, 1) < 0) {
		mt_relay_stream_close(rs);
		return;
	}
	mt_frames_stream_read(rs->carrier);
}
