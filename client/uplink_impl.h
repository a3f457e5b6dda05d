/* The insides of the uplink, shared by uplink*.c only. */
#pragma once

#include "client/dial.h"
#include "client/link.h"
#include "client/route.h"
#include "client/uplink.h"

TAILQ_HEAD(mt_waiters, mt_waiter);

struct mt_uplink {
	struct mt_uplink_config config;
	char host[256];
	uint16_t port;
	struct mt_quic_counters counters;
	struct mt_driver *driver;
	struct mt_route route;
	struct mt_tls_client *tls;
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
	enum mt_uplink_state state;
	struct mt_reason reason;                                  /* of the last failure */
	char announced[sizeof(((struct mt_reason *)NULL)->text)]; /* what on_state was told last */
	bool started;
	bool failed;
	uv_timer_t tick;  /* twice a second */
	uv_timer_t retry; /* for retry_ms */
	int open_timers;
};

/* Hands streams to waiters as far as there is room. */
void mt_uplink_serve(struct mt_uplink *u);
/* Fails all waiters. */
void mt_uplink_fail_waiters(struct mt_uplink *u, int err, const char *reason);
void mt_uplink_expire_waiters(struct mt_uplink *u);
