/* Two endpoints and a network between them, in memory: a clock that the test moves, and a network
 * whose loss, delay, reordering, duplication and corruption follow from a seed.
 */
#pragma once

#include "proto/quic/endpoint.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_MS 1000000ull
#define SIM_S  1000000000ull

#define SIM_WAIT_BINS 256

/* The way out of a node: a link with a queue before it. Without a rate there is no queue. */
struct sim_link {
	uint64_t rate_bps;    /* of whole IP packets, 0 = infinite */
	uint64_t queue_bytes; /* what may wait, the packet on the link included; then tail drop */
	uint64_t free_at_ns;  /* when all that waits has left */
	/* what became of the packets */
	uint64_t packets;
	uint64_t bytes; /* that left, whole IP packets */
	uint64_t overflowed;
	uint64_t lost;                     /* by chance */
	uint64_t wait_bins[SIM_WAIT_BINS]; /* packets by how full the queue was */
};

struct sim_node {
	struct sim *sim;
	struct mt_mem *mem;
	struct mt_endpoint *ep;
	struct mt_quic_counters counters;
	struct mt_addr addr;
	uint8_t buf[2 * MT_TX_BATCH_BYTES];
	bool blocked; /* reserve gives NULL */
	uint64_t bytes_out;
	uint64_t bytes_in;
	struct sim_link link;
	struct sim_packet *packets; /* on their way to this node, by time */
	struct sim_packet *last;
};

struct sim_packet;

struct sim {
	uint64_t now_ns;
	uint64_t rng;
	/* the network, each way */
	uint64_t delay_ns;
	uint64_t jitter_ns; /* more than the gap between packets reorders them */
	unsigned loss_permille;
	unsigned duplicate_permille;
	unsigned corrupt_permille;
	bool black_hole;
	size_t mtu; /* larger UDP payloads vanish; 0: none do */
	/* Nodes wake up at multiples of this only (0: at once), for packets and for timers. */
	uint64_t tick_ns;
	uint64_t carried;
	/* A NAT in front of the client: the server sees this port; packets to older ones are lost.
	 */
	uint16_t nat_port;
	struct sim_node client;
	struct sim_node server;
	struct mt_tls_server *tls_server;
	struct mt_tls_client *tls_client;
	uint8_t client_key[MT_KEY_LEN];
	uint8_t client_fingerprint[MT_FINGERPRINT_LEN];
};

/* Client and server with good credentials of each other; `client` and `server` events are the
 * test's. Aborts the test on failure.
 */
void sim_init(struct sim *sim, uint64_t seed, const struct mt_endpoint_events *client,
	const struct mt_endpoint_events *server);
void sim_deinit(struct sim *sim);
struct mt_endpoint_limits sim_limits(void);
/* Replaces the server by a new process with the same secret and nothing else kept. */
void sim_restart_server(struct sim *sim, const struct mt_endpoint_events *server, uint8_t tag);
struct mt_conn *sim_connect(struct sim *sim);
/* Runs until `done` says so or `limit_ns` of simulated time have passed; returns whether it was
 * done. */
bool sim_run(struct sim *sim, bool (*done)(void *user), void *user, uint64_t limit_ns);
/* Hands one packet to a node as if it had come from `from`. */
void sim_inject(struct sim_node *to, const struct mt_addr *from, const void *data, size_t len);
uint64_t sim_random(struct sim *sim);
/* How long a packet had to wait for the link at most, of `permille` of all that left. */
uint64_t sim_link_wait_ns(const struct sim_link *link, unsigned permille);
