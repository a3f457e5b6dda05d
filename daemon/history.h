/* The last hour in steps of ten seconds, and the last second: what the counters have done
 * meanwhile. One thread feeds it, any thread reads; its size does not depend on traffic.
 */
#pragma once

#include "daemon/counters.h"
#include "proto/wire/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_HISTORY_STEP_S  10
#define MT_HISTORY_STEPS   360
#define MT_HISTORY_WORKERS 128

/* Sums since the start, and what is now, at one moment. */
struct mt_sums {
	uint64_t at_ns; /* monotonic */
	int64_t at_ms;  /* Unix time */
	unsigned workers;
	uint64_t bytes_received;
	uint64_t bytes_sent;
	uint64_t handshakes;
	uint64_t tunnels_opened;
	uint64_t packets_received;
	uint64_t packets_sent;
	uint64_t packets_lost;
	uint64_t datagrams_dropped;
	uint64_t denied;
	uint64_t limit_hits;
	uint64_t connections; /* now, as the next three */
	uint64_t half_open;
	uint64_t tunnels;
	uint64_t udp_flows;
	uint64_t handshake_failures[MT_HANDSHAKE_FAILURES];
	uint64_t connect_failures[MT_CONNECT_FAILURES];
	struct mt_histogram_sum rtt;
	struct mt_histogram_sum handshake;
	struct mt_histogram_sum connect;
	uint64_t cpu_ns;
	uint64_t memory_bytes;
	uint64_t worker_busy_ns[MT_HISTORY_WORKERS];
	uint64_t worker_connections[MT_HISTORY_WORKERS];
};

struct mt_history;

/* NULL without memory. */
struct mt_history *mt_history_new(void);
void mt_history_free(struct mt_history *h); /* NULL is allowed */
/* About once a second, by one thread. */
void mt_history_feed(struct mt_history *h, const struct mt_sums *sums);
/* Any thread: the last second as an object, and the history as an object of lists. NULL without
 * memory. */
json_t *mt_history_now_json(struct mt_history *h);
json_t *mt_history_json(struct mt_history *h);
