/* Pipes for splice(), kept for the next user: empty ones only, large where the system allows it.
 * One thread.
 */
#pragma once

#include "proto/quic/counters.h"
#include "proto/wire/err.h"

#include <stddef.h>

#define MT_PIPE_BYTES (1024 * 1024)
#define MT_PIPES_IDLE 64 /* kept for later; others are closed */

struct mt_pipes;

struct mt_pipe {
	int read_fd;
	int write_fd;
	size_t held; /* bytes in it, by the user's account */
	struct mt_pipe *next;
};

/* NULL without memory. `missing` counts how often there was no pipe; borrowed, it outlives them. */
struct mt_pipes *mt_pipes_new(mt_counter *missing);
/* All pipes have been given back. NULL is allowed. */
void mt_pipes_free(struct mt_pipes *pipes);
/* An empty pipe, non-blocking at both ends. A negative errno. */
int mt_pipes_get(struct mt_pipes *pipes, struct mt_pipe **out) MT_MUST_CHECK;
/* Takes it back; one that still holds bytes is closed. */
void mt_pipes_put(struct mt_pipes *pipes, struct mt_pipe *pipe);
size_t mt_pipes_in_use(const struct mt_pipes *pipes);
