/* What the parts of one worker share; everything belongs to the worker and its thread. */
#pragma once

#include "daemon/counters.h"
#include "daemon/deadline.h"
#include "daemon/snapshot.h"
#include "proto/io/pacer.h"
#include "proto/io/pipes.h"
#include "proto/io/poller.h"
#include "proto/quic/mem.h"
#include "proto/wire/reassembly.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct mt_resolver;
struct mt_relay_io;
struct mt_session;
struct mt_tunnel;
LIST_HEAD(mt_tunnel_list, mt_tunnel);
LIST_HEAD(mt_watched_list, mt_session);

/* What becomes of traffic that the snapshot does not allow any more. */
enum mt_recheck {
	MT_RECHECK_OTHERS, /* something else has changed: cut it, unless it was kept before */
	MT_RECHECK_CUT,    /* the rules have changed: cut it */
	MT_RECHECK_KEEP,   /* the rules have changed, but it may go on */
};

struct mt_env {
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_pacer *pacer;
	struct mt_pipes *pipes;
	struct mt_deadlines deadlines;
	struct mt_resolver *resolver;
	struct mt_relay_io *relay_io;
	struct mt_reassembly_pool reassembly;
	uint8_t *reassembled; /* MT_UDP_PAYLOAD_MAX bytes: the payload that is whole right now */
	unsigned relay_sockets;
	unsigned relay_sockets_max;
	struct mt_worker_counters *counters;
	struct mt_snapshot *snapshot; /* the one in force; held */
	uint64_t seed;                /* of hash tables */
	bool draining;

	unsigned session_count;
	struct mt_session *observed;    /* the next one to look at; NULL: from the first */
	LIST_HEAD(, mt_walk) walks;     /* under way: none must stand at a session that ends */
	struct mt_watched_list watched; /* sessions that time may end soon, or that have a relay */
	struct mt_tunnel_list tunnels;  /* all of them, with those whose connection has gone */
	unsigned tunnels_open;          /* those with a complete request */
	struct mt_deadline tunnel_sweep;
	/* tunnels_open has come down to 0. */
	void (*on_idle)(void *user);
	void *user;
};
