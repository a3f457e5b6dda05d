#include "daemon/metrics.h"
#include "daemon/stats.h"
#include "daemon/verbs.h"
#include "proto/wire/message.h"

#include <stdint.h>

void mt_verb_status(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	(void)args;
	mt_reply_result(reply, mt_status_json(&a->facts, a->counters));
}

void mt_verb_version(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	(void)args;
	mt_reply_result(reply, json_pack("{s:s, s:i, s:i}", "version", MT_VERSION, "protocol",
				       MT_MESSAGE_SCHEMA, "store", mt_store_version(a->store)));
}

void mt_verb_stats(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *workers = json_array();

	(void)args;
	for (unsigned i = 0; i < a->facts.workers; i++) {
		if (json_array_append_new(workers, mt_stats_counters(&a->counters[i], 1)) != 0) {
			json_decref(workers);
			workers = NULL;
			break;
		}
	}
	mt_reply_result(reply,
		json_pack("{s:o, s:o}", "counters",
			mt_stats_counters(a->counters, a->facts.workers), "workers", workers));
}

void mt_verb_events(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const json_t *after = json_object_get(args, "after");

	if (after != NULL &&
		(!json_is_integer(after) || json_integer_value(after) > INT64_MAX / 2)) {
		mt_reply_error(reply, "invalid", "after is the number of an event", "");
		return;
	}
	mt_events_read(&a->events, json_integer_value(after),
		json_is_true(json_object_get(args, "wait")), reply);
}

void mt_verb_drain(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	(void)args;
	mt_appliance_drain(a, NULL, NULL);
	mt_reply_result(reply,
		json_pack("{s:s, s:I}", "state",
			a->facts.state == MT_STATE_DRAINED ? "drained" : "draining", "tunnels",
			(json_int_t)mt_metric_sum_of(
				"tunnels_active", a->counters, a->facts.workers)));
}
