#include "daemon/status.h"

#include "daemon/metrics.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *state_text(enum mt_state state)
{
	switch (state) {
	case MT_STATE_RUNNING: return "running";
	case MT_STATE_DEGRADED: return "degraded";
	case MT_STATE_DRAINING: return "draining";
	case MT_STATE_DRAINED: return "drained";
	default: return "starting";
	}
}

int mt_board_init(struct mt_board *board, const struct mt_worker_counters *counters)
{
	memset(&board->facts, 0, sizeof(board->facts));
	board->counters = counters;
	return -pthread_mutex_init(&board->lock, NULL);
}

void mt_board_deinit(struct mt_board *board)
{
	(void)pthread_mutex_destroy(&board->lock); /* fails only while it is held */
}

void mt_board_set(struct mt_board *board, const struct mt_facts *facts)
{
	(void)pthread_mutex_lock(&board->lock); /* a plain mutex that is not held fails never */
	board->facts = *facts;
	(void)pthread_mutex_unlock(&board->lock);
}

void mt_board_get(struct mt_board *board, struct mt_facts *facts)
{
	(void)pthread_mutex_lock(&board->lock); /* as above */
	*facts = board->facts;
	(void)pthread_mutex_unlock(&board->lock);
}

static int64_t uptime_seconds(const struct mt_facts *facts)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return (int64_t)(((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec -
				 facts->started_mono_ns) /
			 1000000000u);
}

