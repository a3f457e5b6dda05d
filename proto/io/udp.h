/* UDP in batches: recvmmsg with UDP_GRO, sendmmsg with UDP_SEGMENT, ECN and packet information both
 * ways. */
#pragma once

#include "proto/quic/endpoint.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A bound socket for QUIC. */
struct mt_udp_socket {
	int fd;               /* -1: closed */
	struct mt_addr local; /* as bound, with the real port */
	bool wildcard; /* bound to any address: answers carry the address that was addressed */
	bool gso;      /* switched off when the kernel or the device refuses (EIO, EINVAL) */
	bool blocked;  /* the last mt_udp_tx_flush left packets for it: wait until it is writable */
};

struct mt_udp_options {
	bool reuse_port;
	size_t buffer_bytes; /* SO_RCVBUF, SO_SNDBUF; 0 = 4 MiB. Less than asked for is no error. */
	/* Client: do not fix the source address of outgoing packets. With a wildcard bind the
	 * local address of every path is then the wildcard itself.
	 */
	bool connect_ok;
};

/* Opens, sets up (non-blocking, GRO, ECN, packet information, IP_PMTUDISC_PROBE, IPV6_V6ONLY) and
 * binds. */
int mt_udp_open(struct mt_udp_socket *out, const struct mt_addr *bind,
	const struct mt_udp_options *options) MT_MUST_CHECK;
void mt_udp_close(struct mt_udp_socket *s); /* repeated calls do nothing */
/* Attaches the steering program to the group that `s` belongs to (see steer.h). */
int mt_udp_steer(struct mt_udp_socket *s, uint8_t workers, uint8_t tag) MT_MUST_CHECK;

#define MT_UDP_RX_MESSAGES 16 /* the largest batch */

/* Receive buffers of one thread, shared by its sockets. */
struct mt_udp_rx;
struct mt_udp_rx *mt_udp_rx_new(void);
void mt_udp_rx_free(struct mt_udp_rx *rx);
/* From then on `fn` is called for each message of a batch of several before the first of them is
 * handed over. */
void mt_udp_rx_set_ahead(
	struct mt_udp_rx *rx, void (*fn)(void *user, const uint8_t *data, size_t len), void *user);
/* A batch has at most so many messages from then on, one to MT_UDP_RX_MESSAGES, which it has at
 * first. */
void mt_udp_rx_set_most(struct mt_udp_rx *rx, unsigned messages);
/* Receives one batch and calls `fn` for every message (several packets of `segment` bytes when >
 * 0). Returns the number of messages, 0 when nothing is there, a negative errno; with fewer than a
 * batch may have the socket is empty. `path->socket` is `s`.
 */
int mt_udp_receive(struct mt_udp_rx *rx, struct mt_udp_socket *s,
	void (*fn)(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
		size_t len, size_t segment),
	void *user) MT_MUST_CHECK;

/* Outgoing batches of one thread for several sockets: the room that struct mt_tx hands out. */
struct mt_udp_tx;
struct mt_udp_tx *mt_udp_tx_new(void);
void mt_udp_tx_free(struct mt_udp_tx *tx);
/* The two functions of struct mt_tx; `user` is the struct mt_udp_tx. `reserve` sends what is queued
 * first when the arena is full, and gives NULL when the sockets take no more. A batch whose
 * path->socket is NULL is dropped.
 */
uint8_t *mt_udp_tx_reserve(void *user);
void mt_udp_tx_commit(
	void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment);
/* Sends what is queued. 0 when all is out, MT_E_AGAIN when a socket is full (tails are kept, in
 * order; call again when it is writable). Packets that the kernel refuses for another reason are
 * dropped and counted as lost by QUIC.
 */
int mt_udp_tx_flush(struct mt_udp_tx *tx) MT_MUST_CHECK;
/* Forgets batches of a socket that is about to be closed. */
void mt_udp_tx_forget(struct mt_udp_tx *tx, const struct mt_udp_socket *s);
/* Syscalls and messages so far, for `status` and tests. */
struct mt_udp_tx_stats {
	uint64_t calls;
	uint64_t messages;
	uint64_t gso_fallbacks;
	uint64_t blocked;
	uint64_t dropped; /* messages that the kernel refused, or whose socket is gone */
};
const struct mt_udp_tx_stats *mt_udp_tx_stats(const struct mt_udp_tx *tx);
