/* One tunnel of a benchmark, timed. */
#pragma once

#include "proto/quic/conn.h"
#include "proto/wire/addr.h"

/* 1 KiB there and back, then its end; `done` gets the milliseconds it took. Ends the program when
 * it fails. */
void bench_tunnel(struct mt_conn *conn, const struct mt_addr *target,
	void (*done)(void *user, double ms), void *user);
