/* One try to open a TLS connection over TCP to the server: its addresses race, each a little behind
 * the one before (RFC 8305), the first whose handshake succeeds wins.
 */
#pragma once

#include "client/reason.h"
#include "client/resolve.h"
#include "proto/io/poller.h"
#include "proto/io/tls_stream.h"
#include "proto/quic/tls.h"
#include "proto/wire/err.h"

#include <sys/queue.h>
#include <uv.h>

#define MT_TLS_DIAL_ATTEMPTS_MAX 4 /* at a time; the oldest gives way */
#define MT_TLS_DIAL_STAGGER_MS   300
#define MT_TLS_DIAL_TIMEOUT_MS   10000 /* for the whole */

struct mt_tls_dial;
LIST_HEAD(mt_tls_lines, mt_tls_line);

/* Who hears of the end of a connection, when its stream may be gone already. */
struct mt_tls_watch {
	void (*on_gone)(struct mt_tls_watch *watch, const struct mt_tls_socket *socket);
	struct mt_tls_lines lines; /* the dials' own; empty at first */
};

/* When `connections` has been freed, which tells nobody: forgets them all. */
void mt_tls_watch_deinit(struct mt_tls_watch *watch);

struct mt_tls_dial_config {
	uv_loop_t *loop; /* all borrowed */
	struct mt_poller *poller;
	struct mt_mem *mem;
	struct mt_tls_loop *connections;
	struct mt_tls_client *tls;
	const struct mt_addresses *addresses; /* for the call; at least one */
	struct mt_tls_watch *watch;           /* hears of its end; outlives `connections` */
	/* Once, never from within mt_tls_dial_start: the stream, which is the user's now, and its
	 * address; or NULL, NULL and the reason. The dial is over and will be freed.
	 */
	void (*on_done)(struct mt_tls_dial *dial, struct mt_stream *stream,
		const struct mt_addr *remote, const struct mt_reason *reason, void *user);
	void *user;
};

int mt_tls_dial_start(
	struct mt_tls_dial **out, const struct mt_tls_dial_config *config) MT_MUST_CHECK;
/* Gives up: no on_done follows. The memory goes when the loop has run again. */
void mt_tls_dial_cancel(struct mt_tls_dial *dial);
