/* The first bytes of a stream's queue as one piece. */
#pragma once

#include "proto/quic/stream.h"

#include <stddef.h>
#include <stdint.h>

/* Copies at most `cap` bytes from the front and leaves them queued; returns how many. */
size_t mt_stream_front(const struct mt_stream *s, uint8_t *out, size_t cap);
