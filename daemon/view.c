#include "daemon/view.h"

#include "daemon/metrics.h"
#include "daemon/process.h"
#include "daemon/stats.h"

#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <ngtcp2/ngtcp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_table(
	struct mt_exposition *e, const struct mt_worker_counters *counters, size_t workers)
{
	size_t rows;
	const struct mt_metric *table = mt_metrics_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		const struct mt_metric *m = &table[i];
		const struct mt_web_label label = {m->label, m->value};

		if (i == 0 || strcmp(table[i - 1].name, m->name) != 0) {
			mt_exposition_family(e, m->name, m->type, m->help);
		}
		mt_exposition_count(
			e, &label, m->label != NULL ? 1 : 0, mt_metric_sum(m, counters, workers));
	}
}

static void show_histogram(struct mt_exposition *e, const char *name, const char *help,
	const struct mt_histogram_sum *sum)
{
	mt_exposition_family(e, name, MT_WEB_HISTOGRAM, help);
	mt_exposition_histogram(
		e, mt_histogram_times.us, mt_histogram_times.count, sum->counts, sum->sum_us);
}

static void show_histograms(
	struct mt_exposition *e, const struct mt_worker_counters *counters, size_t workers)
{
	struct mt_histogram_sum rtt = {0};
	struct mt_histogram_sum handshake = {0};
	struct mt_histogram_sum connect = {0};

	mt_stats_histograms(&rtt, &handshake, &connect, counters, workers);
	show_histogram(e, "mytunnel_handshake_duration_seconds",
		"From a connection's first packet to its complete handshake.", &handshake);
	show_histogram(e, "mytunnel_connect_duration_seconds",
		"From a complete request to the connected target, with the look-up of its name.",
		&connect);
	show_histogram(e, "mytunnel_path_rtt_seconds",
		"Smoothed round-trip times, each connection looked at once a second.", &rtt);
}

static void show_workers(struct mt_exposition *e, const struct mt_facts *facts,
	const struct mt_worker_counters *counters)
{
	static const struct {
		const char *name;
		const char *key; /* NULL: processor time */
		enum mt_web_metric_type type;
		const char *help;
	} families[] = {
		{"mytunnel_worker_busy_seconds_total", NULL, MT_WEB_COUNTER,
			"Processor time of the worker's thread."},
		{"mytunnel_worker_connections", "connections_active", MT_WEB_GAUGE,
			"Connections established now, by worker."},
		{"mytunnel_worker_tunnels", "tunnels_active", MT_WEB_GAUGE,
			"TCP tunnels open now, by worker."},
		{"mytunnel_worker_received_bytes_total", "bytes_received", MT_WEB_COUNTER,
			"Tunnelled payload from clients, by worker."},
		{"mytunnel_worker_sent_bytes_total", "bytes_sent", MT_WEB_COUNTER,
			"Tunnelled payload to clients, by worker."},
	};
	char number[16];
	const struct mt_web_label label = {"worker", number};

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		mt_exposition_family(e, families[i].name, families[i].type, families[i].help);
		for (unsigned w = 0; w < facts->workers; w++) {
			(void)snprintf(number, sizeof(number), "%u", w); /* fits */
			if (families[i].key == NULL) {
				mt_exposition_value(e, &label, 1, (double)facts->busy_ns[w] / 1e9);
			} else {
				mt_exposition_count(e, &label, 1,
					mt_metric_sum_of(families[i].key, &counters[w], 1));
			}
		}
	}
}

static void show_one(struct mt_exposition *e, const char *name, enum mt_web_metric_type type,
	const char *help, double value)
{
	mt_exposition_family(e, name, type, help);
	mt_exposition_value(e, NULL, 0, value);
}

static void show_facts(struct mt_exposition *e, const struct mt_facts *facts,
	const struct mt_worker_counters *counters)
{
	const struct mt_web_label build[] = {{"version", MT_VERSION},
		{"ngtcp2", ngtcp2_version(0)->version_str}, {"gnutls", gnutls_check_version(NULL)}};
	uint64_t connections = mt_metric_sum_of("quic_connections", counters, facts->workers);
	uint64_t used = mt_metric_sum_of("pool_used_bytes", counters, facts->workers);

	show_one(e, "mytunnel_connection_memory_bytes", MT_WEB_GAUGE,
		"What is in use of the pools, for each connection.",
		connections > 0 ? (double)used / (double)connections : 0);
	show_one(e, "mytunnel_workers", MT_WEB_GAUGE, "Worker threads.", facts->workers);
	show_one(e, "mytunnel_up", MT_WEB_GAUGE, "Whether tunnels are served.",
		facts->state == MT_STATE_RUNNING || facts->state == MT_STATE_DRAINING);
	show_one(e, "mytunnel_ready", MT_WEB_GAUGE, "Whether new connections are welcome.",
		facts->state == MT_STATE_RUNNING);
	show_one(e, "mytunnel_clients", MT_WEB_GAUGE,
		"Enrolled client identities that are not revoked.", (double)facts->clients);
	mt_exposition_family(e, "mytunnel_certificate_expiry_timestamp_seconds", MT_WEB_GAUGE,
		"When the certificate expires, in Unix time.");
	for (size_t i = 0; i < facts->cert_count; i++) {
		const struct mt_web_label label = {"certificate", facts->certs[i].name};

		mt_exposition_value(e, &label, 1, (double)facts->certs[i].not_after);
	}
	show_one(e, "mytunnel_database_size_bytes", MT_WEB_GAUGE,
		"The database on disk, with its log.", (double)facts->database_bytes);
	show_one(e, "mytunnel_events_dropped_total", MT_WEB_COUNTER,
		"Events that were lost: too many at once.", (double)facts->events_dropped);
	mt_exposition_family(e, "mytunnel_build_info", MT_WEB_GAUGE, "The versions in use.");
	mt_exposition_value(e, build, sizeof(build) / sizeof(build[0]), 1);
}

