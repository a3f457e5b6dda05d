/* The end of every verb that has stored something: it is put in force, recorded and answered.
 * Control thread. */
#pragma once

#include "daemon/appliance.h"
#include "daemon/control.h"

#include <jansson.h>
#include <stdbool.h>

/* Takes `result` (NULL: could not be built for want of memory). Answers once every worker works by
 * what is stored; `renew_tls` reads the certificates again, `keep` lets tunnels go on that the
 * rules no longer allow. The change is recorded whatever becomes of it, since it is in the store.
 */
void mt_stored_publish(
	struct mt_appliance *a, struct mt_reply *reply, bool renew_tls, bool keep, json_t *result);
/* Tries again what could not be put in force; nothing when everything is. */
void mt_stored_catch_up(struct mt_appliance *a);
