/* From a request to a connected socket: asks the rules, looks the name up, connects. The same for
 * every transport that carries tunnels. One thread.
 */
#pragma once

#include "daemon/access.h"
#include "daemon/connect.h"
#include "daemon/env.h"
#include "daemon/resolver.h"
#include "daemon/tunnel_trace.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In its tunnel's memory, zeroed before the first use, in place until mt_opening_deinit. The owner
 * sets the first block.
 */
struct mt_opening {
	struct mt_env *env;
	const char *client; /* its name, empty without identity; borrowed until it is deinit */
	struct mt_tunnel_trace trace; /* the owner sets connection, stream and transport */
	/* The end. On success `fd` is taken: non-blocking, not in the poller, connected to `addr`,
	 * which the rules allow right now. Otherwise `err` says why not, and `addr` may be NULL;
	 * -ECONNRESET: the target had accepted, and has reset at once. May deinit it.
	 */
	void (*on_done)(struct mt_opening *o, int err, int fd, const struct mt_addr *addr);

	uint16_t port;
	char *host; /* as it was asked for, not NUL-terminated; NULL: never started */
	size_t host_len;
	const char *name; /* the host when it is a name; NULL for an address */
	size_t name_len;
	bool under_way;
	struct mt_resolve resolve;
	struct mt_deadline deadline;
	struct mt_connect *connect;
};

/* Returns 0 when on_done follows, never from inside this call, or the error. Failures are counted
 * and logged in either case.
 */
int mt_opening_start(struct mt_opening *o, const struct mt_request *request) MT_MUST_CHECK;
/* What the rules are asked about this target; valid as long as the opening. */
struct mt_access_request mt_opening_request(const struct mt_opening *o);
/* Ends what is under way; no on_done follows. Nothing happens when it was never started. */
void mt_opening_deinit(struct mt_opening *o);
