#include "daemon/gather.h"
#include "daemon/metrics.h"
#include "daemon/stats.h"
#include "daemon/verbs.h"
#include "daemon/worker.h"
#include "proto/wire/message.h"
#include "proto/wire/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The rows of every worker, gathered on their own threads. */
struct listing {
	struct mt_reply *reply;
	struct mt_rows of[MT_WORKERS_MAX];
	char client[MT_NAME_MAX + 1]; /* empty: all */
	const char *sort;             /* a field of the answer, NULL: as it comes */
	size_t limit;                 /* 0: all */
};

/* Fields to sort by; numbers have the largest first. */
static const char *const sort_keys[] = {"client", "peer", "connected_at", "rtt_ms",
	"bytes_received", "bytes_sent", "streams", "udp_flows", "worker", "id"};

static bool gather(struct mt_worker *w, unsigned index, void *user)
{
	struct listing *l = user;

	return mt_gather_some(w, &l->of[index]);
}

static json_t *row_json(const struct mt_connection_row *row)
{
	char peer[MT_ADDR_TEXT_MAX];
	char trace[MT_TRACE_TEXT_MAX] = "";

	if (row->trace != 0) {
		(void)mt_trace_format_connection(trace, row->trace); /* returns `trace` */
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:s, s:I, s:I, s:i, s:i}", "id",
		row->id, "client", row->client, "peer",
		mt_addr_format(&row->peer, peer, sizeof(peer)), "transport",
		row->is_tls ? "tls" : "quic", "trace", trace, "worker", (int)row->worker,
		"connected_at", (json_int_t)row->connected_at, "rtt_ms", row->rtt_ms,
		"congestion_control", row->is_tls ? "kernel" : mt_cc_text(row->congestion_control),
		"bytes_received", (json_int_t)row->bytes_received, "bytes_sent",
		(json_int_t)row->bytes_sent, "streams", (int)row->streams, "udp_flows",
		(int)row->udp_flows);
}

/* What a row is sorted by, beside the row itself. */
struct ranked {
	json_t *row; /* borrowed */
	json_t *by;  /* borrowed */
};

static int compare(const void *x, const void *y)
{
	const json_t *a = ((const struct ranked *)x)->by;
	const json_t *b = ((const struct ranked *)y)->by;

	if (json_is_string(a)) {
		return strcmp(json_string_value(a), json_string_value(b));
	}
	return (json_number_value(a) < json_number_value(b)) -
	       (json_number_value(a) > json_number_value(b));
}

/* Takes `list`; returns another one, NULL without memory. */
static json_t *sort_and_cut(json_t *list, const char *sort, size_t limit)
{
	size_t count = json_array_size(list);
	size_t kept = limit > 0 && limit < count ? limit : count;
	struct ranked *rows = calloc(count + 1, sizeof(*rows));
	json_t *out = json_array();
	int bad = rows == NULL;

	for (size_t i = 0; i < count && bad == 0; i++) {
		rows[i].row = json_array_get(list, i);
		rows[i].by = sort != NULL ? json_object_get(rows[i].row, sort) : NULL;
	}
	if (sort != NULL && bad == 0) {
		qsort(rows, count, sizeof(*rows), compare);
	}
	for (size_t i = 0; i < kept && bad == 0; i++) {
		bad = json_array_append(out, rows[i].row);
	}
	free(rows);
	json_decref(list);
	if (bad != 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

static json_t *listing_json(const struct listing *l)
{
	json_t *list = json_array();
	size_t total = 0;

	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		for (size_t i = 0; i < l->of[w].count; i++) {
			const struct mt_connection_row *row = &l->of[w].rows[i];

			total++;
			if (l->client[0] != '\0' && strcmp(l->client, row->client) != 0) {
				continue;
			}
			if (json_array_append_new(list, row_json(row)) != 0) {
				json_decref(list);
				return NULL;
			}
		}
		if (l->of[w].failed) {
			json_decref(list);
			return NULL;
		}
	}
	list = sort_and_cut(list, l->sort, l->limit);
	return json_pack("{s:o, s:I}", "connections", list, "total", (json_int_t)total);
}

static void listed(void *user, bool cancelled)
{
	struct listing *l = user;

	if (cancelled) {
		mt_reply_error(l->reply, "stopping", "the daemon is stopping", "");
	} else {
		mt_reply_result(l->reply, listing_json(l));
	}
	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		free(l->of[w].rows);
	}
	free(l);
}

