/* The insides of connections, streams and endpoints, shared by the files of this folder only. */
#pragma once

#include "proto/quic/cid.h"
#include "proto/quic/conn.h"
#include "proto/quic/endpoint.h"
#include "proto/quic/expiry.h"
#include "proto/quic/mem.h"
#include "proto/quic/qlog.h"
#include "proto/quic/stream_kind.h"
#include "proto/quic/tls.h"

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define LONG_HEADER 0x80u
#define PACKET_MIN  21u /* shorter ones make ngtcp2 1.11 abort, and are no QUIC packets */

TAILQ_HEAD(mt_conn_list, mt_conn);
TAILQ_HEAD(mt_stream_list, mt_quic_stream);

/* Pending events; delivered by dispatch. */
enum {
	MT_EV_OPEN = 1u << 0,
	MT_EV_READABLE = 1u << 1,
	MT_EV_WRITABLE = 1u << 2,
	MT_EV_RESET = 1u << 3,
	MT_EV_STOP = 1u << 4,
	MT_EV_END = 1u << 5,
	MT_EV_ESTABLISHED = 1u << 6,
	MT_EV_STREAMS_LEFT = 1u << 7,
	MT_EV_DATAGRAM_ROOM = 1u << 8,
};

/* Invariants: tx_base <= tx_sent <= tx_end; the chunks from tx_head hold exactly tx_base to tx_end;
 * what lies before tx_sent is borrowed by ngtcp2 until acknowledged.
 */
struct mt_quic_stream {
	struct mt_stream base; /* first */
	struct mt_endpoint *ep;
	struct mt_conn *conn; /* NULL once detached */
	int64_t id;
	TAILQ_ENTRY(mt_quic_stream) of_conn;
	TAILQ_ENTRY(mt_quic_stream) queued;
	struct mt_stream_list *queue; /* of its connection: which one it waits in; NULL: none */
	uint32_t round;               /* its last one, and what it has sent in that */
	uint32_t round_bytes;
	TAILQ_ENTRY(mt_quic_stream) ready;
	TAILQ_ENTRY(mt_quic_stream) given_up;
	TAILQ_ENTRY(mt_quic_stream) starved;
	TAILQ_ENTRY(mt_quic_stream) for_room;

	struct mt_chunk *rx_head;
	struct mt_chunk *rx_tail;
	size_t rx_bytes;

	struct mt_chunk *tx_head;
	struct mt_chunk *tx_tail;
	struct mt_chunk *tx_spare; /* between reserve and commit */
	struct mt_chunk
		*tx_cur; /* holds the next unsent byte at tx_cur_off; NULL: nothing unsent */
	uint32_t tx_cur_off;
	uint64_t tx_base;
	uint64_t tx_sent;
	uint64_t tx_end;
	size_t reserved;    /* what the last reserve gave */
	uint32_t turn_left; /* bytes that it may still take in its turn; see room.c */
	uint32_t counted;   /* of its connection's tx_unsent */
	struct {
		uint64_t since_ns; /* when this span began */
		uint64_t mark;     /* tx_sent then */
		uint64_t before;   /* bytes sent in the span before, if that was just before */
	} talk;                    /* what it has sent lately; see watch_little */

	uint64_t reset_code;
	uint64_t stop_code;
	int end_err;
	unsigned events;
	bool is_ready : 1;
	bool by_peer : 1;
	bool closed : 1; /* ngtcp2 has forgotten it */
	bool released : 1;
	bool buried : 1; /* waits to be freed */
	bool rx_fin : 1;
	bool rx_over : 1; /* reset by the peer or stopped by us: nothing more is queued */
	bool tx_fin : 1;
	bool tx_fin_sent : 1;
	bool tx_over : 1; /* reset */
	bool tx_was_full : 1;
	bool is_given_up : 1; /* in the connection's list */
	bool credited : 1;    /* the peer may open another one in its place */
	bool is_starved : 1;  /* asked for room while memory was short */
	bool quiet : 1;       /* see mt_stream_set_quiet */
	bool waits_for_room : 1;
	bool has_talked : 1; /* sent little, once */
	bool is_hungry : 1;  /* filled all that the last reserve gave */
	bool is_retried : 1; /* probably still without credit */
	uint64_t given_up_ns;
	uint64_t given_up_base; /* tx_base then */
};

