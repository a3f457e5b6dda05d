/* The stream-to-socket pump: joins one QUIC stream with one connected, non-blocking stream socket,
 * both directions, with back-pressure, half-close and resets, on server and client alike. One
 * thread.
 *
 *   socket EOF
 *     -> FIN on the stream
 *   socket error or reset
 *     -> RESET_STREAM and STOP_SENDING with MT_APP_TARGET_RESET, the socket is closed by RST
 *   stream FIN
 *     -> all bytes written, then shutdown(SHUT_WR)
 *   RESET_STREAM
 *     -> the socket is closed by RST (a cut transfer is never seen as a complete one)
 *   STOP_SENDING
 *     -> no more reading from the socket; closed by RST once the other direction is over, or,
 *        while bytes of that are still on their way, by a close that resets what comes later
 *   connection lost
 *     -> as RESET_STREAM, unless both FINs had been exchanged and only delivery was left
 */
#pragma once

#include "proto/io/bucket.h"
#include "proto/io/pacer.h"
#include "proto/io/poller.h"
#include "proto/quic/stream.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stdint.h>

struct mt_pump;

struct mt_pump_result {
	uint64_t bytes_to_stream; /* payload read from the socket */
	uint64_t bytes_to_socket;
	/* 0: both directions ended by FIN; MT_E_RESET: cut; or a negative errno of the socket */
	int err;
	uint64_t app_code; /* of the peer's reset, if that was it */
};

struct mt_pump_config {
	struct mt_poller *poller;
	struct mt_stream *stream; /* taken: released by the pump */
	int fd;                   /* taken: closed by the pump. Not in the poller any more. */
	/* After everything is closed and released; the pump's memory is freed right afterwards.
	 * Called from the loop, never from within mt_pump_start or mt_pump_cancel.
	 */
	void (*on_end)(struct mt_pump *pump, const struct mt_pump_result *result, void *user);
	/* The socket's first byte was read; for measuring only: nothing of the pump may be called.
	 * May be NULL.
	 */
	void (*on_first_byte)(void *user);
	void *user;
	struct mt_mem *mem; /* the pump's own memory comes from here */
	/* What payload each direction may move, by the clock of uv_hrtime. The buckets outlive the
	 * pump; all NULL: no limit. Without a pacer (NULL) there must be none.
	 */
	struct mt_buckets to_stream;
	struct mt_buckets to_socket;
	struct mt_pacer *pacer;
};

/* What the stream has queued already is delivered first. On failure the caller keeps stream and
 * descriptor. */
int mt_pump_start(struct mt_pump **out, const struct mt_pump_config *config) MT_MUST_CHECK;
/* Cuts both directions now: stream reset with `app_code`, socket closed by RST, no on_end. Frees
 * the pump. */
void mt_pump_cancel(struct mt_pump *pump, uint64_t app_code);
uint64_t mt_pump_bytes_to_stream(const struct mt_pump *pump);
uint64_t mt_pump_bytes_to_socket(const struct mt_pump *pump);
