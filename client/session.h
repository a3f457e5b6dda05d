/* What `connect` runs: the uplink, the local addresses, signals, and the lines on standard output.
 */
#pragma once

#include "client/chooser.h"
#include "client/forward.h"
#include "client/tunnel_log.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <stdbool.h>
#include <stddef.h>

#define MT_SESSION_PROXIES_MAX  16
#define MT_SESSION_FORWARDS_MAX 256 /* of TCP, and as many of UDP */

struct mt_session_proxy {
	const char *kind; /* "socks" or "http": what it is announced as; both speak both */
	struct mt_addr bind;
};

struct mt_session_config {
	struct mt_session_proxy proxies[MT_SESSION_PROXIES_MAX];
	size_t proxy_count;
	struct mt_forward forwards[MT_SESSION_FORWARDS_MAX];
	size_t forward_count;
	struct mt_forward udp_forwards[MT_SESSION_FORWARDS_MAX];
	size_t udp_forward_count;
	enum mt_choice choice; /* of the transport */
	enum mt_tunnel_log_form log;
	bool by_default; /* nobody asked for the proxy's address */
};

/* Runs until SIGINT or SIGTERM (0) or until a permanent failure, which has been said (negative).
 * The key of `profile` is wiped once the credentials are made.
 */
int mt_session_run(struct mt_session_config *config, struct mt_profile *profile) MT_MUST_CHECK;