struct mt_datagram_out {
	struct mt_datagram_out *next;
	size_t len;
	uint8_t data[];
};

struct mt_conn {
	struct mt_cid_owner owner;
	struct mt_endpoint *ep;
	ngtcp2_conn *qc; /* NULL once ended */
	ngtcp2_crypto_conn_ref ref;
	struct mt_mem_share share; /* what the library and the streams' bytes take */
	struct mt_tls_session tls;
	void *user;
	uint64_t serial;
	struct mt_expiry expiry;
	TAILQ_ENTRY(mt_conn) all;
	TAILQ_ENTRY(mt_conn) dirty;
	TAILQ_ENTRY(mt_conn) ready;
	TAILQ_ENTRY(mt_conn) opening; /* server: while its handshake lasts */
	struct mt_stream_list streams;
	/* Streams with something to send; see order.c. */
	struct mt_stream_list fresh;
	struct mt_stream_list current;
	struct mt_stream_list later;
	struct mt_stream_list blocked;  /* have bytes, but no credit */
	struct mt_stream_list for_room; /* wait for their turn to take bytes; see room.c */
	struct mt_quic_stream *invited; /* its turn has come, its handler is to be called */
	uint32_t slice;                 /* bytes of a turn; 0: there are no turns */
	uint64_t tx_unsent;             /* bytes of the streams that have much, and credit */
	uint32_t round;
	uint32_t round_max;     /* bytes of each stream */
	uint32_t datagram_lead; /* bytes by which datagrams are ahead of streams */
	uint32_t stream_count;  /* open, as ngtcp2 sees it */
	uint32_t quiet_count;   /* of these, those that mostly lie still */
	/* Streams that were released with STOP_SENDING, oldest first. */
	struct mt_stream_list given_up;
	unsigned written_off_count;

	struct mt_datagram_out *dgram_head;
	struct mt_datagram_out *dgram_tail;
	size_t dgram_count;
	/* Received before on_established was called, newest first. */
	struct mt_datagram_out *early;
	unsigned early_count;

	ngtcp2_ccerr close_err;
	char close_reason[128];
	struct mt_conn_end end;
	struct mt_conn_info info; /* kept up to date for `remote` only, until the end */
	uint64_t crypto_bytes;
	uint64_t packets_sent;
	uint32_t unpaced_bytes; /* sent since the pacer was told last */
	/* Since when nothing came while large packets were under way; 0: they are answered. */
	uint64_t unanswered_ns;
	/* Bytes that left in a packet of more than the smallest size: the last ones before `end`.
	 */
	struct {
		struct mt_quic_stream *stream; /* NULL: none are watched */
		uint64_t end;
		uint64_t since_ns; /* when any of that stream's were acknowledged last */
		unsigned packets;  /* of more than the smallest size, sent since */
		bool is_proof;     /* of what the path carries, once acknowledged */
	} large;
	uint64_t narrow_until_ns; /* packets are the smallest until then */
	uint64_t doubted_ns;      /* when that was decided last */
	uint8_t narrow_count;
	bool is_narrow_untried; /* nothing of some size has left since packets are the smallest */
	/* What has happened since the budget's second began. */
	struct {
		uint64_t since_ns;
		uint64_t packets;
		uint64_t bytes_then; /* info.bytes_received and packets_sent at its start */
		uint64_t sent_then;
	} budget;
	uint64_t tx_max;     /* of tx_unacked, in this turn */
	uint64_t tx_unacked; /* bytes of all streams that ngtcp2 borrows */
	uint64_t rx_queued;  /* bytes of all streams that wait for their users */
	uint64_t last_received_ns;
	uint64_t migrations;
	uint64_t created_ns;
	uint64_t handshake_ns; /* how long it took */
	uint64_t lost_counted; /* packets that the counters know of */
	unsigned events;
	struct mt_qlog *qlog; /* NULL: nobody wants to know */
	enum mt_cc cc;
	bool server : 1;
	bool established : 1;
	bool announced : 1; /* on_established was called */
	bool is_dirty : 1;
	bool is_ready : 1;
	bool is_resting : 1;    /* what came waits for an answer or its timer; see calm.c */
	bool got_payload : 1;   /* streams' or datagrams', with the packet that is read */
	bool is_answer : 1;     /* what is to be written is an acknowledgement, if anything */
	bool is_brief : 1;      /* and for a packet with hardly more than a PING */
	bool close_pending : 1; /* close_err is to be sent */
	bool ended : 1;
	bool got_reset : 1;
	bool crypto_flood : 1;
	bool refused : 1;     /* its identity is not welcome, and that was told */
	bool wants_retry : 1; /* ended: the client's address is to be validated first */
	bool dgram_was_full : 1;
	bool has_next_keys : 1; /* those of the next key update are derived */
	uint8_t answer_len;     /* of the last packet for such a PING; 0: not known */
	uint8_t bare_count;     /* of those in a row with room for an acknowledgement only */
};

