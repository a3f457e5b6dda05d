#include "daemon/metrics.h"

#include <stdio.h>
#include <string.h>

#define AT(field)   offsetof(struct mt_worker_counters, field)
#define QUIC(field) offsetof(struct mt_worker_counters, quic.field)
#define ROW(name, key, type, field, ...)                                                           \
	{                                                                                          \
		"mytunnel_" name, key, MT_WEB_##type, field, __VA_ARGS__                           \
	}
#define ONE(help)              MT_METRIC_NONE, help, NULL, NULL
#define SUM(other, help)       other, help, NULL, NULL
#define BY(label, value, help) MT_METRIC_NONE, help, label, value

/* Rows of one name stand together. */
static const struct mt_metric table[] = {
	ROW("connections_total", "connections_total", COUNTER, QUIC(connections_total),
		SUM(AT(tls_connections_total), "Handshakes completed.")),
	ROW("connections_active", "connections_active", GAUGE, QUIC(connections_active),
		SUM(AT(tls_connections_active), "Connections established now.")),
	ROW("connections_failed", "connections_failed", UNTYPED, QUIC(connections_failed),
		SUM(AT(tls_handshakes_failed),
			"Connections that ended before the handshake completed.")),
	ROW("bytes_received", "bytes_received", UNTYPED, AT(bytes_received),
		SUM(AT(tls_bytes_received), "Tunnelled payload from clients, in bytes.")),
	ROW("bytes_sent", "bytes_sent", UNTYPED, AT(bytes_sent),
		SUM(AT(tls_bytes_sent), "Tunnelled payload to clients, in bytes.")),
	ROW("packets_received", "packets_received", UNTYPED, QUIC(packets_received),
		ONE("QUIC packets received (UDP payloads).")),
	ROW("packets_sent", "packets_sent", UNTYPED, QUIC(packets_sent),
		ONE("QUIC packets sent (UDP payloads).")),
	ROW("streams_opened", "streams_opened", UNTYPED, QUIC(streams_opened),
		ONE("Streams opened.")),
	ROW("streams_closed", "streams_closed", UNTYPED, QUIC(streams_closed),
		ONE("Streams closed.")),
	ROW("datagrams_received", "datagrams_received", UNTYPED, QUIC(datagrams_received),
		ONE("QUIC datagrams received.")),
	ROW("datagrams_sent", "datagrams_sent", UNTYPED, QUIC(datagrams_sent),
		ONE("QUIC datagrams sent.")),
	ROW("errors_total", "errors_total", COUNTER, AT(errors),
		SUM(QUIC(protocol_errors),
			"Own failures, and connections closed for a violation of the protocol.")),
	ROW("timeouts_total", "timeouts_total", COUNTER, QUIC(timeouts),
		ONE("Idle and handshake timeouts.")),
	ROW("transport_connections_total", "quic_connections_total", COUNTER,
		QUIC(connections_total),
		BY("transport", "quic", "Connections established, by transport.")),
	ROW("transport_connections_total", "tls_connections_total", COUNTER,
		AT(tls_connections_total),
		BY("transport", "tls", "Connections established, by transport.")),
	ROW("transport_connections", "quic_connections", GAUGE, QUIC(connections_active),
		BY("transport", "quic", "Connections established now, by transport.")),
	ROW("transport_connections", "tls_connections", GAUGE, AT(tls_connections_active),
		BY("transport", "tls", "Connections established now, by transport.")),
	ROW("transport_received_bytes_total", "quic_bytes_received", COUNTER, AT(bytes_received),
		BY("transport", "quic", "Tunnelled payload from clients, by transport.")),
	ROW("transport_received_bytes_total", "tls_bytes_received", COUNTER, AT(tls_bytes_received),
		BY("transport", "tls", "Tunnelled payload from clients, by transport.")),
	ROW("transport_sent_bytes_total", "quic_bytes_sent", COUNTER, AT(bytes_sent),
		BY("transport", "quic", "Tunnelled payload to clients, by transport.")),
	ROW("transport_sent_bytes_total", "tls_bytes_sent", COUNTER, AT(tls_bytes_sent),
		BY("transport", "tls", "Tunnelled payload to clients, by transport.")),
	ROW("connections_half_open", "connections_half_open", GAUGE, QUIC(connections_half_open),
		SUM(AT(tls_half_open), "Handshakes under way.")),
	ROW("tls_accepted_total", "tls_accepted", COUNTER, AT(tls_accepted),
		ONE("TCP connections accepted for TLS.")),
	ROW("tls_records_connections", "tls_kernel_active", GAUGE, AT(tls_kernel_active),
		BY("records", "kernel", "TCP connections open now, by who makes their records.")),
	ROW("tls_records_connections", "tls_user_active", GAUGE, AT(tls_user_active),
		BY("records", "gnutls", "TCP connections open now, by who makes their records.")),
	ROW("tls_records_connections_total", "tls_kernel", COUNTER, AT(tls_kernel_total),
		BY("records", "kernel", "TCP connections, by who makes their TLS records.")),
	ROW("tls_records_connections_total", "tls_user", COUNTER, AT(tls_user_total),
		BY("records", "gnutls", "TCP connections, by who makes their TLS records.")),
	ROW("tls_spliced_bytes_total", "tls_spliced_bytes", COUNTER, AT(tls_spliced_bytes),
		ONE("Payload over kernel TLS of tunnels that are spliced.")),
	ROW("tls_pipes_missing_total", "tls_pipes_missing", COUNTER, AT(tls_pipes_missing),
		ONE("How often a tunnel over kernel TLS waited for a pipe's descriptors.")),
	ROW("tls_resets_total", "tls_rekeys", COUNTER, AT(tls_rekeys),
		BY("reason", "key_update",
			"TLS connections reset: the client changed keys that the kernel holds, one "
			"key must not make more records, the client sent an alert.")),
	ROW("tls_resets_total", "tls_record_limits", COUNTER, AT(tls_record_limits),
		BY("reason", "record_limit",
			"TLS connections reset: the client changed keys that the kernel holds, one "
			"key must not make more records, the client sent an alert.")),
	ROW("tls_resets_total", "tls_alerts", COUNTER, AT(tls_alerts),
		BY("reason", "alert",
			"TLS connections reset: the client changed keys that the kernel holds, one "
			"key must not make more records, the client sent an alert.")),
	ROW("connections_refused_total", "connections_refused", COUNTER, QUIC(connections_refused),
		ONE("Connections refused by a cap or a limit.")),
	ROW("identity_refused_total", "identity_refused", COUNTER, QUIC(identity_refused),
		ONE("Handshakes refused for a missing, unknown, revoked, disabled or expired "
		    "identity.")),
	ROW("handshake_failures_total", "handshake_failed_timeout", COUNTER,
		QUIC(handshake_timeout),
		BY("reason", "timeout", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_closed", COUNTER, QUIC(handshake_closed),
		BY("reason", "closed", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_protocol", COUNTER,
		QUIC(handshake_protocol),
		BY("reason", "protocol", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_tls", COUNTER, QUIC(handshake_tls),
		AT(tls_handshakes_failed), "Handshakes that failed, by reason.", "reason", "tls"),
	ROW("handshake_failures_total", "handshake_failed_identity_missing", COUNTER,
		AT(identity_refusals[MT_IDENTITY_MISSING]),
		BY("reason", "identity_missing", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_identity_unknown", COUNTER,
		AT(identity_refusals[MT_IDENTITY_UNKNOWN]),
		BY("reason", "identity_unknown", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_identity_revoked", COUNTER,
		AT(identity_refusals[MT_IDENTITY_REVOKED]),
		BY("reason", "identity_revoked", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_identity_disabled", COUNTER,
		AT(identity_refusals[MT_IDENTITY_DISABLED]),
		BY("reason", "identity_disabled", "Handshakes that failed, by reason.")),
	ROW("handshake_failures_total", "handshake_failed_identity_expired", COUNTER,
		AT(identity_refusals[MT_IDENTITY_EXPIRED]),
		BY("reason", "identity_expired", "Handshakes that failed, by reason.")),
	ROW("connect_failures_total", "connect_failed_dns", COUNTER,
		AT(connect_failures[MT_CONNECT_DNS]),
		BY("reason", "dns", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_refused", COUNTER,
		AT(connect_failures[MT_CONNECT_REFUSED]),
		BY("reason", "refused", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_timeout", COUNTER,
		AT(connect_failures[MT_CONNECT_TIMEOUT]),
		BY("reason", "timeout", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_unreachable", COUNTER,
		AT(connect_failures[MT_CONNECT_UNREACHABLE]),
		BY("reason", "unreachable", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_reset", COUNTER,
		AT(connect_failures[MT_CONNECT_RESET]),
		BY("reason", "reset", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_resources", COUNTER,
		AT(connect_failures[MT_CONNECT_RESOURCES]),
		BY("reason", "resources", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_draining", COUNTER,
		AT(connect_failures[MT_CONNECT_DRAINING]),
		BY("reason", "draining", "Targets that could not be reached, by reason.")),
	ROW("connect_failures_total", "connect_failed_other", COUNTER,
		AT(connect_failures[MT_CONNECT_OTHER]),
		BY("reason", "other", "Targets that could not be reached, by reason.")),
	ROW("packets_lost_total", "packets_lost", COUNTER, QUIC(packets_lost),
		ONE("QUIC packets sent that were lost.")),
	ROW("migrations_total", "migrations", COUNTER, QUIC(migrations),
		ONE("Paths validated after a change of address.")),
	ROW("key_updates_total", "key_updates", COUNTER, QUIC(key_updates),
		ONE("Key updates of QUIC connections, by either side.")),
	ROW("retries_total", "retries", COUNTER, QUIC(retries), ONE("Retry packets sent.")),
	ROW("tokens_invalid_total", "tokens_invalid", COUNTER, QUIC(tokens_invalid),
		ONE("Address validation tokens refused.")),
	ROW("stateless_resets_total", "stateless_resets", COUNTER, QUIC(stateless_resets),
		ONE("Stateless resets sent.")),
	ROW("version_negotiations_total", "version_negotiations", COUNTER,
		QUIC(version_negotiations), ONE("Version Negotiation packets sent.")),
	ROW("wire_received_bytes_total", "wire_bytes_received", COUNTER, QUIC(wire_bytes_received),
		ONE("UDP payload received.")),
	ROW("wire_sent_bytes_total", "wire_bytes_sent", COUNTER, QUIC(wire_bytes_sent),
		ONE("UDP payload sent.")),
	ROW("packets_dropped_total", "packets_invalid", COUNTER, QUIC(packets_invalid),
		BY("reason", "invalid",
			"Packets dropped: malformed or for no connection, of connections that sent "
			"too many for nothing, for a worker whose mailbox was full.")),
	ROW("packets_dropped_total", "packets_over_budget", COUNTER, QUIC(packets_over_budget),
		BY("reason", "over_budget",
			"Packets dropped: malformed or for no connection, of connections that sent "
			"too many for nothing, for a worker whose mailbox was full.")),
	ROW("packets_dropped_total", "packets_foreign_dropped", COUNTER, AT(foreign_dropped),
		BY("reason", "foreign",
			"Packets dropped: malformed or for no connection, of connections that sent "
			"too many for nothing, for a worker whose mailbox was full.")),
	ROW("packets_foreign_total", "packets_foreign", COUNTER, QUIC(packets_foreign),
		ONE("Packets handed to the worker that owns their connection.")),
	ROW("crypto_floods_total", "crypto_floods", COUNTER, QUIC(crypto_floods),
		ONE("Connections closed for too much handshake data.")),
	ROW("protocol_errors_total", "protocol_errors", COUNTER, QUIC(protocol_errors),
		ONE("Connections closed for a violation of the protocol.")),
	ROW("internal_errors_total", "internal_errors", COUNTER, AT(errors),
		ONE("Own failures: memory, descriptors.")),
	ROW("tunnels_opened_total", "tunnels_opened", COUNTER, AT(tunnels_opened),
		ONE("TCP tunnels connected to their target.")),
	ROW("tunnels_active", "tunnels_active", GAUGE, AT(tunnels_active),
		ONE("TCP tunnels open now.")),
	ROW("tunnels_failed_total", "tunnels_failed", COUNTER, AT(tunnels_failed),
		ONE("TCP tunnels whose target could not be reached.")),
	ROW("tunnels_reset_total", "tunnels_reset", COUNTER, AT(tunnels_reset),
		ONE("TCP tunnels ended by a reset.")),
	ROW("requests_rejected_total", "requests_malformed", COUNTER, AT(requests_malformed),
		BY("reason", "malformed",
			"Tunnel requests that were no request: malformed, of an unknown type, not "
			"complete in time.")),
	ROW("requests_rejected_total", "requests_unsupported", COUNTER, AT(requests_unsupported),
		BY("reason", "unsupported",
			"Tunnel requests that were no request: malformed, of an unknown type, not "
			"complete in time.")),
	ROW("requests_rejected_total", "requests_timeout", COUNTER, AT(requests_timeout),
		BY("reason", "timeout",
			"Tunnel requests that were no request: malformed, of an unknown type, not "
			"complete in time.")),
	ROW("access_denied_total", "tunnels_refused", COUNTER, AT(tunnels_refused),
		BY("protocol", "tcp",
			"TCP tunnels and UDP datagrams refused by the access rules.")),
	ROW("access_denied_total", "udp_dropped_denied", COUNTER, AT(udp_dropped_denied),
		BY("protocol", "udp",
			"TCP tunnels and UDP datagrams refused by the access rules.")),
	ROW("limit_hits_total", "limit_connections", COUNTER, QUIC(refused_full),
		BY("limit", "connections", "How often a limit has refused something.")),
	ROW("limit_hits_total", "limit_new_connections", COUNTER, QUIC(refused_rate),
		BY("limit", "new_connections", "How often a limit has refused something.")),
	ROW("limit_hits_total", "limit_half_open", COUNTER, QUIC(refused_half_open),
		AT(tls_half_open_dropped), "How often a limit has refused something.", "limit",
		"half_open"),
	ROW("limit_hits_total", "limit_memory", COUNTER, QUIC(refused_memory),
		BY("limit", "memory", "How often a limit has refused something.")),
	ROW("limit_hits_total", "limit_resources", COUNTER, QUIC(refused_resources),
		BY("limit", "resources", "How often a limit has refused something.")),
	ROW("limit_hits_total", "limit_client_connections", COUNTER, AT(limit_client_connections),
		BY("limit", "client_connections", "How often a limit has refused something.")),
	ROW("limit_hits_total", "limit_client_quota", COUNTER, AT(limit_client_quota),
		BY("limit", "client_quota", "How often a limit has refused something.")),
	ROW("udp_flows", "udp_flows_active", GAUGE, AT(udp_flows_active),
		ONE("UDP sessions with an open socket.")),
	ROW("udp_datagrams_total", "udp_from_clients", COUNTER, AT(udp_from_clients),
		BY("direction", "from_clients", "UDP datagrams relayed.")),
	ROW("udp_datagrams_total", "udp_to_clients", COUNTER, AT(udp_to_clients),
		BY("direction", "to_clients", "UDP datagrams relayed.")),
	ROW("datagrams_dropped_total", "udp_dropped_malformed", COUNTER, AT(udp_dropped_malformed),
		BY("reason", "malformed", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_dropped_queue", COUNTER, AT(udp_dropped_queue),
		BY("reason", "queue", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_dropped_send", COUNTER, AT(udp_dropped_send),
		BY("reason", "send", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_dropped_rate", COUNTER, AT(udp_dropped_rate),
		BY("reason", "rate", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_dropped_size", COUNTER, AT(udp_dropped_size),
		BY("reason", "size", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "datagrams_dropped", COUNTER, QUIC(datagrams_dropped),
		BY("reason", "client_queue", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_dropped_stream", COUNTER, AT(udp_dropped_stream),
		BY("reason", "stream", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_reassembly_late", COUNTER, AT(udp_reassembly_late),
		BY("reason", "reassembly_late", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_reassembly_mismatch", COUNTER,
		AT(udp_reassembly_mismatch),
		BY("reason", "reassembly_mismatch", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_reassembly_too_long", COUNTER,
		AT(udp_reassembly_too_long),
		BY("reason", "reassembly_too_long", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_reassembly_full", COUNTER, AT(udp_reassembly_full),
		BY("reason", "reassembly_full", "UDP datagrams dropped, by reason.")),
	ROW("datagrams_dropped_total", "udp_reassembly_memory", COUNTER, AT(udp_reassembly_memory),
		BY("reason", "reassembly_memory", "UDP datagrams dropped, by reason.")),
	ROW("udp_sessions_active", "udp_sessions_active", GAUGE, AT(udp_sessions_active),
		ONE("UDP sessions, one for each application of a client.")),
	ROW("udp_sessions_evicted_total", "udp_sessions_evicted", COUNTER, AT(udp_sessions_evicted),
		ONE("UDP sessions ended to make room for others.")),
	ROW("udp_streams_active", "udp_streams_active", GAUGE, AT(udp_streams_active),
		ONE("Streams that carry UDP datagrams.")),
	ROW("udp_fragments_received_total", "udp_fragments", COUNTER, AT(udp_fragments),
		ONE("Fragments of UDP payloads from clients.")),
	ROW("udp_reassembly_bytes", "udp_reassembly_bytes", GAUGE, AT(udp_reassembly_bytes),
		ONE("Memory that incomplete UDP payloads hold.")),
	ROW("dns_queries_total", "dns_queries", COUNTER, AT(dns_queries), ONE("Names looked up.")),
	ROW("dns_failures_total", "dns_failures", COUNTER, AT(dns_failures),
		ONE("Look-ups that failed.")),
	ROW("dns_refused_total", "dns_refused", COUNTER, AT(dns_refused),
		ONE("Look-ups refused to a client with too many under way.")),
	ROW("channel_errors_total", "channel_errors", COUNTER, AT(channel_errors),
		ONE("Violations on control channels.")),
	ROW("handshake_packets_dropped_total", "handshake_packets_dropped", COUNTER,
		QUIC(handshake_packets_dropped),
		ONE("Packets of handshakes dropped because too many came at once.")),
	ROW("memory_reckoned_bytes", "memory_bytes", GAUGE, QUIC(memory_bytes),
		ONE("Memory that connections need, as limits.max_memory_mb counts it.")),
	ROW("memory_shed_total", "memory_shed", COUNTER, QUIC(memory_shed),
		ONE("Connections closed because memory was short.")),
	ROW("memory_waits_total", "memory_waits", COUNTER, QUIC(memory_waits),
		ONE("Times a tunnel had to wait with reading because memory was short.")),
	ROW("pool_bytes", "pool_held_bytes", GAUGE, AT(pool_held),
		BY("state", "held",
			"Memory of the data path: what the workers' pools hold, and what of it is "
			"in use.")),
	ROW("pool_bytes", "pool_used_bytes", GAUGE, AT(pool_used),
		BY("state", "used",
			"Memory of the data path: what the workers' pools hold, and what of it is "
			"in use.")),
};

static const char *const handshake_failures[MT_HANDSHAKE_FAILURES] = {
	[MT_HANDSHAKE_TIMEOUT] = "timeout",
	[MT_HANDSHAKE_TLS] = "tls",
	[MT_HANDSHAKE_CLOSED] = "closed",
	[MT_HANDSHAKE_PROTOCOL] = "protocol",
	[MT_HANDSHAKE_IDENTITY + MT_IDENTITY_MISSING] = "identity_missing",
	[MT_HANDSHAKE_IDENTITY + MT_IDENTITY_UNKNOWN] = "identity_unknown",
	[MT_HANDSHAKE_IDENTITY + MT_IDENTITY_REVOKED] = "identity_revoked",
	[MT_HANDSHAKE_IDENTITY + MT_IDENTITY_DISABLED] = "identity_disabled",
	[MT_HANDSHAKE_IDENTITY + MT_IDENTITY_EXPIRED] = "identity_expired",
};

static const char *const connect_failures[MT_CONNECT_FAILURES] = {
	[MT_CONNECT_DNS] = "dns",
	[MT_CONNECT_REFUSED] = "refused",
	[MT_CONNECT_TIMEOUT] = "timeout",
	[MT_CONNECT_UNREACHABLE] = "unreachable",
	[MT_CONNECT_RESET] = "reset",
	[MT_CONNECT_RESOURCES] = "resources",
	[MT_CONNECT_DRAINING] = "draining",
	[MT_CONNECT_OTHER] = "other",
};

const char *mt_handshake_failure_text(size_t failure)
{
	return handshake_failures[failure];
}

const char *mt_connect_failure_text(size_t failure)
{
	return connect_failures[failure];
}

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
