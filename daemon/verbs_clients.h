/* What the verbs about clients share. Control thread. */
#pragma once

#include "daemon/appliance.h"
#include "daemon/control.h"
#include "store/store.h"

#include <jansson.h>

/* A client as its verbs answer it, with what it has used up to now; NULL without memory. */
json_t *mt_client_json(struct mt_appliance *a, const struct mt_store_client *client);
/* Answers that a client could not be found or changed. */
void mt_client_refuse(struct mt_appliance *a, struct mt_reply *reply, int err, const char *name);
