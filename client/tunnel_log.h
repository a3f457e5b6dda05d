/* The client's own log, for `connect --verbose`: a line on standard error for each tunnel that
 * failed or has ended, with the trace id by which the server's log calls it, and what became of
 * UDP. Of the same form as the server's (proto/wire/log_line.h). A reader that hangs costs lines,
 * which are counted.
 */
#pragma once

#include "client/udp_relay.h"
#include "client/uplink.h"
#include "proto/io/pump.h"

#include <stddef.h>
#include <stdint.h>

enum mt_tunnel_log_form {
	MT_TUNNEL_LOG_OFF,
	MT_TUNNEL_LOG_PRETTY,
	MT_TUNNEL_LOG_JSON,
};

/* Of one tunnel, zeroed before the first use; in its owner's memory. */
struct mt_tunnel_log {
	enum mt_tunnel_log_form form;
	struct mt_mem *mem;
	char *target; /* of `mem`; NULL: nothing is logged */
	uint64_t started_ns;
	uint64_t answered_ns;
	struct mt_trace_id id; /* whom mt_tunnel_config points to */
};

/* The tunnel is asked for; with MT_TUNNEL_LOG_OFF nothing is kept. `mem` is borrowed. */
void mt_tunnel_log_start(struct mt_tunnel_log *log, enum mt_tunnel_log_form form,
	struct mt_mem *mem, const char *host, size_t host_len, uint16_t port);
/* There is none; `reason` is a phrase. */
void mt_tunnel_log_failed(struct mt_tunnel_log *log, const char *reason);
void mt_tunnel_log_open(struct mt_tunnel_log *log);
void mt_tunnel_log_closed(struct mt_tunnel_log *log, const struct mt_pump_result *result);
/* What UDP has come to so far; `more_dropped`: more than when it was told last. */
void mt_tunnel_log_udp(
	enum mt_tunnel_log_form form, const struct mt_udp_relay_stats *stats, bool more_dropped);
void mt_tunnel_log_deinit(struct mt_tunnel_log *log);
