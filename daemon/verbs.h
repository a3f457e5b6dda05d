/* The verbs of the control socket: one table, a handler each. A handler answers its reply exactly
 * once, then or later, and answers success only when every worker works by the change. Control
 * thread.
 */
#pragma once

#include "daemon/appliance.h"
#include "daemon/control.h"

#include <jansson.h>
#include <stddef.h>

struct mt_verb {
	const char *name;
	enum mt_rights needs;
	/* `args` is borrowed for the call. */
	void (*run)(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
};

/* NULL when unknown. */
const struct mt_verb *mt_verb_find(const char *name);
const struct mt_verb *mt_verbs_table(size_t *count);

void mt_verb_status(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_stats(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_version(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_connections(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_events(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_kick(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_token_create(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_token_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_drain(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_get(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_set(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_reset(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_confirm(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_describe(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_client_add(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_revoke(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_client_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_access_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_access_add(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_access_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_access_test(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_client_show(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_set(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_enable(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_disable(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_client_kick(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

void mt_verb_cert_show(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_cert_import(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_cert_renew(struct mt_appliance *a, json_t *args, struct mt_reply *reply);

/* A backup travels as text; what is to be put back comes in parts, since requests are short. */
void mt_verb_backup(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_restore_begin(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_restore_part(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_restore_finish(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
/* What connections do, as qlog: whoever has started a trace reads it, or it ends by itself. */
void mt_verb_trace_start(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_trace_read(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_trace_stop(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_trace_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_audit(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
void mt_verb_doctor(struct mt_appliance *a, json_t *args, struct mt_reply *reply);
