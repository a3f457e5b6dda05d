/* One worker's counters: written by the worker, read and summed by anybody. */
#pragma once

#include "proto/quic/counters.h"

#include <stdalign.h>

struct mt_worker_counters {
	alignas(64) struct mt_quic_counters quic;
	mt_counter bytes_received;  /* tunnelled payload from clients, TCP and UDP */
	mt_counter bytes_sent;      /* to clients */
	mt_counter tunnels_opened;  /* requests accepted and connected */
	mt_counter tunnels_active;  /* gauge */
	mt_counter tunnels_refused; /* by access rules */
	mt_counter tunnels_failed;  /* the target could not be reached */
	mt_counter tunnels_reset;   /* ended by a reset */
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
	mt_counter channel_errors;
	mt_counter foreign_dropped; /* packets for another worker whose mailbox was full */
	mt_counter errors;          /* own failures: memory, descriptors */
};