/* What is left of a connection in its closing or draining period (RFC 9000, section 10.2). */
struct mt_closing {
	struct mt_cid_owner owner;
	struct mt_expiry expiry;
	struct mt_path path;
	uint64_t received; /* packets since: answered at powers of two only */
	uint64_t bytes_in; /* at most three times as much is answered */
	uint64_t bytes_out;
	size_t len; /* 0: draining, never answers */
	uint8_t packet[];
};

/* What closing connections' entries may cost an endpoint: about 2 KB each. */
#define MT_CLOSING_MAX 8192u

/* Packets of handshakes that wait for their turn. */
enum mt_deferred_class {
	MT_DEFERRED_BEGUN,     /* of half-open connections */
	MT_DEFERRED_PROVEN,    /* first ones, with a token */
	MT_DEFERRED_STRANGERS, /* first ones, without */
	MT_DEFERRED_CLASSES
};

struct mt_deferred {
	struct mt_cid_owner owner; /* of a first one's id: what comes again meanwhile is not kept */
	TAILQ_ENTRY(mt_deferred) entry;
	enum mt_deferred_class class;
	struct mt_deferred *more; /* the rest of a hello that is too large for one; NULL: none */
	struct mt_path path;
	uint64_t since_ns;
	unsigned ecn;
	size_t len;
	uint8_t data[];
};
TAILQ_HEAD(mt_deferred_list, mt_deferred);

/* Anybody may send packets of 64 KiB: what waits is bounded by its size too. */
struct mt_deferred_queue {
	struct mt_deferred_list list;
	size_t count;
	size_t bytes;
};

/* About as many as get their turn before they would give up. */
#define MT_DEFERRED_PROVEN_MAX 1024u
/* Beside running connections handshakes leave them so many times what they have taken themselves.
 */
#define MT_HANDSHAKES_REST 2u

/* A batch that was received; see mt_endpoint_expect. */
#define MT_EXPECTED_MAX 16u
struct mt_expected {
	struct {
		const uint8_t *id; /* NULL: not of interest */
		struct mt_cid *const *bucket;
		const struct mt_conn *conn; /* NULL: unknown */
	} packets[MT_EXPECTED_MAX];
	unsigned count;
	unsigned done;
};

