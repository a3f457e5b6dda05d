/* What the log says of tunnels. With logging.access on there is a line for each that has ended or
 * failed; without it only for failures, within the budget of their kind, and without the target:
 * what clients visit is written down only where the administrator asked for it (or for debug).
 */
#pragma once

#include "daemon/env.h"
#include "daemon/opening.h"

#include <stdint.h>

struct mt_access_end {
	const char *client;           /* empty without identity */
	const struct mt_addr *target; /* connected to */
	uint64_t bytes_received;      /* from the client */
	uint64_t bytes_sent;
	const char *reason; /* a few lower-case words */
};

/* A connection has come or gone: "connected", "disconnected". `trace` is 0 over TLS, where each
 * tunnel has its own. Both reasons may be empty. */
void mt_access_log_connection(const struct mt_env *env, const char *event, uint64_t trace,
	const char *client, const struct mt_addr *peer, const char *reason, const char *detail);
/* A tunnel that was open. */
void mt_access_log_closed(const struct mt_opening *o, const struct mt_access_end *end);
/* One that did not come about; `reason` is mt_failure_text's, or "cancelled" by the client. */
void mt_access_log_failed(const struct mt_opening *o, const char *reason);
