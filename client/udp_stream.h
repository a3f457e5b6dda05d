/* The stream that carries UDP where datagrams do not: opened when it is needed, given up when it is
 * idle. One thread.
 */
#pragma once

#include "client/uplink.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_udp_stream;

struct mt_udp_stream_config {
	uv_loop_t *loop;
	struct mt_mem *mem;
	struct mt_uplink *uplink;
	void (*on_datagram)(void *user, const uint8_t *data, size_t len);
	void *user;
};

/* NULL without memory. */
struct mt_udp_stream *mt_udp_stream_new(const struct mt_udp_stream_config *config);
void mt_udp_stream_free(struct mt_udp_stream *s); /* NULL is allowed */
/* Sends a datagram of two parts, or queues it until the stream is there; the oldest gives way when
 * there are too many. MT_E_TOO_LONG, MT_E_UNSUPPORTED when the server has refused such a stream a
 * short while ago, or why none can be had.
 */
int mt_udp_stream_send(struct mt_udp_stream *s, const void *head, size_t head_len, const void *body,
	size_t body_len) MT_MUST_CHECK;
/* Now and then. */
void mt_udp_stream_tick(struct mt_udp_stream *s);
uint64_t mt_udp_stream_dropped(const struct mt_udp_stream *s); /* datagrams, for want of room */
