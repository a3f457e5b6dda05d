/* A worker: a thread with its own loop, sockets, QUIC endpoint, resolver and memory. It shares
 * nothing with other workers; the control thread talks to it by messages.
 */
#pragma once

#include "daemon/counters.h"
#include "daemon/events.h"
#include "daemon/qlogs.h"
#include "daemon/queue.h"
#include "daemon/snapshot.h"
#include "proto/io/udp.h"
#include "proto/quic/conn.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct mt_worker;
struct mt_session;

/* A way past all connections of a worker, in pieces of MT_WALK_SOME. Start with zeros; the worker
 * knows it from its first piece to its last. Those that come meanwhile are not met. */
#define MT_WALK_SOME   500
#define MT_WALK_CLOSES 100 /* of them, when they are ended */
struct mt_walk {
	LIST_ENTRY(mt_walk) link;
	struct mt_session *next;
	bool is_begun;
};

#define MT_LISTENERS_MAX 32 /* addresses served, with those that are given up but still in use */

/* What happens on a worker that others want to know; called on the worker's thread: post a message,
 * do not work there. */
struct mt_worker_events {
	/* All connections of a draining worker are gone. */
	void (*on_drained)(void *user, unsigned worker);
	/* A connection has come, gone or been refused; borrowed. */
	void (*on_event)(void *user, const struct mt_worker_event *event);
	void *user;
};

struct mt_worker_config {
	unsigned index;
	unsigned count;
	uint8_t tag; /* generation */
	uint8_t secret[32];
	struct mt_snapshot *snapshot;        /* referenced */
	const struct mt_udp_socket *sockets; /* bound in the order of the group; taken on success */
	const unsigned *listeners;           /* by which each socket is known later */
	size_t socket_count;
	struct mt_worker_counters *counters; /* borrowed, outlives the worker */
	mt_counter *places;     /* see struct mt_endpoint_config; borrowed, outlives the workers */
	struct mt_qlogs *qlogs; /* the same */
	struct mt_worker_events events;
};

/* Prepares everything, starts nothing. `peers` (all workers, by index) is for foreign packets, see
 * mt_worker_start. */
int mt_worker_new(struct mt_worker **out, const struct mt_worker_config *config) MT_MUST_CHECK;
int mt_worker_start(struct mt_worker *w, struct mt_worker **peers) MT_MUST_CHECK;
/* Any thread: `node` runs on the worker's thread with the worker as receiver. */
void mt_worker_post(struct mt_worker *w, struct mt_message_node *node);
/* Processor time of the worker's thread so far; 0 before its start. The thread that starts and
 * stops it. */
uint64_t mt_worker_busy_ns(const struct mt_worker *w);
/* Any thread: asks the thread to end (connections are closed with MT_APP_SHUTDOWN), waits for it,
 * frees everything. */
void mt_worker_stop(struct mt_worker *w);

/* The calls below belong to the worker's thread: from a message's `run`. */

/* Swaps the snapshot (a reference is taken): limits, credentials and rules hold at once for what is
 * new. What is there is judged by mt_worker_recheck_some, which is called until it returns false;
 * connections whose identity is revoked or gone end with MT_APP_REVOKED. */
struct mt_recheck_walk {
	struct mt_walk walk;
	int how; /* enum mt_recheck */
};
void mt_worker_set_snapshot(
	struct mt_worker *w, struct mt_snapshot *snapshot, struct mt_recheck_walk *out);
bool mt_worker_recheck_some(struct mt_worker *w, struct mt_recheck_walk *walk);
/* Refuses new connections and tunnels, and tells every client, some each time; whether there are
 * more. on_drained when the last tunnel has ended. */
bool mt_worker_drain_some(struct mt_worker *w, struct mt_walk *walk);

struct mt_connection_row {
	char id[24];                  /* "WORKER-SERIAL" */
	char client[MT_NAME_MAX + 1]; /* empty without identity */
	struct mt_addr peer;
	bool is_tls;    /* over TCP; congestion control is the kernel's then */
	uint64_t trace; /* of its tunnels' trace ids; 0 over TCP, where each has its own */
	unsigned worker;
	int64_t connected_at; /* Unix seconds */
	double rtt_ms;
	enum mt_cc congestion_control;
	uint64_t bytes_received; /* tunnelled payload */
	uint64_t bytes_sent;
	unsigned streams;
	unsigned udp_flows;
};
/* Calls `fn` for the next established connections, of one client or (NULL) of all, until it returns
 * false; whether there are more. */
bool mt_worker_some_connections(struct mt_worker *w, struct mt_walk *walk, const char *client,
	bool (*fn)(const struct mt_connection_row *row, void *user), void *user);
/* How many there are. */
unsigned mt_worker_connections(const struct mt_worker *w);
/* Ends one connection with MT_APP_KICKED, and sets `*result` to 0 when it is found. `serial` is the
 * number behind the dash. Whether there is more to look at.
 */
bool mt_worker_kick_some(struct mt_worker *w, struct mt_walk *walk, uint64_t serial, int *result);
/* The same for all connections of a client, by its name; adds up how many. */
bool mt_worker_kick_client_some(
	struct mt_worker *w, struct mt_walk *walk, const char *name, unsigned *count);
unsigned mt_worker_index(const struct mt_worker *w);

/* Takes this worker's socket of a new listener and starts reading. On failure the caller keeps it.
 */
int mt_worker_add_socket(
	struct mt_worker *w, unsigned listener, const struct mt_udp_socket *socket) MT_MUST_CHECK;
/* See mt_driver_retire_socket; an unknown listener is none's. */
void mt_worker_retire_socket(struct mt_worker *w, unsigned listener, bool retired);
/* How many of the next connections cannot do without each of these retired listeners, added to
 * `users`; whether there are more. */
bool mt_worker_count_some_users(struct mt_worker *w, struct mt_walk *walk,
	const unsigned *listeners, size_t count, unsigned *users);
/* Ends them, with MT_APP_SHUTDOWN. */
bool mt_worker_end_some_users(
	struct mt_worker *w, struct mt_walk *walk, const unsigned *listeners, size_t count);
/* All workers close the same listener together: the kernel renumbers what is left of a group. */
void mt_worker_close_socket(struct mt_worker *w, unsigned listener);
/* The same for TLS over TCP, for which a listening, non-blocking descriptor is handed over. What
 * has been accepted stays when a listener is closed. */
int mt_worker_add_tls_listener(struct mt_worker *w, unsigned listener, int fd) MT_MUST_CHECK;
void mt_worker_close_tls_listener(struct mt_worker *w, unsigned listener);
/* Messages sent, and how often the kernel or a device has refused batches. */
void mt_worker_sockets_health(struct mt_worker *w, uint64_t *messages, uint64_t *gso_fallbacks);
