/* UDP to and from targets in batches, shared by the relays of one worker: what is sent during a
 * turn of the loop leaves by one sendmmsg per socket at its end, what arrives is read by recvmmsg.
 * One thread.
 */
#pragma once

#include "daemon/counters.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_RELAY_BATCH 32 /* messages of one system call */

struct mt_relay_io;

/* A descriptor with what waits to be sent through it; embedded in its owner. */
struct mt_relay_out {
	int fd;
	mt_counter *bytes;         /* that were sent; borrowed */
	struct mt_relay_out *next; /* among those with something to send */
	unsigned first, last;      /* in the batch */
	unsigned count;
};

/* A datagram that arrived; borrowed until the next receive. */
struct mt_relay_in {
	struct mt_addr from;
	const uint8_t *data;
	size_t len;
};

struct mt_relay_io *mt_relay_io_new(struct mt_worker_counters *counters); /* NULL without memory */
void mt_relay_io_free(struct mt_relay_io *io); /* NULL is allowed; nothing is sent any more */
void mt_relay_io_init(struct mt_relay_out *out, int fd, mt_counter *bytes);
/* Copies one datagram. Everything is sent first when there is no room left. */
void mt_relay_io_send(struct mt_relay_io *io, struct mt_relay_out *out, const struct mt_addr *to,
	const uint8_t *data, size_t len);
/* At the end of a turn. What the system does not take is dropped and counted: it is UDP. */
void mt_relay_io_flush(struct mt_relay_io *io);
/* Receives at most `max` (up to MT_RELAY_BATCH) datagrams. Returns how many, fewer than `max` only
 * when there are no more; or a negative errno.
 */
int mt_relay_io_receive(
	struct mt_relay_io *io, int fd, size_t max, const struct mt_relay_in **in) MT_MUST_CHECK;
