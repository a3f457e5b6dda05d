/* The course of one tunnel: its trace id and when each phase ended. What happens on the way is told
 * to the probes here, and at the end to the log (access_log.h).
 */
#pragma once

#include "proto/wire/addr.h"

#include <stddef.h>
#include <stdint.h>

/* Times are uv_hrtime's; 0: not reached. */
struct mt_tunnel_trace {
	uint64_t connection;   /* of the trace id, see proto/wire/trace.h */
	int64_t stream;        /* 0 where the connection carries one tunnel only */
	const char *transport; /* "quic", "tls"; static */
	uint64_t started_ns;
	uint64_t resolved_ns; /* the addresses are known */
	uint64_t connected_ns;
	uint64_t first_byte_ns; /* from the target */
};

/* The request is read; `host` is borrowed for the call. */
void mt_tunnel_trace_start(
	struct mt_tunnel_trace *t, const char *host, size_t host_len, uint16_t port);
void mt_tunnel_trace_resolved(struct mt_tunnel_trace *t);
void mt_tunnel_trace_connected(struct mt_tunnel_trace *t, const struct mt_addr *target);
void mt_tunnel_trace_failed(const struct mt_tunnel_trace *t, int err);
void mt_tunnel_trace_first_byte(struct mt_tunnel_trace *t);
void mt_tunnel_trace_closed(const struct mt_tunnel_trace *t, uint64_t bytes_received,
	uint64_t bytes_sent, const char *reason);
