/* A worker's connections as rows, for whoever asks all workers by a round. */
#pragma once

#include "daemon/worker.h"

#include <stdbool.h>
#include <stddef.h>

struct mt_rows {
	struct mt_connection_row *rows; /* for free() */
	size_t count;
	size_t cap;
	bool failed; /* no memory for all of them */
	struct mt_walk walk;
};

/* On the worker's thread, until it returns false; `out` is zeroed before. */
bool mt_gather_some(struct mt_worker *w, struct mt_rows *out);
