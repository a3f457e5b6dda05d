/* The inside of a relay, shared by its files. */
#pragma once

#include "daemon/relay.h"
#include "daemon/relay_io.h"
#include "daemon/relay_targets.h"
#include "proto/wire/extended.h"
#include "proto/wire/reassembly.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define MT_RELAY_BUCKETS 16 /* of the table of sessions */

struct mt_relay_session;
struct mt_relay_stream;

struct mt_relay_pending {
	TAILQ_ENTRY(mt_relay_pending) link;
	struct mt_relay_target *target;
	size_t len;
	uint8_t data[];
};

struct mt_relay_socket {
	struct mt_poll_item item;
	struct mt_relay_out out;
	struct mt_relay_session *session;
	TAILQ_ENTRY(mt_relay_socket) by_turn; /* while `waiting` */
	bool open;
	bool waiting; /* unread datagrams wait for room towards the client */
};

/* By what a session's answers travel. */
enum mt_relay_via {
	MT_RELAY_DATAGRAM,
	MT_RELAY_STREAM, /* of `stream` */
	MT_RELAY_NOWHERE,
};

/* One application of the client: sockets, and targets with the texts that it used. */
struct mt_relay_session {
	LIST_ENTRY(mt_relay_session) of_bucket;
	TAILQ_ENTRY(mt_relay_session) by_use;
	struct mt_relay *relay;
	bool extended; /* else all datagrams of the plain form, over TLS those of one stream */
	uint32_t id;   /* of the plain form: 0, over TLS the stream's number */
	enum mt_relay_via via;
	struct mt_relay_stream *stream;
	uint16_t next_packet; /* number of the next answer that travels in fragments */
	uint8_t pieces;       /* that the last answer took */
	struct mt_relay_socket v4;
	struct mt_relay_socket v6;
	struct mt_relay_targets targets;
	struct mt_deadline idle;
	uint64_t active_ms; /* last traffic */
};

TAILQ_HEAD(mt_relay_session_queue, mt_relay_session);
LIST_HEAD(mt_relay_session_list, mt_relay_session);
TAILQ_HEAD(mt_relay_pending_list, mt_relay_pending);
TAILQ_HEAD(mt_relay_socket_queue, mt_relay_socket);
LIST_HEAD(mt_relay_stream_list, mt_relay_stream);

struct mt_relay {
	struct mt_env *env;
	struct mt_conn *conn; /* NULL: no datagrams, streams only */
	const char *client;
	struct mt_relay_meter meter;
	struct mt_pacer_item paced;
	struct mt_relay_session_list buckets[MT_RELAY_BUCKETS];
	struct mt_relay_session_queue sessions; /* the last used one first */
	unsigned session_count;
	unsigned target_count; /* of all sessions */
	struct mt_relay_socket_queue waiting;
	struct mt_relay_pending_list pending; /* of all sessions, oldest first */
	unsigned pending_count;
	size_t pending_bytes;
	unsigned lookups; /* targets whose name is being looked up */
	struct mt_reassembly reassembly;
	struct mt_deadline reassembly_due;
	struct mt_relay_stream_list streams;
	uint32_t streams_ever;
};

/* relay.c */
void mt_relay_session_free(struct mt_relay_session *s);
/* Closes the socket that was used least recently, of another session than `keep`. False: there is
 * none. */
bool mt_relay_evict(struct mt_relay *r, const struct mt_relay_session *keep);

/* relay_send.c: towards targets */
void mt_relay_session_init(struct mt_relay_session *s, struct mt_relay *r);
/* Sends, or queues while a name is looked up. */
void mt_relay_session_send(struct mt_relay_session *s, const struct mt_datagram *d);
/* Everything that the session's traffic left behind. */
void mt_relay_session_clear(struct mt_relay_session *s);
void mt_relay_session_touch(struct mt_relay_session *s, uint64_t now_ms);
void mt_relay_drop_target(
	struct mt_relay_session *s, struct mt_relay_target *target, mt_counter *reason);
/* What the rules are asked about a target. */
struct mt_access_request mt_relay_request(
	const struct mt_relay *r, const struct mt_relay_target *target);

/* relay_answer.c: from targets */
void mt_relay_on_ready(struct mt_poll_item *item, unsigned events);

/* relay_stream.c */
struct mt_frames *mt_relay_stream_frames(struct mt_relay_stream *stream);
uint32_t mt_relay_stream_number(const struct mt_relay_stream *stream); /* of the relay's streams */

/* relay.c: a datagram of either form that arrived by `stream`, or as a datagram (NULL). */
void mt_relay_take(
	struct mt_relay *r, struct mt_relay_stream *stream, const uint8_t *data, size_t len);
