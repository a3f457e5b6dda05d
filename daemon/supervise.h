/* The life of the process: signals, the bounded drain at the end, and what the service manager is
 * told. */
#pragma once

#include "daemon/appliance.h"
#include "daemon/control.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <uv.h>

#define MT_DRAIN_MS 10000 /* for open tunnels to end after SIGTERM */

struct mt_supervisor {
	struct mt_appliance *appliance;
	struct mt_control *control;
	uv_signal_t term;
	uv_signal_t intr;
	uv_timer_t drain;
	uv_timer_t watchdog;
	bool watchdog_pending; /* a question to the workers is under way */
	bool stopping;
	bool stopped;
};

/* Takes SIGTERM and SIGINT, tells the service manager that the daemon is ready, and feeds its
 * watchdog for as long as every worker answers. After a signal: drains, stops the control socket
 * and the appliance, and leaves the loop with nothing to do.
 */
int mt_supervisor_start(struct mt_supervisor *s, uv_loop_t *loop, struct mt_appliance *appliance,
	struct mt_control *control) MT_MUST_CHECK;