struct mt_endpoint {
	struct mt_endpoint_config cfg;
	const ngtcp2_callbacks *callbacks;
	uint64_t now_ns;
	uint64_t next_serial;
	struct mt_cid_table *cids;
	struct mt_expiry_queue expiries; /* of connections (MT_OWNER_CONN) and closings */
	struct mt_conn_list all;
	struct mt_conn_list dirty;
	struct mt_conn_list ready;
	struct mt_conn_list ended;
	struct mt_conn_list opening; /* newest last */
	struct mt_stream_list ready_streams;
	struct mt_stream_list buried;
	struct mt_stream_list starved;
	uint64_t starved_since_ns;
	uint64_t cut_at_ns; /* when the last connection was closed for the memory it held */
	size_t count;
	size_t half_open;
	size_t stream_count; /* of all connections, without the quiet ones */
	uint64_t stirred_ns; /* when anything but a keep-alive came or went last */
	uint64_t calm_window_ns;
	unsigned calm_packets; /* since then */
	bool is_crowded;       /* many came in the window before */
	size_t closing_count;
	unsigned qlogs_held; /* of connections whose client is not known yet */
	uint8_t reset_secret[MT_SECRET_LEN];
	uint8_t token_secret[MT_SECRET_LEN];
	struct mt_meter {
		uint64_t tokens;
		uint64_t filled_ns;
	} accepts, replies, answers, retries, checks;
	struct mt_deferred_queue deferred[MT_DEFERRED_CLASSES];
	uint64_t rest_until_ns; /* no handshake is looked at before */
	uint64_t begun_ns;      /* when a client that waited last got its turn */
	uint64_t busy_ns;       /* when an established connection last had a packet */
	unsigned begun_in_a_row;
	bool strangers_turn;
	bool is_handshaking; /* what is looked at has had its turn */
	bool has_handshaken; /* since it was last told how long that took */
	struct mt_expected expected;
	uint64_t little_ns; /* when a stream last sent all that it had, and that was little */
	bool draining;
	bool flushing_blocked;
	bool is_short; /* of memory: streams get no room */
};

/* conn.c */
struct mt_conn_new {
	const struct mt_path *path;
	struct mt_tls_client *tls_client; /* client */
	const ngtcp2_pkt_hd *hd;          /* server */
	const ngtcp2_cid *odcid;          /* server, after Retry: the first destination id */
};
int mt_conn_new(
	struct mt_endpoint *ep, const struct mt_conn_new *how, struct mt_conn **out) MT_MUST_CHECK;
/* Frees what mt_conn_end_now left. */
void mt_conn_free(struct mt_conn *c);
void mt_conn_mark_dirty(struct mt_conn *c);
void mt_conn_raise(struct mt_conn *c, unsigned events);
/* conn_path.c: room for the first packet of a turn, which alone may be a probe of the path MTU. */
size_t mt_conn_probe_payload(const struct mt_conn *c);
/* Large packets that vanish all at once, since the path has changed and nobody tells (RFC 8899,
 * section 4.3): `watch` before each turn of sending, with the bytes under way; `doubt` when a timer
 * has gone off. After two probe timeouts of silence packets are the smallest for a second, and
 * twice as long each time that small packets are answered meanwhile and large ones are not. Small
 * packets may be answered all the time, so bytes that left in a large one are watched as well:
 * `watch_large` as bytes of a stream have left in one packet, `note_acked` as some are
 * acknowledged, `forget_large` as they need not be any more. */
void mt_conn_watch_path(struct mt_conn *c, uint64_t in_flight);
void mt_conn_watch_large(struct mt_quic_stream *s, size_t len);
void mt_conn_note_acked(struct mt_quic_stream *s);
void mt_conn_forget_large(struct mt_quic_stream *s);
void mt_conn_note_sent(struct mt_conn *c, size_t packet_len);
void mt_conn_doubt_path(struct mt_conn *c);
void mt_conn_rearm(struct mt_conn *c);
/* A result of ngtcp2 that ends the connection: sends what is to be sent and ends it. Not from
 * within a callback. */
