/* Datagrams within a stream of bytes (PROTOCOL.md, section 7.2): Length(2) before each one. */
#pragma once

#include "proto/wire/alloc.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_FRAME_HEAD 2
#define MT_FRAME_MAX  65535 /* bytes of one datagram, header and payload together */

/* Cuts a stream into datagrams. It holds memory only while a datagram has arrived in part: as many
 * bytes as that has.
 */
struct mt_frame_reader {
	const struct mt_allocator *mem; /* borrowed */
	uint8_t head[MT_FRAME_HEAD];
	uint8_t head_len;
	bool given; /* `body` was handed out */
	uint8_t *body;
	size_t len;
	size_t fill;
};

void mt_frame_reader_init(struct mt_frame_reader *r, const struct mt_allocator *mem);
void mt_frame_reader_deinit(struct mt_frame_reader *r);
/* Takes bytes from the front of `*data` up to the end of the next datagram. 0 and the datagram
 * (borrowed until the next call or until the input goes; may be empty); MT_E_AGAIN when the input
 * is used up; -ENOMEM for a datagram that is skipped for want of memory: call again.
 */
int mt_frame_next(struct mt_frame_reader *r, const uint8_t **data, size_t *len,
	const uint8_t **datagram, size_t *datagram_len) MT_MUST_CHECK;
/* Whether the stream may end here: not within a datagram. */
bool mt_frame_reader_is_between(const struct mt_frame_reader *r);

/* Writes the length before a datagram; 0, or MT_E_TOO_LONG beyond MT_FRAME_MAX. */
int mt_frame_head(uint8_t buf[MT_FRAME_HEAD], size_t datagram_len) MT_MUST_CHECK;
