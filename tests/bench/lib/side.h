/* The clients' side of a benchmark that speaks QUIC itself: one loop, one driver, the credentials
 * of a profile.
 */
#pragma once

#include "proto/io/driver.h"
#include "proto/quic/mem.h"

#include <uv.h>

#define BENCH_SOCKETS_MAX 64

struct bench_side_config {
	const char *profile; /* a file */
	struct mt_endpoint_events events;
	unsigned sockets;
	size_t buffer_bytes; /* of each socket, as far as the system gives; 0: as everybody */
	bool reads_first;    /* see `behind` */
};

struct bench_side {
	uv_loop_t loop;
	struct mt_driver *driver;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_tls_client *tls;
	struct mt_addr server;
	struct mt_udp_socket *sockets[BENCH_SOCKETS_MAX];
	unsigned socket_count;
	/* With `reads_first` all that has come in is read in each turn before anything is due: a
	 * program that plays thousands of clients and was kept from the processor would ask again
	 * for answers that are there. Behind: there is more than one turn can take, and nothing
	 * new is to be begun. */
	bool behind;
	struct mt_udp_rx *rx;
	uv_prepare_t prepare;
};

/* Ends the program, whose name it tells. */
_Noreturn void bench_die(const char *what, int err);

/* Ends the program when that fails. */
void bench_side_open(struct bench_side *side, const struct bench_side_config *config);
/* Handles of the caller's on the loop are closed by then, or closing. */
void bench_side_close(struct bench_side *side);

/* Begins a connection by the socket number `n`, counted around; ends the program when it fails. */
struct mt_conn *bench_connect(struct bench_side *side, size_t n);
