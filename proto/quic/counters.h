/* Counters with one writer: the thread that owns them adds, any thread may read. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t mt_counter;

static inline void mt_count(mt_counter *counter, uint64_t n)
{
	uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

static inline uint64_t mt_counter_get(const mt_counter *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* What an endpoint counts. Gauges are set, not added. */
struct mt_quic_counters {
	mt_counter packets_received; /* UDP payloads handed to the endpoint */
	mt_counter packets_sent;
	mt_counter wire_bytes_received;
	mt_counter wire_bytes_sent;
	mt_counter packets_invalid;     /* too short, malformed, not for us */
	mt_counter packets_over_budget; /* of connections that flood us with packets for nothing */
	mt_counter packets_foreign;     /* handed to the worker that owns them */
	mt_counter version_negotiations;
	mt_counter retries;
	mt_counter tokens_invalid;
	mt_counter stateless_resets;
	mt_counter connections_total;     /* handshakes completed */
	mt_counter connections_active;    /* gauge: handshake completed, not yet closed */
	mt_counter connections_half_open; /* gauge */
	mt_counter connections_failed;    /* ended before the handshake completed */
	mt_counter connections_refused;   /* by a cap or a limit, without state */
	/* By which limit: those of connections_refused that one has refused. */
	mt_counter refused_half_open;
	mt_counter refused_full;
	mt_counter refused_rate;
	mt_counter refused_memory; /* limits.max_memory_mb */
	mt_counter refused_resources;
	/* Server: why of connections_failed, but for identity_refused and for those that begin
	 * again behind a Retry. */
	mt_counter handshake_timeout;
	mt_counter handshake_tls;
	mt_counter handshake_closed; /* by the client */
	mt_counter handshake_protocol;
	mt_counter identity_refused; /* no, unknown, revoked identity */
	mt_counter timeouts;         /* idle and handshake timeouts */
	mt_counter packets_lost;     /* of ours; up to date after mt_conn_get_info */
	mt_counter migrations;       /* paths validated after an address change */
	mt_counter key_updates;      /* by either side (RFC 9001, section 6) */
	mt_counter streams_opened;
	mt_counter streams_closed;
	mt_counter datagrams_received;
	mt_counter datagrams_sent;
	mt_counter datagrams_dropped;         /* queue full or too large for the path */
	mt_counter crypto_floods;             /* closed for too many CRYPTO bytes */
	mt_counter protocol_errors;           /* connections closed for a peer's violation */
	mt_counter handshake_packets_dropped; /* more came at once than can wait */
	mt_counter memory_bytes;              /* gauge: what connections are reckoned to need */
	mt_counter memory_shed;               /* connections closed because memory was short */
	mt_counter memory_waits; /* times a stream had to wait because memory was short */
};
