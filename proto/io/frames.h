/* Datagrams over a stream of bytes, both directions (PROTOCOL.md, section 7.2), whatever carries
 * the bytes: a stream of QUIC (frames_stream.h) or a TLS connection. A carrier that does not keep
 * up loses the oldest datagrams, as UDP does. One thread.
 */
#pragma once

#include "proto/quic/mem.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_FRAMES_QUEUE_MAX   64 /* datagrams that wait for the carrier */
#define MT_FRAMES_QUEUE_BYTES ((size_t)512 * 1024)

/* Where the bytes go. */
struct mt_carrier {
	/* Takes a copy of all bytes or of none: 0; MT_E_AGAIN when there is no room now, and the
	 * carrier's owner calls mt_frames_resume when there is; any other error: the carrier has
	 * ended, what is sent is dropped. It ends nothing from inside this call. One that is empty
	 * takes MT_FRAME_HEAD + MT_FRAME_MAX bytes.
	 */
	int (*send)(void *user, const uint8_t *data, size_t len);
	void *user;
};

struct mt_frames;

struct mt_frames_stats {
	uint64_t sent; /* datagrams handed to the carrier */
	uint64_t received;
	uint64_t dropped; /* for want of room or memory, or too long */
};

struct mt_frames_config {
	struct mt_mem *mem;
	struct mt_carrier carrier;
	/* A datagram, borrowed. It must not free the frames. */
	void (*on_datagram)(void *user, const uint8_t *data, size_t len);
	/* mt_frames_room has grown, from 0 or after mt_frames_want_room; may be NULL. */
	void (*on_room)(void *user);
	void *user;
};

int mt_frames_new(struct mt_frames **out, const struct mt_frames_config *config) MT_MUST_CHECK;
/* What waits is dropped. NULL is allowed. */
void mt_frames_free(struct mt_frames *f);
/* Bytes from the other side, in any pieces, all of which are taken. */
void mt_frames_receive(struct mt_frames *f, const uint8_t *data, size_t len);
/* Sends a datagram of two parts (header, payload) or queues it; the oldest in the queue gives way.
 * MT_E_TOO_LONG beyond MT_FRAME_MAX, -ENOMEM, or the carrier's error.
 */
int mt_frames_send(struct mt_frames *f, const void *head, size_t head_len, const void *body,
	size_t body_len) MT_MUST_CHECK;
/* The carrier has room again. */
void mt_frames_resume(struct mt_frames *f);
/* How many more datagrams are taken before the oldest gives way. */
size_t mt_frames_room(const struct mt_frames *f);
/* There is too little room for what comes next: on_room says when the carrier has taken more. */
void mt_frames_want_room(struct mt_frames *f);
const struct mt_frames_stats *mt_frames_stats(const struct mt_frames *f);
