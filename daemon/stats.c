#include "daemon/stats.h"

#include "daemon/metrics.h"

#include <string.h>
#include <time.h>

#define DROPPED "mytunnel_datagrams_dropped_total"
#define DENIED  "mytunnel_access_denied_total"
#define LIMITS  "mytunnel_limit_hits_total"

json_t *mt_stats_counters(const struct mt_worker_counters *counters, size_t workers)
{
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);
	json_t *o = json_object();

	for (size_t i = 0; i < count; i++) {
		json_int_t value = (json_int_t)mt_metric_sum(&table[i], counters, workers);

		if (json_object_set_new(o, table[i].key, json_integer(value)) != 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

void mt_stats_histograms(struct mt_histogram_sum *rtt, struct mt_histogram_sum *handshake,
	struct mt_histogram_sum *connect, const struct mt_worker_counters *counters, size_t workers)
{
	for (size_t w = 0; w < workers; w++) {
		mt_histogram_add(rtt, &counters[w].rtt);
		mt_histogram_add(handshake, &counters[w].handshakes);
		mt_histogram_add(connect, &counters[w].connects);
	}
}

static uint64_t sum_of_family(
	const char *name, const struct mt_worker_counters *counters, size_t workers)
{
	size_t count;
	const struct mt_metric *table = mt_metrics_table(&count);
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(table[i].name, name) == 0) {
			sum += mt_metric_sum(&table[i], counters, workers);
		}
	}
	return sum;
}

static void add_failures(struct mt_sums *out, const struct mt_worker_counters *c)
{
	uint64_t *handshake = out->handshake_failures;

	handshake[MT_HANDSHAKE_TIMEOUT] += mt_counter_get(&c->quic.handshake_timeout);
	handshake[MT_HANDSHAKE_TLS] +=
		mt_counter_get(&c->quic.handshake_tls) + mt_counter_get(&c->tls_handshakes_failed);
	handshake[MT_HANDSHAKE_CLOSED] += mt_counter_get(&c->quic.handshake_closed);
	handshake[MT_HANDSHAKE_PROTOCOL] += mt_counter_get(&c->quic.handshake_protocol);
	for (size_t i = 0; i < MT_IDENTITY_REFUSALS; i++) {
		handshake[MT_HANDSHAKE_IDENTITY + i] += mt_counter_get(&c->identity_refusals[i]);
	}
	for (size_t i = 0; i < MT_CONNECT_FAILURES; i++) {
		out->connect_failures[i] += mt_counter_get(&c->connect_failures[i]);
	}
}

void mt_stats_sums(struct mt_sums *out, const struct mt_facts *facts,
	const struct mt_worker_counters *counters)
{
	size_t n = facts->workers;

	*out = (struct mt_sums){.workers = facts->workers};
	out->bytes_received = mt_metric_sum_of("bytes_received", counters, n);
	out->bytes_sent = mt_metric_sum_of("bytes_sent", counters, n);
	out->handshakes = mt_metric_sum_of("connections_total", counters, n);
	out->tunnels_opened = mt_metric_sum_of("tunnels_opened", counters, n);
	out->packets_received = mt_metric_sum_of("packets_received", counters, n);
	out->packets_sent = mt_metric_sum_of("packets_sent", counters, n);
	out->packets_lost = mt_metric_sum_of("packets_lost", counters, n);
	out->datagrams_dropped = sum_of_family(DROPPED, counters, n);
	out->denied = sum_of_family(DENIED, counters, n);
	out->limit_hits = sum_of_family(LIMITS, counters, n);
	out->connections = mt_metric_sum_of("connections_active", counters, n);
	out->half_open = mt_metric_sum_of("connections_half_open", counters, n);
	out->tunnels = mt_metric_sum_of("tunnels_active", counters, n);
	out->udp_flows = mt_metric_sum_of("udp_flows_active", counters, n);
	mt_stats_histograms(&out->rtt, &out->handshake, &out->connect, counters, n);
	for (size_t w = 0; w < n; w++) {
		add_failures(out, &counters[w]);
		out->worker_busy_ns[w] = facts->busy_ns[w];
		out->worker_connections[w] =
			mt_metric_sum_of("connections_active", &counters[w], 1);
	}
}

static json_t *failures_json(
	const uint64_t *values, size_t count, const char *(*text)(size_t failure))
{
	json_t *o = json_object();

	for (size_t i = 0; i < count; i++) {
		if (json_object_set_new(o, text(i), json_integer((json_int_t)values[i])) != 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static json_t *workers_json(const struct mt_facts *facts, const struct mt_worker_counters *counters)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < facts->workers; i++) {
		json_t *worker = json_pack("{s:i, s:f, s:o}", "worker", (int)i, "busy_seconds",
			(double)facts->busy_ns[i] / 1e9, "totals",
			mt_stats_counters(&counters[i], 1));

		if (json_array_append_new(list, worker) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *histogram_json(const struct mt_histogram_sum *sum)
{
	const struct mt_histogram_bounds *b = &mt_histogram_times;
	json_t *bounds = json_array();
	json_t *counts = json_array();
	int bad = 0;

	for (size_t i = 0; i <= b->count; i++) {
		if (i < b->count) {
			bad |= json_array_append_new(bounds, json_real((double)b->us[i] / 1e6));
		}
		bad |= json_array_append_new(counts, json_integer((json_int_t)sum->counts[i]));
	}
	if (bad != 0) {
		json_decref(bounds);
		json_decref(counts);
		return NULL;
	}
	return json_pack("{s:o, s:o, s:f}", "bounds", bounds, "counts", counts, "sum",
		(double)sum->sum_us / 1e6);
}

json_t *mt_stats_json(const struct mt_facts *facts, const struct mt_worker_counters *counters,
	struct mt_history *history)
{
	struct mt_sums sums;
	struct timespec now;

	mt_stats_sums(&sums, facts, counters);
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	return json_pack("{s:i, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o, "
			 "s:o}",
		"schema", 1, "version", MT_VERSION, "time_ms",
		(json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, "started_at",
		(json_int_t)facts->started_at, "uptime_seconds", (json_int_t)mt_facts_uptime(facts),
		"totals", mt_stats_counters(counters, facts->workers), "handshake_failures",
		failures_json(
			sums.handshake_failures, MT_HANDSHAKE_FAILURES, mt_handshake_failure_text),
		"connect_failures",
		failures_json(sums.connect_failures, MT_CONNECT_FAILURES, mt_connect_failure_text),
		"workers", workers_json(facts, counters), "histograms", "handshake_duration",
		histogram_json(&sums.handshake), "connect_duration", histogram_json(&sums.connect),
		"path_rtt", histogram_json(&sums.rtt), "now", mt_history_now_json(history),
		"history", mt_history_json(history));
}
