/* A bounded queue of short texts from many threads to one: no lock, no wait, no memory after the
 * start. What does not fit is refused.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>

struct mt_log_ring;

/* `bytes` is a power of two, at least 64; a text costs its length and up to 15 bytes. NULL without
 * memory. */
struct mt_log_ring *mt_log_ring_new(size_t bytes);
void mt_log_ring_free(struct mt_log_ring *ring); /* NULL is allowed */
/* Any thread; copies. False when there is no room. */
bool mt_log_ring_put(struct mt_log_ring *ring, const void *text, size_t len);
/* The reader's thread: copies the oldest text and frees its place. 0: there is none, or none that
 * is complete; SIZE_MAX: it is longer than `cap`, and still there. */
size_t mt_log_ring_take(struct mt_log_ring *ring, void *out, size_t cap);
/* The reader's thread: whether mt_log_ring_take would find something. */
bool mt_log_ring_has_text(struct mt_log_ring *ring);
