/* Tells when addresses, routes or links of this machine have changed (rtnetlink). */
#pragma once

#include "proto/wire/err.h"

#include <uv.h>

struct mt_netwatch;

/* `on_change` follows from the loop, once for a burst of changes. A negative errno. */
int mt_netwatch_start(struct mt_netwatch **out, uv_loop_t *loop, void (*on_change)(void *user),
	void *user) MT_MUST_CHECK;
/* The memory goes when the loop has run again. NULL is allowed. */
void mt_netwatch_stop(struct mt_netwatch *w);