void mt_conn_fail(struct mt_conn *c, int liberr);
/* Ends it with c->end set; ids go, or go to a closing entry with `packet`. */
void mt_conn_end_now(struct mt_conn *c, const uint8_t *packet, size_t packet_len, bool keep_ids);
void mt_conn_drop_tls(struct mt_conn *c);
/* A client was turned away for its identity, or for having none. */
void mt_conn_tell_refused(struct mt_conn *c, const uint8_t *fingerprint);
void mt_conn_free_datagrams(struct mt_conn *c);
void mt_conn_deliver_early(struct mt_conn *c);
/* Lets the peer open another stream in the place of this one, once. */
void mt_conn_return_stream(struct mt_quic_stream *s);
void mt_conn_add_given_up(struct mt_quic_stream *s);
void mt_conn_remove_given_up(struct mt_quic_stream *s);
/* Returns streams that were given up so long ago that they should have ended. */
void mt_conn_write_off(struct mt_conn *c);

/* conn_callbacks.c */
const ngtcp2_callbacks *mt_conn_callbacks(bool server);

/* conn_write.c: false when the way out is blocked */
bool mt_conn_write(struct mt_conn *c);
void mt_conn_write_close(struct mt_conn *c);

/* qlog.c: begins one when it is wanted, and safe */
void mt_conn_start_qlog(struct mt_conn *c, ngtcp2_settings *settings);
void mt_conn_drop_qlog(struct mt_conn *c);
/* The same unless somebody has asked to keep it. */
void mt_conn_drop_held_qlog(struct mt_conn *c);

/* stream.c */
struct mt_quic_stream *mt_stream_new(struct mt_conn *c, int64_t id, bool by_peer);
void mt_stream_free(struct mt_quic_stream *s);
void mt_stream_raise(struct mt_quic_stream *s, unsigned events);
int mt_stream_on_data(
	struct mt_quic_stream *s, const uint8_t *data, size_t len, bool fin) MT_MUST_CHECK;
void mt_stream_on_acked(struct mt_quic_stream *s, size_t len);
void mt_stream_on_reset(struct mt_quic_stream *s, uint64_t code);
void mt_stream_on_stop(struct mt_quic_stream *s, uint64_t code);
void mt_stream_on_close(struct mt_quic_stream *s, uint64_t code);
void mt_stream_detach(struct mt_quic_stream *s, int err);

/* order.c: whose turn it is to send */
void mt_conn_init_order(struct mt_conn *c);
/* How much each stream may send in a round, by the path's pace. */
void mt_conn_set_round(struct mt_conn *c, const ngtcp2_conn_info *info);
/* NULL: no stream has anything to send. */
struct mt_quic_stream *mt_conn_next_stream(struct mt_conn *c);
bool mt_conn_has_sendable(const struct mt_conn *c);
/* One that waits for credit tries again. */
void mt_conn_retry_blocked(struct mt_conn *c);
/* It has sent so much: others may come first now. */
void mt_stream_charge(struct mt_quic_stream *s, size_t len);
void mt_stream_set_sendable(struct mt_quic_stream *s, bool sendable);
/* Before all others: for what needs no credit. */
void mt_stream_put_first(struct mt_quic_stream *s);
void mt_stream_set_blocked(struct mt_quic_stream *s);
/* Whether the next bytes should be those of datagrams, given that there are some. */
bool mt_conn_prefers_datagrams(const struct mt_conn *c);
void mt_conn_charge_datagram(struct mt_conn *c, size_t len);

/* room.c: whose turn it is to take bytes that are to be sent */
void mt_conn_init_room(struct mt_conn *c);
/* `bytes`: what the path takes in the time of a turn; too few: there are none. */
void mt_conn_set_slice(struct mt_conn *c, uint64_t bytes);
/* How many of `space` bytes may be taken now. 0: on_writable follows. */
size_t mt_stream_take_room(struct mt_quic_stream *s, size_t space);
/* So many were taken. */
void mt_stream_fill_room(struct mt_quic_stream *s, size_t len);
/* What it has unsent, or whether that has credit, is something else now. */
void mt_stream_count_unsent(struct mt_quic_stream *s);
/* Its handler has been called: if it made no use of its turn, somebody else does. */
void mt_stream_end_invitation(struct mt_quic_stream *s);
/* Neither for room nor for memory. */
void mt_stream_stop_waiting(struct mt_quic_stream *s);

