/* What is true of the daemon right now, in a form that the control socket and the HTTP threads can
 * both read: the control thread replaces the facts, anybody copies them.
 */
#pragma once

#include "daemon/counters.h"
#include "daemon/history.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"
#include "proto/wire/settings.h"

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
	struct mt_addr tls_listeners[MT_SETTING_ADDRS_MAX];
	size_t tls_listener_count;
	bool tls_enabled;
	char tls_problem[512]; /* why TLS over TCP is not served */
	bool tls_kernel;
	const char *tls_records; /* "kernel" or "gnutls": who makes the records */
	const char *tls_why;     /* static storage */
	struct mt_addr http[MT_SETTING_ADDRS_MAX];
	size_t http_count;
	bool http_enabled;
	bool http_secured;
	char http_problem[256];
	int64_t trial_until; /* Unix seconds; 0: no settings are on trial */
	size_t clients;
	size_t clients_revoked;
	bool require_identity;
	bool allow_private;
	uint64_t memory_limit; /* bytes */
	struct mt_cert_fact {
		const char *name;  /* static */
		int64_t not_after; /* Unix seconds */
	} certs[3];
	size_t cert_count;
	int64_t database_bytes;
	uint64_t events_dropped;
	uint64_t busy_ns[MT_HISTORY_WORKERS]; /* processor time by worker */
};

/* What /metrics shows of one client, when it is asked to. */
struct mt_client_series {
	char name[MT_NAME_MAX + 1];
	uint64_t connections;
	uint64_t bytes_received;
	uint64_t bytes_sent;
};

struct mt_board {
	pthread_mutex_t lock;
	struct mt_facts facts;
	struct mt_client_series *clients; /* for free() */
	size_t client_count;
	const struct mt_worker_counters *counters; /* borrowed; of every possible worker */
	struct mt_history *history;                /* borrowed */
};

int mt_board_init(struct mt_board *board, const struct mt_worker_counters *counters) MT_MUST_CHECK;
void mt_board_deinit(struct mt_board *board);
void mt_board_set(struct mt_board *board, const struct mt_facts *facts);
void mt_board_get(struct mt_board *board, struct mt_facts *facts);

/* Takes `clients`, from malloc(). */
void mt_board_set_clients(struct mt_board *board, struct mt_client_series *clients, size_t count);
/* A copy for free(); NULL when there are none. */
struct mt_client_series *mt_board_clients(struct mt_board *board, size_t *count);

const char *mt_state_text(enum mt_state state);
int64_t mt_facts_uptime(const struct mt_facts *facts); /* seconds */
/* The answer of the status verb, without "schema"; NULL without memory. */
json_t *mt_status_json(const struct mt_facts *facts, const struct mt_worker_counters *counters);
