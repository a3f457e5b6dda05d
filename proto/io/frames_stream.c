#include "proto/io/frames_stream.h"

#include "proto/wire/request.h"

#include <errno.h>

struct mt_frames_stream {
	struct mt_frames_stream_config config;
	struct mt_frames *frames;
	bool answered; /* the status was OK, or there is none */
	bool ended;
};

static int send_bytes(void *user, const uint8_t *data, size_t len)
{
	struct mt_frames_stream *fs = user;

	return mt_stream_send(fs->config.stream, data, len);
}

static void end(struct mt_frames_stream *fs, int err)
{
	if (!fs->ended) {
		fs->ended = true;
		fs->config.on_end(fs->config.user, err);
	}
}

/* False when the peer does not serve this. */
static bool read_status(struct mt_frames_stream *fs)
{
	struct iovec iov;
	uint8_t status;

	if (fs->answered || mt_stream_peek(fs->config.stream, &iov, 1) == 0) {
		return true;
	}
	status = *(const uint8_t *)iov.iov_base;
	mt_stream_consume(fs->config.stream, 1);
	fs->answered = status == MT_STATUS_OK;
	return fs->answered;
}

void mt_frames_stream_read(struct mt_frames_stream *fs)
{
	struct iovec iov;

	if (fs->ended) {
		return;
	}
	if (!read_status(fs)) {
		end(fs, MT_E_UNSUPPORTED);
		return;
	}
	while (mt_stream_peek(fs->config.stream, &iov, 1) > 0) {
		mt_frames_receive(fs->frames, iov.iov_base, iov.iov_len);
		mt_stream_consume(fs->config.stream, iov.iov_len);
	}
	if (mt_stream_fin_received(fs->config.stream)) {
		mt_stream_send_fin(fs->config.stream);
		end(fs, 0);
	}
}

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	mt_frames_stream_read(user);
}

static void on_writable(struct mt_stream *s, void *user)
{
	struct mt_frames_stream *fs = user;

	(void)s;
	if (!fs->ended) {
		mt_frames_resume(fs->frames);
	}
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	(void)app_code;
	end(user, MT_E_RESET);
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	end(user, err);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_stream_end,
};

int mt_frames_stream_new(
	struct mt_frames_stream **out, const struct mt_frames_stream_config *config)
{
	struct mt_frames_stream *fs = mt_mem_calloc(config->mem, sizeof(*fs));
	struct mt_frames_config frames = {
		.mem = config->mem,
		.on_datagram = config->on_datagram,
		.on_room = config->on_room,
		.user = config->user,
	};
	int err;

	if (fs == NULL) {
		return -ENOMEM;
	}
	fs->config = *config;
	fs->answered = !config->by_us;
	frames.carrier = (struct mt_carrier){.send = send_bytes, .user = fs};
	err = mt_frames_new(&fs->frames, &frames);
	if (err < 0) {
		mt_mem_release(config->mem, fs);
		return err;
	}
	mt_stream_set_handler(config->stream, &handler, fs);
	*out = fs;
	return 0;
}

void mt_frames_stream_free(struct mt_frames_stream *fs, uint64_t app_code)
{
	if (fs == NULL) {
		return;
	}
	mt_frames_free(fs->frames);
	mt_stream_release(fs->config.stream, app_code);
	mt_mem_release(fs->config.mem, fs);
}

struct mt_frames *mt_frames_stream_frames(struct mt_frames_stream *fs)
{
	return fs->frames;
}
