/* One try to reach the server: its name is resolved, and connections to its addresses race, the
 * second family a little behind the first (RFC 8305). While nothing answers, further connections
 * start at intervals, so that a server that comes back is noticed at once and not at QUIC's next
 * retransmission.
 */
#pragma once

#include "client/reason.h"
#include "client/resolve.h"
#include "client/route.h"
#include "proto/quic/tls.h"
#include "proto/wire/err.h"

#include <stdint.h>
#include <uv.h>

#define MT_DIAL_ATTEMPTS_MAX 4     /* at a time; the oldest gives way */
#define MT_DIAL_STAGGER_MS   300   /* before the next address */
#define MT_DIAL_REPEAT_MS    1000  /* before the same addresses again */
#define MT_DIAL_TIMEOUT_MS   10000 /* for the whole, usually */

struct mt_dial;

struct mt_dial_config {
	uv_loop_t *loop;
	struct mt_route *route; /* borrowed, as `tls` and `host` */
	struct mt_tls_client *tls;
	const char *host;
	uint16_t port;
	uint64_t timeout_ms; /* for the whole */
	/* Once, never from within mt_dial_start: a confirmed connection, which is the user's now,
	 * or NULL and the reason. The dial is over and will be freed.
	 */
	void (*on_done)(struct mt_dial *dial, struct mt_conn *conn, const struct mt_reason *reason,
		void *user);
	void *user;
};

int mt_dial_start(struct mt_dial **out, const struct mt_dial_config *config) MT_MUST_CHECK;
/* Gives up: no on_done follows. The memory goes when the loop has run again. */
void mt_dial_cancel(struct mt_dial *dial);
