#include "proto/io/frames.h"

#include "proto/wire/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

struct frame {
	TAILQ_ENTRY(frame) link;
	size_t len;
	uint8_t data[]; /* as it goes out, its length in front */
};

TAILQ_HEAD(frame_list, frame);

struct mt_frames {
	struct mt_frames_config config;
	struct mt_allocator allocator;
	struct mt_frame_reader reader;
	struct frame_list queue; /* the oldest first */
	size_t count;
	size_t bytes;
	bool was_full;
	struct mt_frames_stats stats;
};

int mt_frames_new(struct mt_frames **out, const struct mt_frames_config *config)
{
	struct mt_frames *f = mt_mem_calloc(config->mem, sizeof(*f));

	if (f == NULL) {
		return -ENOMEM;
	}
	f->config = *config;
	f->allocator = mt_mem_allocator(config->mem);
	mt_frame_reader_init(&f->reader, &f->allocator);
	TAILQ_INIT(&f->queue);
	*out = f;
	return 0;
}

static void remove_first(struct mt_frames *f)
{
	struct frame *first = TAILQ_FIRST(&f->queue);

	TAILQ_REMOVE(&f->queue, first, link);
	f->count--;
	f->bytes -= first->len;
	mt_mem_release(f->config.mem, first);
}

void mt_frames_free(struct mt_frames *f)
{
	if (f == NULL) {
		return;
	}
	while (f->count > 0) {
		remove_first(f);
	}
	mt_frame_reader_deinit(&f->reader);
	mt_mem_release(f->config.mem, f);
}

void mt_frames_receive(struct mt_frames *f, const uint8_t *data, size_t len)
{
	const uint8_t *datagram = NULL;
	size_t datagram_len = 0;
	int err;

	while ((err = mt_frame_next(&f->reader, &data, &len, &datagram, &datagram_len)) !=
		MT_E_AGAIN) {
		if (err < 0) {
			f->stats.dropped++;
			continue;
		}
		f->stats.received++;
		f->config.on_datagram(f->config.user, datagram, datagram_len);
	}
}

static int hand_over(struct mt_frames *f, const struct frame *frame)
{
	int err = f->config.carrier.send(f->config.carrier.user, frame->data, frame->len);

	f->stats.sent += err == 0 ? 1 : 0;
	return err;
}

static void enqueue(struct mt_frames *f, struct frame *frame)
{
	while (f->count >= MT_FRAMES_QUEUE_MAX ||
		(f->count > 0 && f->bytes + frame->len > MT_FRAMES_QUEUE_BYTES)) {
		f->stats.dropped++;
		remove_first(f);
	}
	TAILQ_INSERT_TAIL(&f->queue, frame, link);
	f->count++;
	f->bytes += frame->len;
	f->was_full = f->was_full || mt_frames_room(f) == 0;
}

static struct frame *make_frame(
	struct mt_frames *f, const void *head, size_t head_len, const void *body, size_t body_len)
{
	const size_t len = MT_FRAME_HEAD + head_len + body_len;
	struct frame *frame = mt_mem_alloc(f->config.mem, sizeof(*frame) + len);

	if (frame == NULL || mt_frame_head(frame->data, head_len + body_len) < 0) {
		mt_mem_release(f->config.mem, frame);
		return NULL;
	}
	frame->len = len;
	if (head_len > 0) {
		memcpy(frame->data + MT_FRAME_HEAD, head, head_len);
	}
	if (body_len > 0) {
		memcpy(frame->data + MT_FRAME_HEAD + head_len, body, body_len);
	}
	return frame;
}

int mt_frames_send(
	struct mt_frames *f, const void *head, size_t head_len, const void *body, size_t body_len)
{
	struct frame *frame;
	int err = 0;

	if (head_len + body_len > MT_FRAME_MAX) {
		f->stats.dropped++;
		return MT_E_TOO_LONG;
	}
	frame = make_frame(f, head, head_len, body, body_len);
	if (frame == NULL) {
		f->stats.dropped++;
		return -ENOMEM;
	}
	err = f->count > 0 ? MT_E_AGAIN : hand_over(f, frame);
	if (err == MT_E_AGAIN) {
		enqueue(f, frame);
		return 0;
	}
	f->stats.dropped += err < 0 ? 1 : 0;
	mt_mem_release(f->config.mem, frame);
	return err;
}

void mt_frames_resume(struct mt_frames *f)
{
	while (f->count > 0) {
		int err = hand_over(f, TAILQ_FIRST(&f->queue));

		if (err == MT_E_AGAIN) {
			break;
		}
		f->stats.dropped += err < 0 ? 1 : 0;
		remove_first(f);
	}
	if (f->was_full && mt_frames_room(f) > 0) {
		f->was_full = false;
		if (f->config.on_room != NULL) {
			f->config.on_room(f->config.user);
		}
	}
}

void mt_frames_want_room(struct mt_frames *f)
{
	f->was_full = true;
}

size_t mt_frames_room(const struct mt_frames *f)
{
	/* A datagram may be as long as a frame: bytes are judged by what is queued. */
	if (f->bytes >= MT_FRAMES_QUEUE_BYTES / 2) {
		return 0;
	}
	return MT_FRAMES_QUEUE_MAX - f->count;
}

const struct mt_frames_stats *mt_frames_stats(const struct mt_frames *f)
{
	return &f->stats;
}
