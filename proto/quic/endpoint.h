/* A QUIC endpoint: many connections, no I/O, no clock. Packets come in by mt_endpoint_receive, go
 * out through struct mt_tx, and time is whatever the caller says (nanoseconds, never backwards).
 *
 * One turn of the caller's loop: receive everything that is there; mt_endpoint_expire;
 * mt_endpoint_dispatch (events); mt_endpoint_flush; sleep until mt_endpoint_expiry. All calls
 * belong to one thread.
 */
#pragma once

#include "proto/quic/conn.h"
#include "proto/quic/counters.h"
#include "proto/quic/mem.h"
#include "proto/quic/qlog.h"
#include "proto/quic/tls.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stdint.h>

struct mt_endpoint;

#define MT_CID_LEN        10 /* our connection ids: worker(1) tag(1) random(8) */
#define MT_SECRET_LEN     32
#define MT_TX_BATCH_BYTES 65536
/* Larger packets are not looked for: four of this size fill a batch. */
#define MT_UDP_PAYLOAD_CEILING  16368
#define MT_HALF_OPEN_MAX        1000
#define MT_HALF_OPEN_RETRY      100
#define MT_HANDSHAKE_TIMEOUT_NS 5000000000ull
#define MT_STREAM_UNSENT_MAX    (256 * 1024)
#define MT_DATAGRAMS_EARLY_MAX  16  /* kept until on_established has been called */
#define MT_DATAGRAMS_OUT_MAX    128 /* all fragments of the largest UDP payload, and more */
#define MT_CRYPTO_BYTES_MAX     (64 * 1024)

/* `socket` says by which socket a path is reached; the endpoint only carries it. `retired` with a
 * received packet: its address is given up, established connections alone go on there.
 */
struct mt_path {
	struct mt_addr local;
	struct mt_addr remote;
	void *socket;
	bool retired;
};

/* Where packets go. `reserve` gives MT_TX_BATCH_BYTES of room, or NULL while the way out is blocked
 * (the endpoint tries again at the next flush). `commit` sends `len` bytes from the start of that
 * room as packets of `segment` bytes, the last one possibly shorter, with the ECN bits `ecn`.
 */
struct mt_tx {
	uint8_t *(*reserve)(void *user);
	void (*commit)(
		void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment);
	void *user;
};

struct mt_endpoint_events {
	/* Server, in the handshake: see mt_tls_authorize_fn. NULL lets everybody in. */
	int (*authorize)(void *user, const uint8_t *fingerprint);
	/* Server: a client was turned away, by a limit (`why` says which), or by `authorize` (`why`
	 * is NULL, `fingerprint` NULL without an identity). May be NULL; called from inside
	 * mt_endpoint_receive: nothing of the endpoint may be called.
	 */
	void (*on_refused)(void *user, const struct mt_addr *remote, const char *why,
		const uint8_t *fingerprint);
	/* A handshake completed (server), or was confirmed (client). */
	void (*on_established)(void *user, struct mt_conn *c);
	/* The peer opened a stream: set its handler; it is the user's until released. NULL:
	 * refused. */
	void (*on_stream)(void *user, struct mt_conn *c, struct mt_stream *s);
	/* A datagram arrived; borrowed for the call, which comes from inside mt_endpoint_receive:
	 * only mt_conn_send_datagram, mt_conn_user and the getters of a connection may be called.
	 */
	void (*on_datagram)(void *user, struct mt_conn *c, const uint8_t *data, size_t len);
	/* mt_conn_datagram_room has grown from 0. */
	void (*on_datagram_room)(void *user, struct mt_conn *c);
	/* mt_conn_streams_left has grown. */
	void (*on_streams_left)(void *user, struct mt_conn *c);
	/* The connection has ended; its streams' on_end come first. The connection is freed
	 * afterwards. Called for every connection that on_established was called for or that
	 * mt_endpoint_connect made.
	 */
	void (*on_end)(void *user, struct mt_conn *c, const struct mt_conn_end *end);
	/* A packet whose connection id belongs to another worker of this process; borrowed for the
	 * call. */
	void (*on_foreign)(void *user, uint8_t worker, const struct mt_path *path, unsigned ecn,
		const uint8_t *data, size_t len);
	/* Server: whether a new connection is to have a qlog; asked for each of them. NULL: none.
	 * on_qlog gets that of a connection for which mt_conn_keep_qlog was called; the part is
	 * borrowed. It is called from inside any call of the endpoint: nothing of the endpoint may
	 * be called but the getters of a connection. With false it is not called again for this
	 * connection.
	 */
	bool (*wants_qlog)(void *user);
	bool (*on_qlog)(void *user, struct mt_conn *c, const struct mt_qlog_part *part);
	void *user;
};

/* What can be changed while running; it holds for new connections, the caps at once. */
struct mt_endpoint_limits {
	uint64_t max_connections; /* of this endpoint, or of all that share `places` */
	uint64_t max_streams;     /* bidirectional, a connection */
	uint64_t idle_timeout_ns;
	uint64_t max_stream_window; /* bytes */
	uint64_t max_conn_window;   /* and what is sent and not yet acknowledged */
	uint64_t max_new_per_sec;   /* 0 = no limit */
	uint64_t max_memory;        /* bytes, 0 = no limit; see mt_endpoint_memory */
	uint16_t max_udp_payload;   /* 1200 to 65527 */
	enum mt_cc congestion_control;
};

