/* The counters under their names, for /metrics, `status` and `stats`. Reads the workers' counters
 * from any thread. */
#pragma once

#include "daemon/counters.h"
#include "web/metrics.h"

#include <stddef.h>
#include <stdint.h>

struct mt_metric {
	const char *name; /* as Prometheus shows it */
	const char *key;  /* as `stats` shows it */
	enum mt_web_metric_type type;
	size_t offset; /* of a counter in struct mt_worker_counters */
	size_t second; /* of another one that is added, or MT_METRIC_NONE */
	const char *help;
	const char *label; /* NULL, or what tells rows of the same name apart */
	const char *value;
};

/* The words for enum mt_handshake_failure and enum mt_connect_failure. */
const char *mt_handshake_failure_text(size_t failure);
const char *mt_connect_failure_text(size_t failure);

#define MT_METRIC_NONE ((size_t)-1)

/* All rows; `*count` of them. Static storage. */
const struct mt_metric *mt_metrics_table(size_t *count);
/* The value of one worker, and the sum of several. */
uint64_t mt_metric_value(const struct mt_metric *m, const struct mt_worker_counters *counters);
uint64_t mt_metric_sum(
	const struct mt_metric *m, const struct mt_worker_counters *counters, size_t workers);
/* The sum by `key`; 0 for an unknown one. */
uint64_t mt_metric_sum_of(
	const char *key, const struct mt_worker_counters *counters, size_t workers);
