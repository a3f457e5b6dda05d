/* The insides of the uplink, shared by uplink*.c only. */
#pragma once

#include "client/channel.h"
#include "client/dial.h"
#include "client/link.h"
#include "client/route.h"
#include "client/tls_pool.h"
#include "client/uplink.h"

TAILQ_HEAD(mt_waiters, mt_waiter);

/* TLS over TCP: it is up as long as the server answers on a control channel, which is a connection
 * like any other.
 */
struct mt_uplink_tls {
	struct mt_tls_pool *pool;  /* NULL: not with this choice */
	struct mt_channel channel; /* its stream is NULL when it is not open */
	bool up;
	uint64_t up_ns;  /* since when */
	bool no_channel; /* the server has none for us: connections alone show that it is there */
	bool draining;   /* the server has said so, until another time it is up */
	bool failed;     /* since it was up */
	unsigned failed_dials;   /* in a row while up */
	uint64_t pause_ms;       /* no dial before */
	uint64_t used_ms;        /* the last request */
	uint64_t room_ms;        /* no room for QUIC is made before */
	struct mt_reason reason; /* of the last failure */
};

struct mt_uplink {
	struct mt_uplink_config config;
	char host[256];
	uint16_t port;
	struct mt_quic_counters counters;
	struct mt_driver *driver;
	struct mt_route route;
	struct mt_tls_client *credentials;
	struct mt_chooser chooser;
	struct mt_uplink_tls tls;
	struct mt_link *links[MT_UPLINK_LINKS_MAX]; /* in the order of their age */
	size_t link_count;
	struct mt_dial *dials[MT_UPLINK_DIALS_MAX];
	size_t dial_count;
	struct mt_waiters waiting;
	size_t waiting_count;
	struct mt_waiters served;
	size_t streams_per_link; /* what the last new connection let us open */
	unsigned failures;       /* in a row: of dials, and of links that did not last */
	uint64_t failing_ms;     /* since when */
	uint64_t retry_ms;       /* no dial before */
	bool quic_failed;        /* since a QUIC connection was there */
	enum mt_uplink_state state;
	struct mt_reason reason;                                  /* of the last failure */
	char announced[sizeof(((struct mt_reason *)NULL)->text)]; /* what on_state was told last */
	enum mt_transport transport;                              /* what on_transport was told */
	bool started;
	bool failed;
	uv_timer_t tick;  /* twice a second */
	uv_timer_t retry; /* for retry_ms, and what the chooser waits for */
	int open_timers;
};

/* Brings everything in line after a change; from the loop, never from within an event of a stream
 * that is still needed.
 */
void mt_uplink_update(struct mt_uplink *u);
/* A permanent end, which the user is told of. */
void mt_uplink_fail(struct mt_uplink *u, const struct mt_reason *reason);
/* Neither transport has anything left to try, and nobody wants to wait. */
bool mt_uplink_is_hopeless(struct mt_uplink *u);
/* What new tunnels use now. */
enum mt_transport mt_uplink_choose(struct mt_uplink *u);
struct mt_link *mt_uplink_find_link(struct mt_uplink *u, uint64_t serial); /* NULL: gone */

/* uplink_quic.c */
bool mt_uplink_has_link(const struct mt_uplink *u); /* one that can be used */
bool mt_uplink_is_draining(const struct mt_uplink *u);
enum mt_health mt_uplink_health(const struct mt_uplink *u);
/* As many dials as are needed. Returns when it wants to be called again; UINT64_MAX: not known. */
uint64_t mt_uplink_dial(struct mt_uplink *u);
void mt_uplink_tick_links(struct mt_uplink *u);
void mt_uplink_stop_dials(struct mt_uplink *u);
void mt_uplink_close_links(struct mt_uplink *u);

/* uplink_tls.c */
int mt_uplink_tls_new(struct mt_uplink *u) MT_MUST_CHECK;
void mt_uplink_tls_free(struct mt_uplink *u);
void mt_uplink_tls_stop(struct mt_uplink *u); /* closes all but tunnels */
/* The server has as many connections of this identity as it allows, and those over TLS may be what
 * keeps QUIC out: gives them up for a try, unless tunnels use them. Whether QUIC is to be tried
 * again at once. */
bool mt_uplink_tls_make_room(struct mt_uplink *u);
void mt_uplink_tls_update(struct mt_uplink *u);
struct mt_stream *mt_uplink_tls_take(struct mt_uplink *u); /* NULL: none now */

/* uplink_queue.c */
/* Hands streams to waiters as far as there is room. */
void mt_uplink_serve(struct mt_uplink *u);
/* Asks those whose connection does not answer to begin anew. */
void mt_uplink_move(struct mt_uplink *u);
/* Fails all waiters. */
void mt_uplink_fail_waiters(struct mt_uplink *u, int err, const char *reason);
void mt_uplink_expire_waiters(struct mt_uplink *u);