struct mt_endpoint_config {
	struct mt_mem *mem;                /* borrowed */
	struct mt_quic_counters *counters; /* borrowed */
	/* How many connections there are of all endpoints that share limits.max_connections;
	 * written by each of them. Borrowed, outlives them; NULL: nobody shares. Of those that
	 * accept at the same moment each may see the same last place: the limit may be passed by
	 * one less than there are of them. */
	mt_counter *places;
	struct mt_endpoint_events events;
	struct mt_endpoint_limits limits;
	struct mt_tx tx;
	uint8_t worker; /* first byte of our connection ids */
	uint8_t worker_count;
	uint8_t tag;                   /* second byte: the process' generation */
	uint8_t secret[MT_SECRET_LEN]; /* persistent: stateless resets and tokens derive from it */
	struct mt_tls_server *tls;     /* server: referenced; NULL: accepts nobody */
};

/* MT_E_RANGE for limits that cannot work, -ENOMEM. */
int mt_endpoint_new(
	struct mt_endpoint **out, const struct mt_endpoint_config *config) MT_MUST_CHECK;
/* Ends every connection without a word and without events. Streams must have been released before.
 */
void mt_endpoint_free(struct mt_endpoint *ep);

void mt_endpoint_set_limits(struct mt_endpoint *ep, const struct mt_endpoint_limits *limits);
void mt_endpoint_set_tls(struct mt_endpoint *ep, struct mt_tls_server *tls);
/* Refuses new connections (CONNECTION_REFUSED) while set. */
void mt_endpoint_set_draining(struct mt_endpoint *ep, bool draining);

/* One UDP payload, or several of `segment` bytes (UDP_GRO; 0 = one). Memory is borrowed for the
 * call. */
void mt_endpoint_receive(struct mt_endpoint *ep, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len, size_t segment, uint64_t now_ns);
/* Says what mt_endpoint_receive will be called for next, for each call once and in order, up to 16
 * of them; borrowed until then. What each connection needs is fetched from memory meanwhile.
 */
void mt_endpoint_expect(struct mt_endpoint *ep, const uint8_t *data, size_t len);
void mt_endpoint_expire(struct mt_endpoint *ep, uint64_t now_ns);
void mt_endpoint_dispatch(struct mt_endpoint *ep, uint64_t now_ns);
/* Server: packets of handshakes wait for their turn, one for each call of mt_endpoint_expire, and
 * of mt_endpoint_run_deferred (false: none has its turn now). Whoever has other work does that
 * between them, and tells by mt_endpoint_rest how long they took: beside running connections they
 * then leave as much to those.
 */
bool mt_endpoint_is_deferring(const struct mt_endpoint *ep);
bool mt_endpoint_run_deferred(struct mt_endpoint *ep);
void mt_endpoint_rest(struct mt_endpoint *ep, uint64_t spent_ns, uint64_t now_ns);
/* Somebody is served: as a packet of an established connection, which notes it by itself. */
void mt_endpoint_note_traffic(struct mt_endpoint *ep);
/* Writes what can be written. Returns false when mt_tx was blocked with more to send. */
bool mt_endpoint_flush(struct mt_endpoint *ep, uint64_t now_ns);
/* When expire or flush must be called again: UINT64_MAX = never, a past time = now. */
uint64_t mt_endpoint_expiry(struct mt_endpoint *ep);

/* How long what comes in may wait before it is received: 0, unless there are only keep-alives, and
 * many, which cost less together. As of the last call above that was given the time.
 */
uint64_t mt_endpoint_patience(const struct mt_endpoint *ep);
/* Whether some have streams open among a thousand connections or more, which may lie still: the
 * packets of those are to be received a few at a time, so that the others' turn comes soon.
 */
bool mt_endpoint_is_shared(const struct mt_endpoint *ep);

/* Whether somebody exchanges little at a time, and would wait for what others have under way or do
 * in long turns. As of the last call above that was given the time.
 */
bool mt_endpoint_is_conversing(const struct mt_endpoint *ep);

/* Client: starts a connection; on_established or on_end follows. `tls` is referenced. */
int mt_endpoint_connect(struct mt_endpoint *ep, const struct mt_path *path,
	struct mt_tls_client *tls, uint64_t now_ns, struct mt_conn **out) MT_MUST_CHECK;

/* Bytes that connections need: what is in use of the pool, and what GnuTLS is known to take beside
 * it. Near limits.max_memory handshakes are shed, the newest first, and new connections refused;
 * then streams get no more room to send; at last whoever holds most is closed (MT_APP_LIMIT).
 */
uint64_t mt_endpoint_memory(const struct mt_endpoint *ep);

size_t mt_endpoint_count(const struct mt_endpoint *ep); /* connections, half-open ones included */
/* A number that no connection has or will have: for something beside them. */
uint64_t mt_endpoint_take_serial(struct mt_endpoint *ep);
