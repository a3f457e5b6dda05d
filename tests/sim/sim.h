/* Two endpoints and a network between them, in memory: a clock that the test moves, and a network
 * whose loss, delay, reordering, duplication and corruption follow from a seed.
 */
#pragma once

#include "proto/quic/endpoint.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_MS 1000000ull
#define SIM_S  1000000000ull

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
	struct sim_packet *packets; /* by time */
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
