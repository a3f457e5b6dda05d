/* What is true of the daemon right now, in a form that the control socket and the HTTP threads can
 * both read: the control thread replaces the facts, anybody copies them.
 */
#pragma once

#include "daemon/counters.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/settings.h"
#include "web/view.h"

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mt_state {
	MT_STATE_STARTING,
	MT_STATE_RUNNING,
	MT_STATE_DEGRADED, /* the tunnel is not served; the reason stands beside it */
	MT_STATE_DRAINING,
	MT_STATE_DRAINED,
};

struct mt_facts {
	enum mt_state state;
	char problem[512];  /* degraded: what failed */
	char next[256];     /* and what to change */
	char notice[256];   /* an address that was left out */
	int64_t started_at; /* Unix seconds */
	uint64_t started_mono_ns;
	unsigned workers;
	struct mt_addr listeners[MT_SETTING_ADDRS_MAX];
	size_t listener_count;
	struct mt_addr http[MT_SETTING_ADDRS_MAX];
	size_t http_count;
	bool http_enabled;
	char http_problem[256];
	int64_t trial_until; /* Unix seconds; 0: no settings are on trial */
	size_t clients;
	size_t clients_revoked;
	bool require_identity;
	bool allow_private;
	uint64_t memory_limit; /* bytes */
};

struct mt_board {
	pthread_mutex_t lock;
	struct mt_facts facts;
	const struct mt_worker_counters *counters; /* borrowed; of every possible worker */
};

int mt_board_init(struct mt_board *board, const struct mt_worker_counters *counters) MT_MUST_CHECK;
void mt_board_deinit(struct mt_board *board);
void mt_board_set(struct mt_board *board, const struct mt_facts *facts);
void mt_board_get(struct mt_board *board, struct mt_facts *facts);

/* The answer of the status verb, without "schema"; NULL without memory. */
json_t *mt_status_json(const struct mt_facts *facts, const struct mt_worker_counters *counters);
/* The view that HTTP shows; borrows `board`. */
void mt_status_view(struct mt_web_view *out, struct mt_board *board);
