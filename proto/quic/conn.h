/* Connections (RFC 9000) with datagrams (RFC 9221). All calls belong to the endpoint's thread. */
#pragma once

#include "proto/quic/identity.h"
#include "proto/quic/stream.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stdint.h>

struct mt_conn;
struct mt_path;

/* Of the sending direction (RFC 9002, RFC 9438). */
enum mt_cc {
	MT_CC_CUBIC,
	MT_CC_BBR,
	MT_CC_RENO,
};
/* "cubic", "bbr", "reno". */
const char *mt_cc_text(enum mt_cc cc);

/* Why a connection ended, as far as this side knows. */
struct mt_conn_end {
	int err; /* MT_E_CLOSED: closed by a peer's or our CONNECTION_CLOSE; MT_E_RESET:
		    stateless reset; MT_E_TIMEOUT: idle or handshake timeout; MT_E_TLS,
		    MT_E_PIN: the handshake failed; MT_E_QUIC: anything else */
	bool by_peer;
	bool is_app; /* `code` is an application code (enum mt_app_code), else a transport code */
	uint64_t code;
	int alert;        /* the TLS alert within a transport code of 0x100 to 0x1ff, else 0 */
	char reason[128]; /* the peer's or our phrase, may be empty; not to be trusted as text */
};

struct mt_conn_info {
	struct mt_addr local;
	struct mt_addr remote;
	uint64_t smoothed_rtt_ns;
	uint64_t min_rtt_ns;
	uint64_t cwnd_bytes;
	uint64_t in_flight_bytes;
	uint64_t migrations;
	uint64_t bytes_received; /* stream and datagram payload */
	uint64_t bytes_sent;
	uint32_t streams; /* open now */
	enum mt_cc congestion_control;
};

void mt_conn_set_user(struct mt_conn *c, void *user);
void *mt_conn_user(const struct mt_conn *c);
/* A number that no other connection of this endpoint has had. */
uint64_t mt_conn_serial(const struct mt_conn *c);
/* Server: the client's fingerprint, NULL when it has none. Valid once the handshake has completed.
 */
const uint8_t *mt_conn_fingerprint(const struct mt_conn *c);
bool mt_conn_is_established(const struct mt_conn *c); /* client: confirmed; server: completed */
bool mt_conn_is_closing(const struct mt_conn *c);
void mt_conn_get_info(struct mt_conn *c, struct mt_conn_info *out);
/* Server: from the first packet to the complete handshake. */
uint64_t mt_conn_handshake_ns(const struct mt_conn *c);
const struct mt_addr *mt_conn_remote(const struct mt_conn *c); /* borrowed; the current path */
/* The path in use, with the socket by which it was reached first; MT_E_CLOSED. */
int mt_conn_get_path(struct mt_conn *c, struct mt_path *out) MT_MUST_CHECK;

/* How many bidirectional streams the peer lets us open now. */
uint64_t mt_conn_streams_left(const struct mt_conn *c);
/* MT_E_LIMIT when none is left now (on_streams_left follows), MT_E_CLOSED. */
int mt_conn_open_stream(struct mt_conn *c, struct mt_stream **out) MT_MUST_CHECK;

/* Datagrams that fit the path now: payload bytes at most, 0 when the peer takes none. */
size_t mt_conn_datagram_max(const struct mt_conn *c);
/* The UDP payload that path MTU discovery has found so far; 0 once the connection has ended. */
size_t mt_conn_path_payload(const struct mt_conn *c);
/* How many more the outgoing queue takes before the oldest is dropped. */
size_t mt_conn_datagram_room(const struct mt_conn *c);
/* on_datagram_room comes when half of the queue, or more, is free: it does so anyway after the
 * queue was full. Nothing happens while it is empty.
 */
void mt_conn_want_datagram_room(struct mt_conn *c);
/* Copies and queues one datagram of two parts (header, payload). The oldest is dropped, and
 * counted, when the queue is full. MT_E_TOO_LONG beyond mt_conn_datagram_max, MT_E_CLOSED.
 */
int mt_conn_send_datagram(struct mt_conn *c, const void *head, size_t head_len, const void *body,
	size_t body_len) MT_MUST_CHECK;

/* CONNECTION_CLOSE with an application code; the reason goes on the wire. on_end follows from
 * dispatch. */
void mt_conn_close(struct mt_conn *c, uint64_t app_code, const char *reason);
/* Client: the local address has changed; a new path is validated and used (RFC 9000, section 9.2).
 * `socket` as in struct mt_path.
 */
int mt_conn_migrate(struct mt_conn *c, const struct mt_addr *local, void *socket,
	uint64_t now_ns) MT_MUST_CHECK;
/* Sends a PING after so long without traffic; 0 switches it off. */
void mt_conn_set_keep_alive(struct mt_conn *c, uint64_t interval_ns);
/* When the last packet from the peer was accepted. */
uint64_t mt_conn_last_received_ns(const struct mt_conn *c);
