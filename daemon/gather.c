#include "daemon/gather.h"

#include <stdlib.h>

static bool gather_row(const struct mt_connection_row *row, void *user)
{
	struct mt_rows *r = user;

	if (r->count == r->cap && !r->failed) {
		size_t cap = r->cap == 0 ? 64 : r->cap * 2;
		struct mt_connection_row *grown = reallocarray(r->rows, cap, sizeof(*grown));

		if (grown == NULL) {
			r->failed = true;
		} else {
			r->rows = grown;
			r->cap = cap;
		}
	}
	if (!r->failed) {
		r->rows[r->count++] = *row;
	}
	return !r->failed && (r->limit == 0 || r->count < r->limit);
}

bool mt_gather_some(struct mt_worker *w, struct mt_rows *out)
{
	out->total = mt_worker_connections(w);
	return mt_worker_some_connections(w, &out->walk, out->client, gather_row, out);
}
