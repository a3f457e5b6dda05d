/* The applications' connections: what they ask for by SOCKS5, HTTP or a forward, until the pump
 * takes over, and what they are told when there is no tunnel.
 */
#pragma once

#include "client/forward.h"
#include "client/tunnel_log.h"
#include "client/udp_assoc.h"
#include "client/uplink.h"
#include "proto/io/poller.h"
#include "proto/quic/mem.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <uv.h>

#define MT_LOCALS_MAX       16384 /* connections of applications */
#define MT_LOCAL_REQUEST_MS 30000 /* to say what is wanted */
#define MT_LOCAL_LINGER_MS  2000  /* to read an error answer */

struct mt_locals; /* all of them */

struct mt_locals_config {
	uv_loop_t *loop; /* all borrowed */
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	struct mt_udp_relay *udp;
	enum mt_tunnel_log_form log;
};

/* NULL without memory. */
struct mt_locals *mt_locals_new(const struct mt_locals_config *config);
/* Cuts all connections. The memory goes when the loop has run again. NULL is allowed. */
void mt_locals_free(struct mt_locals *locals);

/* Takes an accepted, non-blocking socket. `forward` is NULL where SOCKS5 and HTTP are spoken; else
 * it stays borrowed. MT_E_LIMIT, -ENOMEM: the caller keeps the socket.
 */
int mt_local_start(
	struct mt_locals *locals, int fd, const struct mt_forward *forward) MT_MUST_CHECK;
