/* The way to the server: as many connections as the tunnels need, kept up, replaced when they fail.
 *
 *   connecting -> connected <-> reconnecting
 *                 connected  -> draining -> connected
 *   any        -> failed (a permanent refusal; or any failure when not persistent)
 *
 * A connection is one of QUIC or, on networks that let no UDP through, TLS over TCP, where each
 * stream is a connection of its own; see client/chooser.h for which of them is used when.
 *
 * Whoever needs a stream waits in a queue until a connection has room. One thread.
 */
#pragma once

#include "client/chooser.h"
#include "client/reason.h"
#include "proto/io/poller.h"
#include "proto/quic/mem.h"
#include "proto/quic/stream.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#define MT_UPLINK_LINKS_MAX       64
#define MT_UPLINK_DIALS_MAX       16
#define MT_UPLINK_WAITING_MAX     4096
#define MT_UPLINK_TIMEOUT_MS      30000 /* for a connection and the server's answer together */
#define MT_UPLINK_UNUSED_NS       30000000000ull /* then an extra connection is closed */
#define MT_UPLINK_BACKOFF_MS      100  /* before the second retry; the first follows at once */
#define MT_UPLINK_BACKOFF_SOON_MS 2000 /* the longest during the first minute without a server */
#define MT_UPLINK_BACKOFF_MAX_MS  5000
#define MT_UPLINK_SOON_MS         60000
#define MT_UPLINK_CROWDED_MS      3000   /* after a connection that ended for a limit */
#define MT_UPLINK_ROOM_MS         2000   /* without TLS, for QUIC to come in at a limit */
#define MT_UPLINK_ROOM_AGAIN_MS   300000 /* between such tries, when they do not help */
#define MT_UPLINK_PROBE_MS        4000   /* a try of QUIC while TLS is in use */
#define MT_UPLINK_SPARES          2      /* TLS connections opened ahead of time, while in use */
#define MT_UPLINK_SPARES_MS       5000   /* in use: a request was that short ago */

enum mt_uplink_state {
	MT_UPLINK_CONNECTING,
	MT_UPLINK_CONNECTED,
	MT_UPLINK_DRAINING,
	MT_UPLINK_RECONNECTING,
	MT_UPLINK_FAILED,
};

const char *mt_uplink_state_text(enum mt_uplink_state state);

struct mt_uplink;

struct mt_uplink_config {
	uv_loop_t *loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	const struct mt_profile *profile; /* borrowed for mt_uplink_new only */
	enum mt_choice choice;            /* of the transport */
	bool persistent;                  /* transient failures are retried */
	/* The state has changed, or the reason why. `reason` is "" where there is none. */
	void (*on_state)(enum mt_uplink_state state, const char *reason, void *user);
	/* New tunnels use another transport from now on; `why` is "" at first. May be NULL. */
	void (*on_transport)(enum mt_transport transport, const char *why, void *user);
	/* A datagram of the tunnel; only mt_uplink_send_datagram may be called. May be NULL. */
	void (*on_datagram)(const uint8_t *data, size_t len, void *user);
	/* Datagrams have room again, some time after mt_uplink_want_datagram_room. May be NULL. */
	void (*on_datagram_room)(void *user);
	void (*on_pong)(uint64_t rtt_ns, void *user); /* may be NULL */
	void *user;
};

int mt_uplink_new(struct mt_uplink **out, const struct mt_uplink_config *config) MT_MUST_CHECK;
/* Closes everything; outside of callbacks. All waiters are gone and all streams released before.
 * The memory goes when the loop has run again. NULL is allowed.
 */
void mt_uplink_free(struct mt_uplink *u);

/* Somebody who needs a stream; embedded in its owner. */
struct mt_waiter {
	TAILQ_ENTRY(mt_waiter) entry;
	enum { MT_WAITER_NONE, MT_WAITER_QUEUED, MT_WAITER_SERVED } state;
	uint64_t deadline_ms;
	uint64_t serial; /* the QUIC connection of its stream; 0: none */
	/* A new stream, which belongs to the waiter, who stays known until mt_uplink_forget. */
	void (*on_stream)(struct mt_waiter *w, struct mt_stream *s);
	/* Its time is over, or there will be no connection. It is forgotten already. */
	void (*on_fail)(struct mt_waiter *w, int err, const char *reason);
	/* The connection of its stream does not answer, and there is another one: a waiter that
	 * can begin anew releases the stream and calls mt_uplink_wait_again. May be NULL.
	 */
	void (*on_move)(struct mt_waiter *w);
};

/* Queues `w` and serves it as soon as possible, maybe before this returns. MT_E_LIMIT when the
 * queue is full.
 */
int mt_uplink_wait(struct mt_uplink *u, struct mt_waiter *w) MT_MUST_CHECK;
/* Its stream was lost before anything came of it: to the front of the queue, with the old deadline.
 */
void mt_uplink_wait_again(struct mt_uplink *u, struct mt_waiter *w);
void mt_uplink_forget(struct mt_uplink *u, struct mt_waiter *w);

/* What new tunnels use now. */
enum mt_transport mt_uplink_transport(struct mt_uplink *u);

/* How the server's log calls a tunnel: its trace id. */
struct mt_trace_id {
	uint64_t connection; /* 0: the server has not told */
	int64_t stream;
	const char *transport; /* "quic", "tls"; static; NULL: not known */
};
/* For a stream of a waiter's that is not released. */
void mt_uplink_get_trace(const struct mt_uplink *u, struct mt_stream *s, struct mt_trace_id *out);

/* Sends a datagram by the first usable connection. MT_E_CLOSED when there is none, or when TLS is
 * in use, which has no datagrams; MT_E_TOO_LONG.
 */
int mt_uplink_send_datagram(struct mt_uplink *u, const void *head, size_t head_len,
	const void *body, size_t body_len) MT_MUST_CHECK;
/* What UDP can use now; with TLS there are no datagrams. */
struct mt_uplink_udp {
	bool settled;          /* else the server's Hello may still come */
	uint32_t capabilities; /* enum mt_capability */
	unsigned max_sessions; /* that the server keeps; 0: not known */
	size_t datagram_max;   /* bytes; 0: no datagrams */
	size_t datagram_room;  /* how many more before the oldest is dropped */
};
/* MT_E_CLOSED when there is no connection. */
int mt_uplink_get_udp(struct mt_uplink *u, struct mt_uplink_udp *out) MT_MUST_CHECK;
/* The same as `datagram_room` alone; all there is when there is no connection, or no datagrams. */
size_t mt_uplink_datagram_room(struct mt_uplink *u);
/* on_datagram_room is to come; it does not when the connection ends before. */
void mt_uplink_want_datagram_room(struct mt_uplink *u);
/* Tells the server that a UDP session is over, as far as it has a control channel. */
void mt_uplink_end_session(struct mt_uplink *u, uint32_t session);
/* Pings by the control channel of the transport in use. MT_E_CLOSED, MT_E_AGAIN. */
int mt_uplink_ping(struct mt_uplink *u) MT_MUST_CHECK;
/* What the connection in use knows of its path; with TLS only where it goes. */
struct mt_uplink_path {
	enum mt_transport transport;
	struct mt_addr remote;
	size_t udp_payload;  /* bytes, as discovered so far */
	size_t datagram_max; /* bytes; 0: the server takes none */
	uint64_t rtt_ns;
};
/* MT_E_CLOSED when there is none. */
int mt_uplink_get_path(struct mt_uplink *u, struct mt_uplink_path *out) MT_MUST_CHECK;
/* The network has changed: connections move to the address by which the server is reached now. */
void mt_uplink_check_paths(struct mt_uplink *u);
