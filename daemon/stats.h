/* The counters as JSON, for `stats` and for /stats. Any thread. */
#pragma once

#include "daemon/counters.h"
#include "daemon/history.h"
#include "daemon/status.h"

#include <jansson.h>
#include <stddef.h>

/* Sums over `workers` of them under their keys; NULL without memory. */
json_t *mt_stats_counters(const struct mt_worker_counters *counters, size_t workers);
/* What /stats answers. */
json_t *mt_stats_json(const struct mt_facts *facts, const struct mt_worker_counters *counters,
	struct mt_history *history);
/* Everything that the history is fed with, but for times, processor and memory. */
void mt_stats_sums(struct mt_sums *out, const struct mt_facts *facts,
	const struct mt_worker_counters *counters);
/* Sums over the first `workers`. */
void mt_stats_histograms(struct mt_histogram_sum *rtt, struct mt_histogram_sum *handshake,
	struct mt_histogram_sum *connect, const struct mt_worker_counters *counters,
	size_t workers);