static void show_clients(struct mt_exposition *e, struct mt_board *board)
{
	size_t count = 0;
	struct mt_client_series *series = mt_board_clients(board, &count);

	static const struct {
		const char *name;
		enum mt_web_metric_type type;
		const char *help;
	} families[] = {
		{"mytunnel_client_connections", MT_WEB_GAUGE, "Connections of a client."},
		{"mytunnel_client_received_bytes_total", MT_WEB_COUNTER,
			"Payload from a client, ever."},
		{"mytunnel_client_sent_bytes_total", MT_WEB_COUNTER, "Payload to a client, ever."},
	};

	for (size_t f = 0; f < 3 && count > 0; f++) {
		mt_exposition_family(e, families[f].name, families[f].type, families[f].help);
		for (size_t i = 0; i < count; i++) {
			const struct mt_web_label label = {"client", series[i].name};
			const uint64_t values[] = {series[i].connections, series[i].bytes_received,
				series[i].bytes_sent};

			mt_exposition_count(e, &label, 1, values[f]);
		}
	}
	free(series);
}

static void show_process(struct mt_exposition *e, const struct mt_facts *facts)
{
	struct mt_process p;

	mt_process_read(&p);
	show_one(e, "process_cpu_seconds_total", MT_WEB_COUNTER,
		"Total user and system CPU time spent in seconds.", (double)p.cpu_ns / 1e9);
	show_one(e, "process_open_fds", MT_WEB_GAUGE, "Number of open file descriptors.",
		(double)p.open_fds);
	show_one(e, "process_max_fds", MT_WEB_GAUGE, "Maximum number of open file descriptors.",
		(double)p.max_fds);
	show_one(e, "process_virtual_memory_bytes", MT_WEB_GAUGE, "Virtual memory size in bytes.",
		(double)p.virtual_bytes);
	show_one(e, "process_resident_memory_bytes", MT_WEB_GAUGE, "Resident memory size in bytes.",
		(double)p.resident_bytes);
	show_one(e, "process_threads", MT_WEB_GAUGE, "Number of threads.", (double)p.threads);
	show_one(e, "process_start_time_seconds", MT_WEB_GAUGE,
		"Start time of the process since unix epoch in seconds.",
		(double)facts->started_at);
}

static struct mt_board *board_of(void *user)
{
	return ((struct mt_view_sources *)user)->board;
}

static void view_metrics(void *user, struct mt_exposition *e)
{
	struct mt_board *board = board_of(user);
	struct mt_facts facts;

	mt_board_get(board, &facts);
	show_table(e, board->counters, facts.workers);
	show_histograms(e, board->counters, facts.workers);
	show_workers(e, &facts, board->counters);
	show_facts(e, &facts, board->counters);
	show_clients(e, board);
	show_process(e, &facts);
}

/* Takes `o`. */
static char *text_of(json_t *o)
{
	char *text = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

	json_decref(o);
	return text;
}

static char *view_status(void *user)
{
	struct mt_board *board = board_of(user);
	struct mt_facts facts;
	json_t *status;

	mt_board_get(board, &facts);
	status = mt_status_json(&facts, board->counters);
	if (status != NULL && json_object_set_new(status, "schema", json_integer(1)) != 0) {
		json_decref(status);
		return NULL;
	}
	return text_of(status);
}

static char *view_stats(void *user)
{
	struct mt_board *board = board_of(user);
	struct mt_facts facts;

	mt_board_get(board, &facts);
	return text_of(mt_stats_json(&facts, board->counters, board->history));
}

static bool view_healthy(void *user)
{
	struct mt_facts facts;

	mt_board_get(board_of(user), &facts);
	return facts.state != MT_STATE_DEGRADED;
}

static const char *view_readiness(void *user)
{
	struct mt_facts facts;

	mt_board_get(board_of(user), &facts);
	return facts.state == MT_STATE_RUNNING ? "ready" : mt_state_text(facts.state);
}

static void view_want(void *user, enum mt_web_listing which)
{
	mt_pictures_want(((struct mt_view_sources *)user)->pictures, which);
}

void mt_view_init(struct mt_web_view *out, struct mt_view_sources *sources)
{
	*out = (struct mt_web_view){.metrics = view_metrics,
		.status = view_status,
		.stats = view_stats,
		.healthy = view_healthy,
		.readiness = view_readiness,
		.want = view_want,
		.user = sources};
}
