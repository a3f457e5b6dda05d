/* Datagrams over a stream of QUIC: what joins frames.h with proto/quic/stream.h. One thread. */
#pragma once

#include "proto/io/frames.h"
#include "proto/quic/stream.h"

#include <stdbool.h>

struct mt_frames_stream;

struct mt_frames_stream_config {
	struct mt_mem *mem;
	struct mt_stream *stream; /* taken: released by mt_frames_stream_free */
	bool by_us;               /* we opened it: the peer's first byte is a status */
	void (*on_datagram)(
		void *user, const uint8_t *data, size_t len); /* as in mt_frames_config */
	void (*on_room)(void *user);
	/* The stream has ended: 0 by FIN, MT_E_UNSUPPORTED for a status other than OK, or why. The
	 * owner frees; last event.
	 */
	void (*on_end)(void *user, int err);
	void *user;
};

/* What has arrived already is read by mt_frames_stream_read. On failure the caller keeps the
 * stream. */
int mt_frames_stream_new(
	struct mt_frames_stream **out, const struct mt_frames_stream_config *config) MT_MUST_CHECK;
void mt_frames_stream_read(struct mt_frames_stream *fs);
/* NULL is allowed; no event follows. */
void mt_frames_stream_free(struct mt_frames_stream *fs, uint64_t app_code);
struct mt_frames *mt_frames_stream_frames(struct mt_frames_stream *fs); /* borrowed */
