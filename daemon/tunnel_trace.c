#include "daemon/tunnel_trace.h"

#include "daemon/failure.h"
#include "proto/wire/probes.h"

#include <uv.h>

void mt_tunnel_trace_start(
	struct mt_tunnel_trace *t, const char *host, size_t host_len, uint16_t port)
{
	t->started_ns = uv_hrtime();
	MT_PROBE5(tunnel_open, t->connection, t->stream, host, host_len, port);
}

void mt_tunnel_trace_resolved(struct mt_tunnel_trace *t)
{
	t->resolved_ns = uv_hrtime();
}

void mt_tunnel_trace_connected(struct mt_tunnel_trace *t, const struct mt_addr *target)
{
	t->connected_ns = uv_hrtime();
	MT_PROBE5(target_connected, t->connection, t->stream, &target->sa,
		t->resolved_ns - t->started_ns, t->connected_ns - t->resolved_ns);
}

void mt_tunnel_trace_failed(const struct mt_tunnel_trace *t, int err)
{
	MT_PROBE4(target_failed, t->connection, t->stream, err, mt_failure_text(err));
}

void mt_tunnel_trace_first_byte(struct mt_tunnel_trace *t)
{
	t->first_byte_ns = uv_hrtime();
	MT_PROBE3(first_byte, t->connection, t->stream, t->first_byte_ns - t->started_ns);
}

void mt_tunnel_trace_closed(const struct mt_tunnel_trace *t, uint64_t bytes_received,
	uint64_t bytes_sent, const char *reason)
{
	MT_PROBE5(tunnel_close, t->connection, t->stream, bytes_received, bytes_sent, reason);
}
