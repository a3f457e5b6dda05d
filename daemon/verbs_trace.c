#include "daemon/qlogs.h"
#include "daemon/trace_desk.h"
#include "daemon/verbs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool is_client(const struct mt_appliance *a, const char *name)
{
	for (size_t i = 0; i < a->snapshot->client_count; i++) {
		if (strcmp(a->snapshot->clients[i].name, name) == 0) {
			return true;
		}
	}
	return false;
}

void mt_verb_trace_start(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *client = json_string_value(json_object_get(args, "client"));
	const char *text = "";
	int version = mt_qlog_library(&text);
	char why[MT_WHY_MAX];
	uint64_t number = 0;
	int rv;

	if (mt_qlogs_check(version, text, why, sizeof(why)) != 0) {
		mt_reply_error(reply, "unsupported", why,
			"install ngtcp2 1.22.1 or later and restart mytunneld; its tracepoints "
			"and mytunnelctl events work with every version");
		return;
	}
	if (client == NULL || !is_client(a, client)) {
		mt_reply_error(reply, "not_found", "there is no such client; nothing is traced",
			"mytunnelctl client list");
		return;
	}
	rv = mt_qlogs_start(&a->qlogs, client, (int64_t)time(NULL), uv_now(a->loop), &number);
	switch (rv) {
	case 0:
		mt_trace_desk_watch(&a->trace_desk);
		mt_reply_result(reply, json_pack("{s:I, s:s, s:s}", "trace", (json_int_t)number,
					       "client", client, "library", text));
		break;
	case MT_E_EXISTS:
		mt_reply_error(
			reply, "exists", "this client is traced already", "mytunnelctl trace list");
		break;
	default:
		(void)snprintf(why, sizeof(why), "%d traces are under way, more cannot be",
			MT_QLOGS_MAX); /* always fits */
		mt_reply_error(reply, "busy", why, "mytunnelctl trace list");
		break;
	}
}

void mt_verb_trace_read(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_int_t number = json_integer_value(json_object_get(args, "trace"));
	bool stop = json_is_true(json_object_get(args, "stop"));

	if (number <= 0) {
		mt_reply_error(reply, "invalid", "trace is the number of a trace", "");
		return;
	}
	if (stop) {
		/* One that has ended is told by the reading. */
		(void)mt_qlogs_stop(&a->qlogs, NULL, (uint64_t)number);
	}
	mt_trace_desk_read(&a->trace_desk, (uint64_t)number,
		json_is_true(json_object_get(args, "wait")), reply);
}

void mt_verb_trace_stop(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const char *client = json_string_value(json_object_get(args, "client"));
	unsigned count = mt_qlogs_stop(&a->qlogs, client, 0);

	if (count == 0) {
		mt_reply_error(reply, "not_found",
			client != NULL ? "this client is not traced" : "no client is traced",
			"mytunnelctl trace list");
		return;
	}
	mt_reply_result(reply, json_pack("{s:i}", "stopped", (int)count));
}

void mt_verb_trace_list(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_t *list = json_array();
	struct mt_qlogs_trace t;

	(void)args;
	for (unsigned i = 0; i < MT_QLOGS_MAX; i++) {
		if (!mt_qlogs_get(&a->qlogs, i, &t) || t.stopped) {
			continue;
		}
		if (json_array_append_new(list,
			    json_pack("{s:s, s:I, s:I, s:I, s:I}", "client", t.client, "started_at",
				    (json_int_t)t.started_at, "records", (json_int_t)t.records,
				    "bytes", (json_int_t)t.bytes, "lost", (json_int_t)t.lost)) !=
			0) {
			json_decref(list);
			list = NULL;
			break;
		}
	}
	mt_reply_result(reply, json_pack("{s:o}", "traces", list));
}
