/* What the holder's files share: one driver, and tunnels that are timed. */
#pragma once

#include "proto/io/driver.h"
#include "proto/quic/mem.h"
#include "tests/bench/lib/watch.h"

#include <uv.h>

struct bench_side {
	uv_loop_t loop;
	struct mt_driver *driver;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_tls_client *tls;
	struct mt_path path; /* to the server */
	struct bench_probe *probe;
};

_Noreturn void bench_die(const char *what, int err);

/* One tunnel: 1 KiB there and back, then its end; `done` gets the milliseconds it took. Ends the
 * program when it fails. */
void bench_tunnel(struct mt_conn *conn, const struct mt_addr *target,
	void (*done)(void *user, double ms), void *user);

/* Tunnels one after the other on a connection of their own for so many seconds; prints latency and
 * the server's CPU for each; without what the connections beside it cost alone, `idle_cpu` seconds
 * a second. */
void bench_probe(struct bench_side *side, const struct mt_addr *target, unsigned seconds, pid_t pid,
	unsigned beside, double idle_cpu);
void bench_probe_connected(struct bench_side *side);
