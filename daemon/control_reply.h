/* An answer on its way: what it needs to find its peer and the audit trail. Control thread. */
#pragma once

#include "daemon/audit.h"
#include "daemon/control.h"
#include "daemon/verbs.h"

struct mt_reply {
	void (*deliver)(void *peer, char *line); /* takes `line`, NULL without memory */
	void *peer;                              /* NULL once it is gone */
	struct mt_appliance *appliance;
	struct mt_actor actor;
	const struct mt_verb *change; /* a verb that changes something; else NULL */
	json_t *args;                 /* of `change` */
	json_t *before;
	void (*gone)(struct mt_reply *reply, void *user); /* NULL: nobody asks */
	void *gone_user;
};

/* The peer is gone, or will wait no longer: nobody hears the answer. May free `reply`. */
void mt_reply_forsake(struct mt_reply *reply);
