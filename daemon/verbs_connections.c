/* What is connected now, and ending one of them. */
#include "daemon/gather.h"
#include "daemon/verbs.h"
#include "daemon/worker.h"
#include "proto/wire/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The rows of every worker, gathered on their own threads. */
struct listing {
	struct mt_reply *reply;
	struct mt_rows of[MT_WORKERS_MAX];
	char client[MT_NAME_MAX + 1]; /* empty: all */
	const struct sort_key *sort;  /* NULL: as they come */
	size_t limit;                 /* 0: all */
};

static int by_client(const struct mt_connection_row *a, const struct mt_connection_row *b)
{
	return strcmp(a->client, b->client);
}

static int by_peer(const struct mt_connection_row *a, const struct mt_connection_row *b)
{
	char x[MT_ADDR_TEXT_MAX];
	char y[MT_ADDR_TEXT_MAX];

	return strcmp(
		mt_addr_format(&a->peer, x, sizeof(x)), mt_addr_format(&b->peer, y, sizeof(y)));
}

static int by_id(const struct mt_connection_row *a, const struct mt_connection_row *b)
{
	return strcmp(a->id, b->id);
}

/* Numbers have the largest first. */
#define LARGEST_FIRST(field)                                                                       \
	static int by_##field(                                                                     \
		const struct mt_connection_row *a, const struct mt_connection_row *b)              \
	{                                                                                          \
		return (a->field < b->field) - (a->field > b->field);                              \
	}
LARGEST_FIRST(connected_at)
LARGEST_FIRST(rtt_ms)
LARGEST_FIRST(bytes_received)
LARGEST_FIRST(bytes_sent)
LARGEST_FIRST(streams)
LARGEST_FIRST(udp_flows)
LARGEST_FIRST(worker)

static const struct sort_key {
	const char *name;
	int (*compare)(const struct mt_connection_row *a, const struct mt_connection_row *b);
} sort_keys[] = {{"client", by_client}, {"peer", by_peer}, {"connected_at", by_connected_at},
	{"rtt_ms", by_rtt_ms}, {"bytes_received", by_bytes_received}, {"bytes_sent", by_bytes_sent},
	{"streams", by_streams}, {"udp_flows", by_udp_flows}, {"worker", by_worker}, {"id", by_id}};

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

static int compare(const void *x, const void *y, void *how)
{
	const struct sort_key *key = how;

	return key->compare(*(const struct mt_connection_row *const *)x,
		*(const struct mt_connection_row *const *)y);
}

/* All that were gathered, in their order; NULL without memory. */
static const struct mt_connection_row **in_order(const struct listing *l, size_t count)
{
	const struct mt_connection_row **rows = calloc(count + 1, sizeof(*rows));
	size_t n = 0;

	for (size_t w = 0; rows != NULL && w < MT_WORKERS_MAX; w++) {
		for (size_t i = 0; i < l->of[w].count; i++) {
			rows[n++] = &l->of[w].rows[i];
		}
	}
	if (rows != NULL && l->sort != NULL) {
		qsort_r(rows, count, sizeof(const struct mt_connection_row *), compare,
			(void *)(uintptr_t)l->sort);
	}
	return rows;
}

/* Only of those rows that are wanted JSON is made. */
static json_t *listing_json(const struct listing *l)
{
	const struct mt_connection_row **rows;
	json_t *list = json_array();
	size_t total = 0;
	size_t count = 0;
	size_t wanted;
	bool failed = false;

	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		total += l->of[w].total;
		count += l->of[w].count;
		failed = failed || l->of[w].failed;
	}
	wanted = l->limit > 0 && l->limit < count ? l->limit : count;
	rows = failed ? NULL : in_order(l, count);
	for (size_t i = 0; rows != NULL && i < wanted && !failed; i++) {
		failed = json_array_append_new(list, row_json(rows[i])) != 0;
	}
	if (rows == NULL || failed) {
		json_decref(list);
		list = NULL; /* json_pack fails then */
	}
	free(rows);
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
		if (strcmp(sort, sort_keys[i].name) == 0) {
			l->sort = &sort_keys[i];
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
	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		l->of[w].client = l->client[0] != '\0' ? l->client : NULL;
		l->of[w].limit = l->sort == NULL ? l->limit : 0; /* the first ones can be any */
	}
	if (mt_appliance_ask(a, -1, &ops, l) != 0) {
		free(l);
		mt_reply_result(reply, NULL);
	}
}

struct kick {
	struct mt_reply *reply;
	char id[24];
	uint64_t serial;
	int result;
	struct mt_walk walk;
};

static bool kick_one(struct mt_worker *w, unsigned index, void *user)
{
	struct kick *k = user;

	(void)index;
	return mt_worker_kick_some(w, &k->walk, k->serial, &k->result);
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
	static const struct mt_round_ops ops = {.work_some = kick_one, .done = kicked};
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
	k->result = MT_E_NOT_FOUND;
	(void)snprintf(k->id, sizeof(k->id), "%u-%" PRIu64, worker,
		serial); /* at most 3 + 1 + 19 characters */
	rv = mt_appliance_ask(a, (int)worker, &ops, k);
	if (rv != 0) {
		kick_answer(k, rv);
	}
}
