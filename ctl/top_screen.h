/* The picture that `top` shows, as text: two samples of the daemon's answers in, lines out. Knows
 * no terminal. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum mt_top_order {
	MT_TOP_BY_RATE,
	MT_TOP_BY_NAME,
	MT_TOP_BY_RTT,
	MT_TOP_BY_STREAMS,
	MT_TOP_BY_TOTAL,
};

/* The daemon's answers at one moment; NULL: none yet. */
struct mt_top_sample {
	json_t *status;
	json_t *stats;
	json_t *connections;
	double at; /* monotonic seconds */
};
void mt_top_sample_clear(struct mt_top_sample *s);

struct mt_top_view {
	const struct mt_top_sample *now;
	const struct mt_top_sample *before; /* its answers are NULL at first: no rates */
	unsigned columns;
	unsigned lines;
	bool by_client; /* a row for each client, else for each connection */
	bool color;
	enum mt_top_order order;
	size_t first;        /* rows that are scrolled away */
	const char *problem; /* why the picture is old; NULL or "" when it is not */
};

/* Writes exactly `lines` lines of at most `columns` characters, each begun by "\033[K" and all but
 * the last ended by "\n". 0 or -ENOMEM. `*rows` is how many rows there are in all. */
int mt_top_draw(FILE *out, const struct mt_top_view *view, size_t *rows);
