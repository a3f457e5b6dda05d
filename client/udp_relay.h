/* UDP of local applications through the tunnel. Each application has a session, with sockets of its
 * own at the server; what the server offers, and the size of a payload, decide how it travels: as a
 * datagram, in fragments, or over a stream. With a server that knows no sessions the plain form is
 * used, and an answer's host and port say whose it is. One thread.
 */
#pragma once

#include "client/uplink.h"
#include "proto/io/poller.h"
#include "proto/wire/err.h"
#include "proto/wire/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define MT_UDP_SESSIONS_MAX 2048
#define MT_UDP_HELD_MAX     64 /* payloads that wait for the server's Hello; then the oldest goes */
#define MT_UDP_HELD_BYTES   ((size_t)1024 * 1024)

struct mt_udp_relay;

/* Somebody who has idle things to forget; embedded in its owner. */
struct mt_udp_ticker {
	LIST_ENTRY(mt_udp_ticker) of_relay;
	void (*on_tick)(struct mt_udp_ticker *ticker);
};

/* An application; embedded in its owner. */
struct mt_udp_session {
	LIST_ENTRY(mt_udp_session) of_bucket;
	TAILQ_ENTRY(mt_udp_session) by_use;
	struct mt_udp_relay *relay;
	/* An answer: who sent it, and what; borrowed. It must not close the session. */
	void (*on_answer)(struct mt_udp_session *s, const struct mt_datagram *answer);
	uint32_t id;
	uint16_t next_packet; /* the number of the next payload that travels in fragments */
	bool used;            /* the server may know it */
};

/* A reader of a local socket, whose item it lends; embedded in its owner, zeroed. */
struct mt_udp_reader {
	TAILQ_ENTRY(mt_udp_reader) of_relay;
	struct mt_poll_item *item;
	bool waiting;
};

/* What was dropped, and why. */
struct mt_udp_relay_stats {
	uint64_t sent;
	uint64_t received;
	uint64_t dropped_foreign;   /* not from the owner of the association */
	uint64_t dropped_malformed; /* no SOCKS5 header, or a fragment of SOCKS5's */
	uint64_t dropped_too_long;  /* more than this server takes in any way */
	uint64_t dropped_offline;   /* no connection to the server */
	uint64_t dropped_queue;     /* a queue, or the connection, took no more */
	uint64_t dropped_unknown;   /* an answer that nobody waits for, or that is malformed */
};

/* NULL without memory. */
struct mt_udp_relay *mt_udp_relay_new(
	uv_loop_t *loop, struct mt_mem *mem, struct mt_poller *poller, struct mt_uplink *uplink);
/* All sessions must be closed; before the uplink goes. The memory goes when the loop has run again.
 * NULL is allowed. */
void mt_udp_relay_free(struct mt_udp_relay *relay);

/* MT_E_LIMIT. The owner has set on_answer. */
int mt_udp_session_open(struct mt_udp_session *s, struct mt_udp_relay *relay) MT_MUST_CHECK;
/* The server is told that it may close the session's sockets. */
void mt_udp_session_close(struct mt_udp_session *s);
/* Sends a payload to a target, as text. What cannot be sent is dropped and counted. */
void mt_udp_session_send(struct mt_udp_session *s, const char *host, size_t host_len, uint16_t port,
	const uint8_t *payload, size_t len);

/* Whether a reader may go on, asked after each datagram. If not it waits: what the connection does
 * not take yet is kept by the socket, and its item is told MT_POLL_IN when there is room. It must
 * not read before. When there has been none for a second readers go on all the same, and the oldest
 * datagrams are dropped.
 */
bool mt_udp_relay_go_on(struct mt_udp_relay *relay, struct mt_udp_reader *reader);
/* Before its item goes. */
void mt_udp_relay_forget_reader(struct mt_udp_relay *relay, struct mt_udp_reader *reader);
/* The connection has room for datagrams. */
void mt_udp_relay_resume(struct mt_udp_relay *relay);
/* A datagram came out of the tunnel. */
void mt_udp_relay_deliver(struct mt_udp_relay *relay, const uint8_t *data, size_t len);
/* Forgets what is idle, lets the tickers do so, and ends long waits; every second. */
void mt_udp_relay_tick(struct mt_udp_relay *relay);
/* Until it is removed by LIST_REMOVE. */
void mt_udp_relay_add_ticker(struct mt_udp_relay *relay, struct mt_udp_ticker *ticker);
struct mt_poller *mt_udp_relay_poller(struct mt_udp_relay *relay);
uint64_t mt_udp_relay_now_ms(const struct mt_udp_relay *relay);
/* The relay's own: counted by whoever drops something. */
struct mt_udp_relay_stats *mt_udp_relay_stats(struct mt_udp_relay *relay);
/* MT_UDP_READ_BYTES of scratch for whoever reads a local socket; until it returns to the loop. */
#define MT_UDP_READ_BYTES 65536
uint8_t *mt_udp_relay_buffer(struct mt_udp_relay *relay);