static json_t *listeners_json(const struct mt_facts *facts)
{
	json_t *list = json_array();
	char text[MT_ADDR_TEXT_MAX];

	for (size_t i = 0; i < facts->listener_count; i++) {
		(void)mt_addr_format(&facts->listeners[i], text, sizeof(text));
		if (json_array_append_new(list,
			    json_pack("{s:s, s:s}", "protocol", "quic", "address", text)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *http_json(const struct mt_facts *facts)
{
	json_t *list = json_array();
	char text[MT_ADDR_TEXT_MAX];

	for (size_t i = 0; i < facts->http_count; i++) {
		(void)mt_addr_format(&facts->http[i], text, sizeof(text));
		if (json_array_append_new(list, json_string(text)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	if (facts->http_count > 0) {
		(void)mt_addr_format(&facts->http[0], text, sizeof(text));
	}
	return json_pack("{s:b, s:s?, s:o, s:s}", "enabled", facts->http_enabled, "address",
		facts->http_count > 0 ? text : NULL, "addresses", list, "problem",
		facts->http_problem);
}

static json_t *warnings_json(const struct mt_facts *facts)
{
	json_t *list = json_array();
	int bad = 0;

	if (!facts->require_identity) {
		bad |= json_array_append_new(list,
			json_string("access.require_identity is off: anybody who reaches this "
				    "server may use it"));
	}
	if (!facts->require_identity && facts->allow_private) {
		bad |= json_array_append_new(
			list, json_string("access.allow_private is on too: anybody reaches the "
					  "private networks behind it"));
	}
	if (facts->trial_until != 0) {
		bad |= json_array_append_new(
			list, json_string("settings are on trial and go back by themselves unless "
					  "mytunnelctl confirm comes"));
	}
	if (facts->notice[0] != '\0') {
		bad |= json_array_append_new(list, json_string(facts->notice));
	}
	if (facts->http_problem[0] != '\0') {
		bad |= json_array_append_new(list, json_string(facts->http_problem));
	}
	if (bad != 0) {
		json_decref(list);
		return NULL;
	}
	return list;
}

/* Sums under their keys, without the prefix that the group's name already says. */
static json_t *sums_json(
	const struct mt_worker_counters *counters, size_t workers, const char *const (*keys)[2])
{
	json_t *o = json_object();

	for (; (*keys)[0] != NULL; keys++) {
		uint64_t sum = mt_metric_sum_of((*keys)[1], counters, workers);

		if (json_object_set_new(o, (*keys)[0], json_integer((json_int_t)sum)) != 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

json_t *mt_status_json(const struct mt_facts *facts, const struct mt_worker_counters *counters)
{
	static const char *const connections[][2] = {{"active", "connections_active"},
		{"total", "connections_total"}, {"half_open", "connections_half_open"},
		{"failed", "connections_failed"}, {"refused", "connections_refused"},
		{"identity_refused", "identity_refused"}, {"migrations", "migrations"},
		{NULL, NULL}};
	static const char *const traffic[][2] = {{"bytes_received", "bytes_received"},
		{"bytes_sent", "bytes_sent"}, {"packets_received", "packets_received"},
		{"packets_sent", "packets_sent"}, {NULL, NULL}};
	static const char *const tunnels[][2] = {{"active", "tunnels_active"},
		{"opened", "tunnels_opened"}, {"refused", "tunnels_refused"},
		{"failed", "tunnels_failed"}, {"reset", "tunnels_reset"}, {NULL, NULL}};
	static const char *const udp[][2] = {{"flows", "udp_flows_active"},
		{"from_clients", "udp_from_clients"}, {"to_clients", "udp_to_clients"},
		{"dropped_denied", "udp_dropped_denied"},
		{"dropped_malformed", "udp_dropped_malformed"},
		{"dropped_queue", "udp_dropped_queue"}, {NULL, NULL}};
	static const char *const errors[][2] = {{"internal", "internal_errors"},
		{"protocol", "protocol_errors"}, {"timeouts", "timeouts_total"},
		{"requests_malformed", "requests_malformed"},
		{"packets_invalid", "packets_invalid"}, {"dns_failures", "dns_failures"},
		{NULL, NULL}};
	size_t n = facts->workers;

	return json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, "
			 "s:o, s:{s:I, s:I}, s:{s:I, s:I}, s:o}",
		"version", MT_VERSION, "pid", (json_int_t)getpid(), "started_at",
		(json_int_t)facts->started_at, "uptime_seconds", (json_int_t)uptime_seconds(facts),
		"state", state_text(facts->state), "problem", facts->problem, "next", facts->next,
		"workers", (int)facts->workers, "listeners", listeners_json(facts), "http",
		http_json(facts), "connections", sums_json(counters, n, connections), "traffic",
		sums_json(counters, n, traffic), "tunnels", sums_json(counters, n, tunnels), "udp",
		sums_json(counters, n, udp), "errors", sums_json(counters, n, errors), "clients",
		"enrolled", (json_int_t)facts->clients, "revoked",
		(json_int_t)facts->clients_revoked, "memory", "used_bytes",
		(json_int_t)mt_metric_sum_of("memory_bytes", counters, n), "limit_bytes",
		(json_int_t)facts->memory_limit, "warnings", warnings_json(facts));
}

static size_t view_metrics(void *user, struct mt_web_metric *out, size_t cap)
{
	struct mt_board *board = user;
	struct mt_facts facts;
	size_t rows;
	const struct mt_metric *table = mt_metrics_table(&rows);
	size_t n = 0;

	mt_board_get(board, &facts);
	for (size_t i = 0; i < rows && n < cap; i++) {
		out[n++] = (struct mt_web_metric){.name = table[i].name,
			.help = table[i].help,
			.type = table[i].type,
			.value = (double)mt_metric_sum(&table[i], board->counters, facts.workers)};
	}
	const struct mt_web_metric more[] = {
		{"mytunnel_build_info", "The version in use.", MT_WEB_GAUGE,
			"version=\"" MT_VERSION "\"", 1},
		{"mytunnel_start_time_seconds", "When the daemon started, in Unix time.",
			MT_WEB_GAUGE, NULL, (double)facts.started_at},
		{"mytunnel_up", "Whether tunnels are served.", MT_WEB_GAUGE, NULL,
			facts.state == MT_STATE_RUNNING},
		{"mytunnel_workers", "Worker threads.", MT_WEB_GAUGE, NULL, facts.workers},
		{"mytunnel_clients", "Enrolled client identities that are not revoked.",
			MT_WEB_GAUGE, NULL, (double)facts.clients},
	};
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]) && n < cap; i++) {
		out[n++] = more[i];
	}
	return n;
}

static char *view_status(void *user)
{
	struct mt_board *board = user;
	struct mt_facts facts;
	json_t *status;
	char *text = NULL;

	mt_board_get(board, &facts);
	status = mt_status_json(&facts, board->counters);
	if (status != NULL && json_object_set_new(status, "schema", json_integer(1)) == 0) {
		text = json_dumps(status, JSON_COMPACT);
	}
	json_decref(status);
	return text;
}

static bool view_healthy(void *user)
{
	struct mt_facts facts;

	mt_board_get(user, &facts);
	return facts.state != MT_STATE_DEGRADED;
}

static const char *view_readiness(void *user)
{
	struct mt_facts facts;

	mt_board_get(user, &facts);
	return facts.state == MT_STATE_RUNNING ? "ready" : state_text(facts.state);
}

void mt_status_view(struct mt_web_view *out, struct mt_board *board)
{
	*out = (struct mt_web_view){.metrics = view_metrics,
		.status = view_status,
		.healthy = view_healthy,
		.readiness = view_readiness,
		.user = board};
}
