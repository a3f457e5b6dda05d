/* The inside of a worker, shared by its files. */
#pragma once

#include "daemon/env.h"
#include "daemon/mailbox.h"
#include "daemon/session.h"
#include "daemon/worker.h"
#include "proto/io/driver.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct mt_worker_socket {
	unsigned listener;
	struct mt_udp_socket *udp; /* the driver's */
};

struct mt_worker {
	struct mt_env env;
	unsigned index;
	unsigned count;
	struct mt_worker_events events;
	struct mt_qlogs *qlogs;
	struct mt_mailbox *mailbox;
	struct mt_mailbox **others; /* by index, referenced; NULL until started */
	struct mt_driver *driver;
	struct mt_tls_front *tls;
	struct mt_worker_socket sockets[MT_LISTENERS_MAX];
	unsigned socket_count;
	struct mt_session_list sessions;
	struct mt_deadline session_tick;
	uv_loop_t loop;
	uv_poll_t letters; /* on the mailbox */
	uv_prepare_t turn_end;
	uv_thread_t thread;
	uint64_t refused_second; /* of the loop's clock */
	unsigned refused_told;   /* in this second */
	unsigned refused_untold;
	struct mt_message_node stop;
	struct mt_walk stop_walk;
	struct mt_deadline stop_due;
	bool has_thread;
	bool stopping;
	bool farewells; /* somebody has been told that we stop, by a channel */
	bool drained;   /* said so already */
};

static inline struct mt_endpoint *mt_worker_endpoint(struct mt_worker *w)
{
	return mt_driver_endpoint(w->driver);
}

/* worker_limits.c: one worker's share of the settings. */
void mt_worker_limits(
	struct mt_endpoint_limits *out, const struct mt_snapshot *snapshot, unsigned count);

/* worker_events.c: what the endpoint tells. */
void mt_worker_set_events(struct mt_worker *w, struct mt_endpoint_events *events);

/* The same for its parts and for TLS. */
void mt_worker_tell_session(struct mt_worker *w, const struct mt_session *s, const char *event,
	const char *reason, const char *detail);
void mt_worker_on_refused(
	void *user, const struct mt_addr *remote, const char *why, const uint8_t *fingerprint);

/* worker_tls.c: TLS over TCP */
int mt_worker_open_tls(struct mt_worker *w) MT_MUST_CHECK;
void mt_worker_set_tls_limits(struct mt_worker *w);

/* worker_control.c: while there are sessions, looks at them regularly for what time brings. */
void mt_worker_watch_sessions(struct mt_worker *w);

/* worker_control.c: the next session of the walk, or NULL. Whoever calls it may end that session.
 */
struct mt_session *mt_worker_walk_on(struct mt_worker *w, struct mt_walk *walk);
/* Whether there is more; else the walk is over. */
bool mt_worker_walk_has_more(struct mt_walk *walk);

/* worker_control.c: says farewell to every client, then ends the loop. */
void mt_worker_begin_stop(struct mt_worker *w);

/* worker_foreign.c: a packet that belongs to the worker with this index. */
void mt_worker_forward(struct mt_worker *w, uint8_t to, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len);
