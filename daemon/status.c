#include "daemon/status.h"

#include "daemon/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *mt_state_text(enum mt_state state)
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
	board->clients = NULL;
	board->client_count = 0;
	board->history = NULL;
	return -pthread_mutex_init(&board->lock, NULL);
}

void mt_board_deinit(struct mt_board *board)
{
	free(board->clients);
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

void mt_board_set_clients(struct mt_board *board, struct mt_client_series *clients, size_t count)
{
	struct mt_client_series *before;

	(void)pthread_mutex_lock(&board->lock); /* as above */
	before = board->clients;
	board->clients = clients;
	board->client_count = count;
	(void)pthread_mutex_unlock(&board->lock); /* as above */
	free(before);
}

struct mt_client_series *mt_board_clients(struct mt_board *board, size_t *count)
{
	struct mt_client_series *copy = NULL;

	*count = 0;
	(void)pthread_mutex_lock(&board->lock); /* as above */
	if (board->client_count > 0) {
		copy = calloc(board->client_count, sizeof(*copy));
	}
	if (copy != NULL) {
		memcpy(copy, board->clients, board->client_count * sizeof(*copy));
		*count = board->client_count;
	}
	(void)pthread_mutex_unlock(&board->lock); /* as above */
	return copy;
}

int64_t mt_facts_uptime(const struct mt_facts *facts)
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

	for (size_t i = 0; i < facts->listener_count + facts->tls_listener_count; i++) {
		bool tls = i >= facts->listener_count;

		(void)mt_addr_format(tls ? &facts->tls_listeners[i - facts->listener_count]
					 : &facts->listeners[i],
			text, sizeof(text));
		if (json_array_append_new(list, json_pack("{s:s, s:s}", "protocol",
							tls ? "tls" : "quic", "address", text)) !=
			0) {
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
	return json_pack("{s:b, s:s?, s:o, s:b, s:s}", "enabled", facts->http_enabled, "address",
		facts->http_count > 0 ? text : NULL, "addresses", list, "secured",
		facts->http_secured, "problem", facts->http_problem);
}

static json_t *certificates_json(const struct mt_facts *facts)
{
	json_t *list = json_array();
	int64_t now = (int64_t)time(NULL);

	for (size_t i = 0; i < facts->cert_count; i++) {
		int64_t left = facts->certs[i].not_after - now;
		/* Rounded down, below zero too. */
		int64_t days = left >= 0 ? left / 86400 : -((-left + 86399) / 86400);

		if (json_array_append_new(
			    list, json_pack("{s:s, s:I, s:I}", "name", facts->certs[i].name,
					  "not_after", (json_int_t)facts->certs[i].not_after,
					  "days_left", (json_int_t)days)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *tls_json(const struct mt_facts *facts, const struct mt_worker_counters *counters)
{
	size_t n = facts->workers;

	return json_pack("{s:b, s:s?, s:s?, s:I, s:I, s:I, s:s}", "enabled", facts->tls_enabled,
		"records", facts->tls_records, "reason", facts->tls_why, "kernel_active",
		(json_int_t)mt_metric_sum_of("tls_kernel_active", counters, n), "gnutls_active",
		(json_int_t)mt_metric_sum_of("tls_user_active", counters, n), "spliced_bytes",
		(json_int_t)mt_metric_sum_of("tls_spliced_bytes", counters, n), "problem",
		facts->tls_problem);
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
	if (facts->tls_problem[0] != '\0') {
		bad |= json_array_append_new(list, json_string(facts->tls_problem));
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
			 "s:o, s:o, s:{s:I, s:I}, s:o, s:I, s:b, s:{s:I, s:I}, s:o}",
		"version", MT_VERSION, "pid", (json_int_t)getpid(), "started_at",
		(json_int_t)facts->started_at, "uptime_seconds", (json_int_t)mt_facts_uptime(facts),
		"state", mt_state_text(facts->state), "problem", facts->problem, "next",
		facts->next, "workers", (int)facts->workers, "listeners", listeners_json(facts),
		"http", http_json(facts), "tls", tls_json(facts, counters), "connections",
		sums_json(counters, n, connections), "traffic", sums_json(counters, n, traffic),
		"tunnels", sums_json(counters, n, tunnels), "udp", sums_json(counters, n, udp),
		"errors", sums_json(counters, n, errors), "clients", "enrolled",
		(json_int_t)facts->clients, "revoked", (json_int_t)facts->clients_revoked,
		"certificates", certificates_json(facts), "database_bytes",
		(json_int_t)facts->database_bytes, "ready", facts->state == MT_STATE_RUNNING,
		"memory", "used_bytes", (json_int_t)mt_metric_sum_of("memory_bytes", counters, n),
		"limit_bytes", (json_int_t)facts->memory_limit, "warnings", warnings_json(facts));
}
