/* A worker's connections as rows, for whoever asks all workers by a round. */
#pragma once

#include "daemon/worker.h"

#include <stdbool.h>
#include <stddef.h>

struct mt_rows {
	struct mt_connection_row *rows; /* for free() */
	size_t count;
	size_t cap;
	size_t total;       /* connections there are, wanted or not */
	bool failed;        /* no memory for all of them */
	const char *client; /* only this client's; NULL: everybody's */
	size_t limit;       /* only so many; 0: all */
	struct mt_walk walk;
};

/* On the worker's thread, until it returns false; `out` is zeroed before, but for what is wanted.
 */
bool mt_gather_some(struct mt_worker *w, struct mt_rows *out);
