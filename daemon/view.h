/* What the HTTP endpoint shows of the daemon (web/view.h): from the board and the counters, on HTTP
 * threads. */
#pragma once

#include "daemon/status.h"
#include "web/view.h"

/* Borrows `board`. */
void mt_view_init(struct mt_web_view *out, struct mt_board *board);
