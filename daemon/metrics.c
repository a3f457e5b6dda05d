#include "daemon/metrics.h"

#include <string.h>

#define AT(field)   offsetof(struct mt_worker_counters, field)
#define QUIC(field) offsetof(struct mt_worker_counters, quic.field)
#define ONE(name, key, type, field, help)                                                          \
	{                                                                                          \
		"mytunnel_" name, key, help, type, field, MT_METRIC_NONE                           \
	}
#define SUM(name, key, type, field, other, help)                                                   \
	{                                                                                          \
		"mytunnel_" name, key, help, type, field, other                                    \
	}

static const struct mt_metric table[] = {
	ONE("connections_total", "connections_total", MT_WEB_COUNTER, QUIC(connections_total),
		"Handshakes completed."),
	ONE("connections_active", "connections_active", MT_WEB_GAUGE, QUIC(connections_active),
		"Connections established now."),
	ONE("connections_failed", "connections_failed", MT_WEB_UNTYPED, QUIC(connections_failed),
		"Connections that ended before the handshake completed."),
	ONE("bytes_received", "bytes_received", MT_WEB_UNTYPED, AT(bytes_received),
		"Tunnelled payload from clients, in bytes."),
	ONE("bytes_sent", "bytes_sent", MT_WEB_UNTYPED, AT(bytes_sent),
		"Tunnelled payload to clients, in bytes."),
	ONE("packets_received", "packets_received", MT_WEB_UNTYPED, QUIC(packets_received),
		"QUIC packets received (UDP payloads)."),
	ONE("packets_sent", "packets_sent", MT_WEB_UNTYPED, QUIC(packets_sent),
		"QUIC packets sent (UDP payloads)."),
	ONE("streams_opened", "streams_opened", MT_WEB_UNTYPED, QUIC(streams_opened),
		"Streams opened."),
	ONE("streams_closed", "streams_closed", MT_WEB_UNTYPED, QUIC(streams_closed),
		"Streams closed."),
	ONE("datagrams_received", "datagrams_received", MT_WEB_UNTYPED, QUIC(datagrams_received),
		"QUIC datagrams received."),
	ONE("datagrams_sent", "datagrams_sent", MT_WEB_UNTYPED, QUIC(datagrams_sent),
		"QUIC datagrams sent."),
	SUM("errors_total", "errors_total", MT_WEB_COUNTER, AT(errors), QUIC(protocol_errors),
		"Own failures, and connections closed for a violation of the protocol."),
	ONE("timeouts_total", "timeouts_total", MT_WEB_COUNTER, QUIC(timeouts),
		"Idle and handshake timeouts."),

	ONE("connections_half_open", "connections_half_open", MT_WEB_GAUGE,
		QUIC(connections_half_open), "Handshakes under way."),
	ONE("connections_refused_total", "connections_refused", MT_WEB_COUNTER,
		QUIC(connections_refused), "Connections refused by a cap or a limit."),
	ONE("identity_refused_total", "identity_refused", MT_WEB_COUNTER, QUIC(identity_refused),
		"Handshakes refused for a missing, unknown or revoked identity."),
	ONE("wire_received_bytes_total", "wire_bytes_received", MT_WEB_COUNTER,
		QUIC(wire_bytes_received), "UDP payload received."),
	ONE("wire_sent_bytes_total", "wire_bytes_sent", MT_WEB_COUNTER, QUIC(wire_bytes_sent),
		"UDP payload sent."),
	ONE("packets_invalid_total", "packets_invalid", MT_WEB_COUNTER, QUIC(packets_invalid),
		"Packets dropped: too short, malformed, or for no connection."),
	ONE("packets_over_budget_total", "packets_over_budget", MT_WEB_COUNTER,
		QUIC(packets_over_budget),
		"Packets dropped unread of connections that sent too many for nothing."),
	ONE("packets_foreign_total", "packets_foreign", MT_WEB_COUNTER, QUIC(packets_foreign),
		"Packets handed to the worker that owns their connection."),
	ONE("version_negotiations_total", "version_negotiations", MT_WEB_COUNTER,
		QUIC(version_negotiations), "Version Negotiation packets sent."),
	ONE("retries_total", "retries", MT_WEB_COUNTER, QUIC(retries), "Retry packets sent."),
	ONE("tokens_invalid_total", "tokens_invalid", MT_WEB_COUNTER, QUIC(tokens_invalid),
		"Address validation tokens refused."),
	ONE("stateless_resets_total", "stateless_resets", MT_WEB_COUNTER, QUIC(stateless_resets),
		"Stateless resets sent."),
	ONE("migrations_total", "migrations", MT_WEB_COUNTER, QUIC(migrations),
		"Paths validated after a change of address."),
	ONE("datagrams_dropped_total", "datagrams_dropped", MT_WEB_COUNTER, QUIC(datagrams_dropped),
		"Datagrams to clients dropped: queue full, or too large for the path."),
	ONE("crypto_floods_total", "crypto_floods", MT_WEB_COUNTER, QUIC(crypto_floods),
		"Connections closed for too much handshake data."),
	ONE("protocol_errors_total", "protocol_errors", MT_WEB_COUNTER, QUIC(protocol_errors),
		"Connections closed for a violation of the protocol."),
	ONE("memory_reckoned_bytes", "memory_bytes", MT_WEB_GAUGE, QUIC(memory_bytes),
		"Memory that connections need, as limits.max_memory_mb counts it."),
	ONE("memory_shed_total", "memory_shed", MT_WEB_COUNTER, QUIC(memory_shed),
		"Connections closed because memory was short."),
	ONE("memory_waits_total", "memory_waits", MT_WEB_COUNTER, QUIC(memory_waits),
		"Times a tunnel had to wait with reading because memory was short."),
	ONE("tunnels_opened_total", "tunnels_opened", MT_WEB_COUNTER, AT(tunnels_opened),
		"TCP tunnels connected to their target."),
	ONE("tunnels_active", "tunnels_active", MT_WEB_GAUGE, AT(tunnels_active),
		"TCP tunnels open now."),
	ONE("tunnels_refused_total", "tunnels_refused", MT_WEB_COUNTER, AT(tunnels_refused),
		"TCP tunnels refused by access rules."),
	ONE("tunnels_failed_total", "tunnels_failed", MT_WEB_COUNTER, AT(tunnels_failed),
		"Targets that could not be reached."),
	ONE("tunnels_reset_total", "tunnels_reset", MT_WEB_COUNTER, AT(tunnels_reset),
		"TCP tunnels ended by a reset."),
	ONE("requests_malformed_total", "requests_malformed", MT_WEB_COUNTER,
		AT(requests_malformed), "Malformed tunnel requests."),
	ONE("requests_unsupported_total", "requests_unsupported", MT_WEB_COUNTER,
		AT(requests_unsupported), "Tunnel requests of an unknown type."),
	ONE("requests_timeout_total", "requests_timeout", MT_WEB_COUNTER, AT(requests_timeout),
		"Tunnel requests that were not complete in time."),
	ONE("udp_flows_active", "udp_flows_active", MT_WEB_GAUGE, AT(udp_flows_active),
		"UDP sessions with an open socket."),
	ONE("udp_from_clients_total", "udp_from_clients", MT_WEB_COUNTER, AT(udp_from_clients),
		"UDP datagrams relayed to targets."),
	ONE("udp_to_clients_total", "udp_to_clients", MT_WEB_COUNTER, AT(udp_to_clients),
		"UDP datagrams relayed to clients."),
	ONE("udp_dropped_malformed_total", "udp_dropped_malformed", MT_WEB_COUNTER,
		AT(udp_dropped_malformed), "Malformed UDP datagrams dropped."),
	ONE("udp_dropped_denied_total", "udp_dropped_denied", MT_WEB_COUNTER,
		AT(udp_dropped_denied), "UDP datagrams dropped by access rules."),
	ONE("udp_dropped_stream_total", "udp_dropped_stream", MT_WEB_COUNTER,
		AT(udp_dropped_stream), "UDP datagrams dropped because a stream did not keep up."),
	ONE("udp_sessions_active", "udp_sessions_active", MT_WEB_GAUGE, AT(udp_sessions_active),
		"UDP sessions, one for each application of a client."),
	ONE("udp_sessions_evicted_total", "udp_sessions_evicted", MT_WEB_COUNTER,
		AT(udp_sessions_evicted), "UDP sessions ended to make room for others."),
	ONE("udp_streams_active", "udp_streams_active", MT_WEB_GAUGE, AT(udp_streams_active),
		"Streams that carry UDP datagrams."),
	ONE("udp_fragments_received_total", "udp_fragments", MT_WEB_COUNTER, AT(udp_fragments),
		"Fragments of UDP payloads from clients."),
	ONE("udp_reassembly_bytes", "udp_reassembly_bytes", MT_WEB_GAUGE, AT(udp_reassembly_bytes),
		"Memory that incomplete UDP payloads hold."),
	ONE("udp_reassembly_late_total", "udp_reassembly_late", MT_WEB_COUNTER,
		AT(udp_reassembly_late), "UDP payloads dropped: fragments did not come in time."),
	ONE("udp_reassembly_mismatch_total", "udp_reassembly_mismatch", MT_WEB_COUNTER,
		AT(udp_reassembly_mismatch),
		"UDP payloads dropped: fragments contradict each other."),
	ONE("udp_reassembly_too_long_total", "udp_reassembly_too_long", MT_WEB_COUNTER,
		AT(udp_reassembly_too_long), "UDP payloads dropped: larger than any UDP packet."),
	ONE("udp_reassembly_full_total", "udp_reassembly_full", MT_WEB_COUNTER,
		AT(udp_reassembly_full),
		"Incomplete UDP payloads dropped to make room for others."),
	ONE("udp_reassembly_memory_total", "udp_reassembly_memory", MT_WEB_COUNTER,
		AT(udp_reassembly_memory), "Incomplete UDP payloads dropped for want of memory."),
	ONE("udp_dropped_queue_total", "udp_dropped_queue", MT_WEB_COUNTER, AT(udp_dropped_queue),
		"UDP datagrams dropped: queue full, or the name is unknown."),
	ONE("udp_dropped_send_total", "udp_dropped_send", MT_WEB_COUNTER, AT(udp_dropped_send),
		"UDP datagrams that could not be sent to their target."),
	ONE("udp_dropped_rate_total", "udp_dropped_rate", MT_WEB_COUNTER, AT(udp_dropped_rate),
		"UDP datagrams dropped because the client is beyond its rate."),
	ONE("udp_dropped_size_total", "udp_dropped_size", MT_WEB_COUNTER, AT(udp_dropped_size),
		"UDP answers too large for the path to the client."),
	ONE("packets_foreign_dropped_total", "packets_foreign_dropped", MT_WEB_COUNTER,
		AT(foreign_dropped), "Packets for another worker dropped: its mailbox was full."),
	ONE("dns_queries_total", "dns_queries", MT_WEB_COUNTER, AT(dns_queries),
		"Names looked up."),
	ONE("dns_failures_total", "dns_failures", MT_WEB_COUNTER, AT(dns_failures),
		"Look-ups that failed."),
	ONE("channel_errors_total", "channel_errors", MT_WEB_COUNTER, AT(channel_errors),
		"Violations on control channels."),
	ONE("internal_errors_total", "internal_errors", MT_WEB_COUNTER, AT(errors),
		"Own failures: memory, descriptors."),
};

#define ROWS (sizeof(table) / sizeof(table[0]))

const struct mt_metric *mt_metrics_table(size_t *count)
{
	*count = ROWS;
	return table;
}

static uint64_t read_at(const struct mt_worker_counters *counters, size_t offset)
{
	return mt_counter_get((const mt_counter *)(const void *)((const char *)counters + offset));
}

uint64_t mt_metric_value(const struct mt_metric *m, const struct mt_worker_counters *counters)
{
	uint64_t value = read_at(counters, m->offset);

	return m->second == MT_METRIC_NONE ? value : value + read_at(counters, m->second);
}

uint64_t mt_metric_sum(
	const struct mt_metric *m, const struct mt_worker_counters *counters, size_t workers)
{
	uint64_t sum = 0;

	for (size_t w = 0; w < workers; w++) {
		sum += mt_metric_value(m, &counters[w]);
	}
	return sum;
}

uint64_t mt_metric_sum_of(
	const char *key, const struct mt_worker_counters *counters, size_t workers)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (strcmp(table[i].key, key) == 0) {
			return mt_metric_sum(&table[i], counters, workers);
		}
	}
	return 0;
}
