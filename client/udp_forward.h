/* A local UDP port whose datagrams go to one target, as seen from the server (-U): whoever sends to
 * it has a session of its own, so that answers reach nobody else. One thread.
 */
#pragma once

#include "client/forward.h"
#include "client/udp_relay.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#define MT_UDP_FORWARD_PEERS_MAX 512    /* of one forward; then the one used least recently goes */
#define MT_UDP_FORWARD_IDLE_MS   120000 /* as long as the server keeps its side */

struct mt_udp_forward;

/* `*bound` is the address with the real port. A negative errno. */
int mt_udp_forward_open(struct mt_udp_forward **out, struct mt_udp_relay *relay,
	const struct mt_forward *forward, struct mt_addr *bound) MT_MUST_CHECK;
void mt_udp_forward_close(struct mt_udp_forward *f); /* NULL is allowed */