/* memory.c: what limits.max_memory asks for */
bool mt_endpoint_may_accept(struct mt_endpoint *ep);
/* Whether the stream is to wait; on_writable follows. */
bool mt_endpoint_starves(struct mt_endpoint *ep, struct mt_quic_stream *s);
void mt_endpoint_unstarve(struct mt_quic_stream *s);
/* Once a turn: sheds what is too much, wakes who waits. Not from within a callback. */
void mt_endpoint_relieve(struct mt_endpoint *ep);
/* The handshake is over, one way or the other. */
void mt_conn_leave_opening(struct mt_conn *c);

/* defer.c: keeps a packet of a handshake for its turn, or drops it when too many wait; then it
 * comes back through mt_endpoint_receive_one. False: this is its turn. `dcid`, of a first packet,
 * is looked out for meanwhile.
 */
bool mt_endpoint_defer(struct mt_endpoint *ep, enum mt_deferred_class class,
	const struct mt_path *path, const ngtcp2_cid *dcid, unsigned ecn, const uint8_t *data,
	size_t len) MT_MUST_CHECK;
/* Another first packet for the id of one that waits, `owner`: a second one, which may hold the rest
 * of the client's hello, is kept, what is beyond that or the same again is not.
 */
void mt_endpoint_defer_more(struct mt_endpoint *ep, struct mt_cid_owner *owner,
	const struct mt_path *path, unsigned ecn, const uint8_t *data, size_t len);
void mt_endpoint_init_deferred(struct mt_endpoint *ep);
void mt_endpoint_drop_deferred(struct mt_endpoint *ep);
/* Clients that wait for a handshake to begin. */
size_t mt_endpoint_waiting(const struct mt_endpoint *ep);
/* When the next one has its turn; UINT64_MAX: none waits. */
uint64_t mt_endpoint_deferred_expiry(const struct mt_endpoint *ep);
/* accept.c: tells a client that has waited for too long. */
void mt_endpoint_refuse_waiting(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *data, size_t len);

/* calm.c: what `c` has just received is answered here, or left to its timer. False: it is to be
 * looked at in this turn's flush, as whoever has something to send. */
bool mt_conn_settle(struct mt_conn *c, unsigned ecn, size_t len);
/* The peer has got credit for so many bytes more. */
void mt_conn_mark_credit(struct mt_conn *c, size_t len);

/* The next one of what was expected is received now. */
void mt_endpoint_look_ahead(struct mt_endpoint *ep);

/* endpoint.c */
void mt_endpoint_receive_one(struct mt_endpoint *ep, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len);
struct mt_closing *mt_closing_new(struct mt_endpoint *ep, struct mt_conn *c, const uint8_t *packet,
	size_t len, uint64_t until_ns);
void mt_closing_free(struct mt_endpoint *ep, struct mt_closing *closing);
void mt_endpoint_random(void *out, size_t len);
int mt_endpoint_new_cid(struct mt_endpoint *ep, ngtcp2_cid *cid) MT_MUST_CHECK;

/* accept.c: a packet whose id nobody owns */
void mt_endpoint_receive_unknown(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_version_cid *vc, unsigned ecn, const uint8_t *data, size_t len,
	struct mt_conn **accepted);
void mt_endpoint_send_retry(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *data, size_t len);
void mt_endpoint_send_version_negotiation(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_version_cid *vc, size_t len);
int mt_endpoint_derive_secrets(struct mt_endpoint *ep) MT_MUST_CHECK;

static inline void mt_ngtcp2_path(ngtcp2_path *out, const struct mt_path *path)
{
	*out = (ngtcp2_path){
		.local = {.addr = (struct sockaddr *)&path->local.sa, .addrlen = path->local.len},
		.remote = {.addr = (struct sockaddr *)&path->remote.sa,
			.addrlen = path->remote.len},
		.user_data = path->socket,
	};
}
