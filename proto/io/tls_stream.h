/* TLS over TCP as a stream of proto/quic/stream.h: one connection carries one stream, so whatever
 * uses a stream works over both. What the carrier cannot say is said by the end of the connection:
 *
 *   FIN            close_notify and a TCP FIN
 *   RESET_STREAM   RST of the whole connection: both directions end; so does STOP_SENDING, unless
 * it comes from a release behind our own FIN, which is delivered first a reset        ends both
 * directions: on_reset, or on_stop when all of the peer's bytes had come
 *
 * on_end(0) comes once both sides have ended and our bytes are with the kernel. One thread.
 */
#pragma once

#include "proto/io/poller.h"
#include "proto/io/tls_socket.h"
#include "proto/quic/mem.h"
#include "proto/quic/stream.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MT_TLS_HANDSHAKE_MS 5000
#define MT_TLS_LINGER_MS    2000 /* for the peer to take what we sent last */

/* The connections of one loop. */
struct mt_tls_loop;

int mt_tls_loop_new(struct mt_tls_loop **out, uv_loop_t *loop, struct mt_poller *poller,
	struct mt_mem *mem) MT_MUST_CHECK;
/* Ends by RST what is still there, without a word to anybody; before the poller goes. The loop must
 * run once more. NULL is allowed. */
void mt_tls_loop_free(struct mt_tls_loop *l);
/* Whether new connections try kernel TLS; off at first. */
void mt_tls_loop_set_kernel(struct mt_tls_loop *l, bool kernel);
/* Connections behind their handshake that nobody has released. */
size_t mt_tls_loop_open(const struct mt_tls_loop *l);
/* Connections in their handshake. */
size_t mt_tls_loop_half_open(const struct mt_tls_loop *l);

/* Ends the handshake that has taken longest, as when its time is over, to make room for another:
 * whoever only connects and says nothing gives way then to whoever does not. */
void mt_tls_loop_shed(struct mt_tls_loop *l);

/* All may be NULL; none comes from inside a call. */
struct mt_tls_stream_events {
	/* The handshake is done: the stream can be used. A client hears of the server's verdict on
	 * its identity only with the first answer. */
	void (*on_established)(struct mt_stream *s, void *user);
	/* The handshake has failed, or has taken too long; `socket` says why. The stream is
	 * released already. */
	void (*on_failed)(const struct mt_tls_socket *socket, void *user);
	/* The connection is gone; called last, once, for every stream. */
	void (*on_gone)(const struct mt_tls_socket *socket, void *user);
	void *user;
};

/* Takes the descriptor (connected, non-blocking) and begins the handshake. The stream belongs to
 * the caller until mt_stream_release or on_failed. On failure the caller keeps the descriptor.
 */
int mt_tls_stream_accept(struct mt_stream **out, struct mt_tls_loop *l, int fd,
	struct mt_tls_server *tls, mt_tls_authorize_fn authorize,
	const struct mt_tls_stream_events *events) MT_MUST_CHECK;
int mt_tls_stream_connect(struct mt_stream **out, struct mt_tls_loop *l, int fd,
	struct mt_tls_client *tls, const struct mt_tls_stream_events *events) MT_MUST_CHECK;
/* Whom the events are told to from now on. */
void mt_tls_stream_set_user(struct mt_stream *s, void *user);
/* NULL for a stream that is not of this kind. */
const struct mt_tls_socket *mt_tls_stream_socket(const struct mt_stream *s);
