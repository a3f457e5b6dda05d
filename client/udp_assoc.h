/* SOCKS5 UDP associations (RFC 1928, section 7): a local UDP socket for each, whose datagrams
 * travel as datagrams of the tunnel.
 */
#pragma once

#include "client/uplink.h"
#include "proto/io/poller.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_UDP_ASSOCS_MAX 1024

struct mt_udp_relay;
struct mt_udp_assoc;

/* What was dropped, and why. */
struct mt_udp_relay_stats {
	uint64_t sent;
	uint64_t received;
	uint64_t dropped_foreign;   /* not from the owner of the association */
	uint64_t dropped_malformed; /* no SOCKS5 header, or a fragment */
	uint64_t dropped_too_long;  /* more than a datagram of the tunnel holds now */
	uint64_t dropped_offline;   /* no connection to the server */
	uint64_t dropped_unknown;   /* an answer that nobody waits for, or that is malformed */
};

/* NULL without memory. */
struct mt_udp_relay *mt_udp_relay_new(
	uv_loop_t *loop, struct mt_poller *poller, struct mt_uplink *uplink);
/* All associations must be closed. NULL is allowed. */
void mt_udp_relay_free(struct mt_udp_relay *relay);

/* An association for the application at the other end of the TCP connection `fd`, on the address
 * that it used; `*bound` says where it sends its datagrams to. MT_E_LIMIT or a negative errno.
 */
int mt_udp_assoc_open(struct mt_udp_assoc **out, struct mt_udp_relay *relay, int fd,
	struct mt_addr *bound) MT_MUST_CHECK;
void mt_udp_assoc_close(struct mt_udp_assoc *assoc); /* NULL is allowed */

/* A datagram came out of the tunnel. */
void mt_udp_relay_deliver(struct mt_udp_relay *relay, const uint8_t *data, size_t len);
/* Forgets idle targets; now and then. */
void mt_udp_relay_tick(struct mt_udp_relay *relay);
const struct mt_udp_relay_stats *mt_udp_relay_stats(const struct mt_udp_relay *relay);
