/* What the daemon knows about its own health: verdicts with the command that mends what is wrong.
 * Control thread. */
#pragma once

#include "daemon/appliance.h"

#include <jansson.h>
#include <stdint.h>

/* How the workers' sockets fare, summed up. */
struct mt_doctor_sockets {
	uint64_t messages;
	uint64_t gso_fallbacks;
};

/* A list of {"check", "verdict" ("ok", "warn", "fail", "info"), "text", "next"}; NULL without
 * memory. */
json_t *mt_doctor_checks(struct mt_appliance *a, const struct mt_doctor_sockets *sockets);
