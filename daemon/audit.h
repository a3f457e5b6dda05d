/* The audit trail: who changed what, with old and new values, without secrets. Control thread. */
#pragma once

#include "daemon/appliance.h"

#include <jansson.h>
#include <sys/types.h>

/* Who asks for a change, as the kernel says. */
struct mt_actor {
	uid_t uid;
	pid_t pid;
};

/* What is stored about the object that a verb is about to change; NULL where the answer itself says
 * it, or nothing is known. For mt_audit_record. */
json_t *mt_audit_before(struct mt_appliance *a, const char *verb, const json_t *args);
/* Records a change that has been made. `args` and `result` are borrowed, as is `before` (may be
 * NULL). A trail that cannot be written is logged: the change stays. */
void mt_audit_record(struct mt_appliance *a, const struct mt_actor *actor, const char *verb,
	const json_t *args, const json_t *before, const json_t *result);
/* What differs between two sets of settings, as an entry's detail. NULL without memory. */
json_t *mt_audit_settings(const struct mt_settings *before, const struct mt_settings *after);
/* The daemon's own changes, and those of its command line. Takes `detail`. */
void mt_audit_record_own(struct mt_appliance *a, const char *verb, json_t *detail);