/* On failure the reply has been answered. */
static int read_filters(struct listing *l, json_t *args, struct mt_reply *reply)
{
	const char *client = json_string_value(json_object_get(args, "client"));
	const char *sort = json_string_value(json_object_get(args, "sort"));
	json_int_t limit = json_integer_value(json_object_get(args, "limit"));

	if (client != NULL && (*client == '\0' || strlen(client) >= sizeof(l->client))) {
		mt_reply_error(
			reply, "invalid", "no client has such a name", "mytunnelctl client list");
		return MT_E_RANGE;
	}
	if (client != NULL) {
		memcpy(l->client, client, strlen(client) + 1);
	}
	l->limit = limit > 0 ? (size_t)limit : 0;
	for (size_t i = 0; sort != NULL && i < sizeof(sort_keys) / sizeof(sort_keys[0]); i++) {
		if (strcmp(sort, sort_keys[i]) == 0) {
			l->sort = sort_keys[i];
		}
	}
	if (sort != NULL && l->sort == NULL) {
		mt_reply_error(reply, "invalid",
			"connections can be sorted by client, peer, connected_at, rtt_ms, "
			"bytes_received, bytes_sent, streams, udp_flows, worker or id",
			"mytunnelctl connections --sort bytes_sent");
		return MT_E_RANGE;
	}
	return 0;
}

void mt_verb_connections(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	static const struct mt_round_ops ops = {.work_some = gather, .done = listed};
	struct listing *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	if (read_filters(l, args, reply) != 0) {
		free(l);
		return;
	}
	l->reply = reply;
	if (mt_appliance_ask(a, -1, &ops, l) != 0) {
		free(l);
		mt_reply_result(reply, NULL);
	}
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

struct kick {
	struct mt_reply *reply;
	char id[24];
	uint64_t serial;
	int result;
};

static void kick_one(struct mt_worker *w, unsigned index, void *user)
{
	struct kick *k = user;

	(void)index;
	k->result = mt_worker_kick(w, k->serial);
}

static void kick_answer(struct kick *k, int rv)
{
	char message[96];

	if (rv == 0) {
		mt_reply_result(k->reply, json_pack("{s:s}", "kicked", k->id));
	} else {
		(void)snprintf(message, sizeof(message),
			"there is no connection '%s'; nothing was ended", k->id);
		mt_reply_failure(k->reply, rv, rv == MT_E_NOT_FOUND ? message : mt_strerror(rv),
			"mytunnelctl connections");
	}
	free(k);
}

static void kicked(void *user, bool cancelled)
{
	struct kick *k = user;

	kick_answer(k, cancelled ? MT_E_CLOSED : k->result);
}

/* "WORKER-SERIAL", digits and nothing else. */
static int parse_id(const char *id, unsigned *worker, uint64_t *serial)
{
	size_t first = strspn(id, "0123456789");
	size_t second = id[first] == '-' ? strspn(id + first + 1, "0123456789") : 0;

	if (first == 0 || first > 3 || second == 0 || second > 19 ||
		id[first + 1 + second] != '\0') {
		return MT_E_MALFORMED;
	}
	*worker = (unsigned)strtoul(id, NULL, 10);
	*serial = strtoull(id + first + 1, NULL, 10);
	return 0;
}

void mt_verb_kick(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	static const struct mt_round_ops ops = {.work = kick_one, .done = kicked};
	const char *id = json_string_value(json_object_get(args, "id"));
	unsigned worker = 0;
	struct kick *k;
	uint64_t serial = 0;
	int rv;

	if (id == NULL || parse_id(id, &worker, &serial) != 0) {
		mt_reply_error(reply, "invalid", "an id looks like 0-12; nothing was ended",
			"mytunnelctl connections");
		return;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	k->reply = reply;
	k->serial = serial;
	(void)snprintf(k->id, sizeof(k->id), "%u-%" PRIu64, worker,
		serial); /* at most 3 + 1 + 19 characters */
	rv = mt_appliance_ask(a, (int)worker, &ops, k);
	if (rv != 0) {
		kick_answer(k, rv);
	}
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
