/* What carries one request to the server and its tunnel: a QUIC stream, or a TLS connection of its
 * own. Both are used like a pair of bounded queues, with the ends of a QUIC stream: FIN is
 * close_notify on TLS, a reset is an RST. One thread; events come from the loop, never from within
 * another call, so a handler may call anything here.
 */
#pragma once

#include "proto/io/poller.h"
#include "proto/quic/mem.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct mt_carrier;
struct mt_join;

/* Events coalesce: one call may stand for several. Any member may be NULL. */
struct mt_carrier_handler {
	/* New bytes, or the server's FIN, can be read. */
	void (*on_readable)(struct mt_carrier *c, void *user);
	/* mt_carrier_send_space has grown from 0. */
	void (*on_writable)(struct mt_carrier *c, void *user);
	/* The server reset its direction, or wants no more of ours (MT_APP_* codes). */
	void (*on_cut)(struct mt_carrier *c, uint64_t app_code, void *user);
	/* Both directions have ended (0), or the connection below has (MT_E_CLOSED, MT_E_RESET,
	 * MT_E_TIMEOUT). Last event; what had arrived can still be read.
	 */
	void (*on_end)(struct mt_carrier *c, int err, void *user);
};

void mt_carrier_set_handler(
	struct mt_carrier *c, const struct mt_carrier_handler *handler, void *user);

/* Receiving: bytes stay queued until consumed, and hold up the server when they are many. */
size_t mt_carrier_readable(const struct mt_carrier *c);
/* Borrows the queued bytes as at most `max` pieces; returns the number of pieces. */
size_t mt_carrier_peek(const struct mt_carrier *c, struct iovec *iov, size_t max);
void mt_carrier_consume(struct mt_carrier *c, size_t len);
/* The server's FIN is behind what is queued. */
bool mt_carrier_fin_received(const struct mt_carrier *c);

/* Sending: how many bytes mt_carrier_send takes now. */
size_t mt_carrier_send_space(const struct mt_carrier *c);
/* Copies `len` bytes in. All or nothing: MT_E_AGAIN without space, MT_E_CLOSED after the end,
 * -ENOMEM.
 */
int mt_carrier_send(struct mt_carrier *c, const void *data, size_t len) MT_MUST_CHECK;
/* FIN behind what was sent. Repeated calls do nothing. */
void mt_carrier_send_fin(struct mt_carrier *c);

/* The user is done: no event follows, the carrier is gone. What is still open is reset with
 * `app_code`; with both directions finished by FIN the data still travels to its end. NULL is
 * allowed.
 */
void mt_carrier_release(struct mt_carrier *c, uint64_t app_code);

/* How an application's socket is joined with a carrier; see proto/io/pump.h for what ends how. */
struct mt_join_config {
	struct mt_poller *poller; /* borrowed, as `mem` */
	struct mt_mem *mem;
	int fd; /* taken: closed by the join. Not in the poller any more. */
	/* Everything is closed; the join is freed right afterwards. From the loop, never from
	 * within mt_carrier_join or mt_join_cancel.
	 */
	void (*on_end)(struct mt_join *join, void *user);
	void *user;
};

/* Joins both directions until they end; takes the carrier, what it has queued goes first. On
 * failure the caller keeps carrier and descriptor: a negative errno.
 */
int mt_carrier_join(struct mt_join **out, struct mt_carrier *c,
	const struct mt_join_config *config) MT_MUST_CHECK;
/* Cuts both directions now: reset with `app_code`, the socket closed by RST; no on_end. */
void mt_join_cancel(struct mt_join *join, uint64_t app_code);
