/* One worker's counters: written by the worker, read and summed by anybody. */
#pragma once

#include "daemon/histogram.h"
#include "proto/quic/counters.h"

#include <stdalign.h>

/* Why an identity was refused. */
enum mt_identity_refusal {
	MT_IDENTITY_MISSING,
	MT_IDENTITY_UNKNOWN,
	MT_IDENTITY_REVOKED,
	MT_IDENTITY_DISABLED,
	MT_IDENTITY_EXPIRED,
	MT_IDENTITY_REFUSALS,
};

/* Why a target could not be reached. */
enum mt_connect_failure {
	MT_CONNECT_DNS,
	MT_CONNECT_REFUSED,
	MT_CONNECT_TIMEOUT,
	MT_CONNECT_UNREACHABLE,
	MT_CONNECT_RESET,
	MT_CONNECT_RESOURCES,
	MT_CONNECT_DRAINING,
	MT_CONNECT_OTHER,
	MT_CONNECT_FAILURES,
};

/* Why a handshake failed: in the transport's own counters, or for the identity. */
enum mt_handshake_failure {
	MT_HANDSHAKE_TIMEOUT,
	MT_HANDSHAKE_TLS,
	MT_HANDSHAKE_CLOSED,
	MT_HANDSHAKE_PROTOCOL,
	MT_HANDSHAKE_IDENTITY, /* the first of MT_IDENTITY_REFUSALS */
	MT_HANDSHAKE_FAILURES = MT_HANDSHAKE_IDENTITY + MT_IDENTITY_REFUSALS,
};

struct mt_worker_counters {
	alignas(64) struct mt_quic_counters quic;
	/* TLS over TCP; its sessions are the connections. */
	mt_counter tls_accepted;          /* TCP connections */
	mt_counter tls_half_open;         /* gauge: handshakes under way */
	mt_counter tls_half_open_dropped; /* because too many were */
	mt_counter tls_kernel_active; /* gauge: TCP connections whose records the kernel makes */
	mt_counter tls_kernel_total;
	mt_counter tls_user_active; /* gauge: the same by GnuTLS */
	mt_counter tls_user_total;
	mt_counter tls_spliced_bytes; /* payload that never entered the process */
	mt_counter tls_pipes_missing; /* no descriptor or memory for a pipe: a splice waited */
	mt_counter tls_rekeys;        /* reset: a KeyUpdate where the kernel has the keys */
	mt_counter tls_record_limits; /* reset: as many records as a key allows */
	mt_counter tls_alerts;        /* ended by a client's alert */
	mt_counter bytes_received;    /* tunnelled payload from clients, TCP and UDP, over QUIC */
	mt_counter bytes_sent;        /* to clients */
	mt_counter tunnels_opened;    /* requests accepted and connected */
	mt_counter tunnels_active;    /* gauge */
	mt_counter tunnels_refused;   /* by access rules */
	mt_counter tunnels_failed;    /* the target could not be reached */
	mt_counter tunnels_reset;     /* ended by a reset */
	mt_counter requests_malformed;
	mt_counter requests_unsupported;
	mt_counter requests_timeout;     /* no complete header in time */
	mt_counter udp_flows_active;     /* gauge: sessions with an open socket */
	mt_counter udp_sessions_active;  /* gauge */
	mt_counter udp_sessions_evicted; /* ended to make room */
	mt_counter udp_streams_active;   /* gauge: streams that carry datagrams */
	mt_counter udp_fragments;        /* from clients */
	mt_counter udp_from_clients;
	mt_counter udp_to_clients;
	mt_counter udp_dropped_malformed;
	mt_counter udp_dropped_denied;
	mt_counter udp_dropped_stream;   /* a stream did not keep up, or memory */
	mt_counter udp_reassembly_bytes; /* gauge: held by incomplete packets */
	mt_counter udp_reassembly_late;  /* packets dropped; the reasons of reassembly.h */
	mt_counter udp_reassembly_mismatch;
	mt_counter udp_reassembly_too_long;
	mt_counter udp_reassembly_full;
	mt_counter udp_reassembly_memory;
	mt_counter udp_dropped_queue; /* queue full, or name unknown */
	mt_counter udp_dropped_send;  /* the system did not take it */
	mt_counter udp_dropped_rate;  /* more than the client's rate */
	mt_counter udp_dropped_size;  /* answers that no datagram to the client can carry */
	mt_counter dns_queries;
	mt_counter dns_failures;
	mt_counter dns_refused; /* one asker's budget was used up */
	mt_counter channel_errors;
	mt_counter foreign_dropped; /* packets for another worker whose mailbox was full */
	mt_counter identity_refusals[MT_IDENTITY_REFUSALS];
	mt_counter connect_failures[MT_CONNECT_FAILURES];
	mt_counter limit_client_connections;
	mt_counter limit_client_quota;
	/* The same as above for what comes by TLS over TCP; what has no such twin counts both. */
	mt_counter tls_connections_total;
	mt_counter tls_connections_active; /* gauge */
	mt_counter tls_bytes_received;
	mt_counter tls_bytes_sent;
	mt_counter tls_handshakes_failed;
	mt_counter pool_held; /* gauges, brought up to date once a second */
	mt_counter pool_used;
	mt_counter errors; /* own failures: memory, descriptors */

	struct mt_histogram handshakes; /* from the first packet */
	struct mt_histogram connects;   /* from a complete request, with the look-up */
	struct mt_histogram rtt;        /* of each connection, once a second */
};
