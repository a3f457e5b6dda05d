/* What the HTTP endpoint shows of the daemon (web/view.h): from the board and the counters, on HTTP
 * threads. */
#pragma once

#include "daemon/pictures.h"
#include "daemon/status.h"
#include "web/view.h"

struct mt_view_sources {
	struct mt_board *board;
	struct mt_pictures *pictures;
};

/* Borrows `sources` and what it names. */
void mt_view_init(struct mt_web_view *out, struct mt_view_sources *sources);
