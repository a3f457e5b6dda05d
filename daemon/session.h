/* What the daemon keeps of one connection: whose it is, its tunnels, its relay, its control
 * channel. Over TLS on TCP, a connection is all that come from one identity and address
 * (daemon/tls_front.h). One thread. */
#pragma once

#include "daemon/account.h"
#include "daemon/channel.h"
#include "daemon/env.h"
#include "daemon/relay.h"
#include "daemon/tunnel.h"
#include "daemon/worker.h"
#include "proto/quic/conn.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define MT_SESSION_POLICY_TEXT   "the access rules have changed, and open tunnels were ended"
#define MT_SESSION_DRAINING_TEXT "the server is going down"
#define MT_SESSION_CROWDED_TEXT  "the client has as many connections as it may have"
#define MT_SESSION_UNUSED_TEXT   "idle timeout"
#define MT_SESSION_UNUSED_MS     10000 /* over TLS: then a session without a connection ends */
#define MT_SESSION_FAREWELL_MS   100   /* for the reason to reach the client before the close */

struct mt_tls_front;
struct mt_tls_visit;
LIST_HEAD(mt_tls_visit_list, mt_tls_visit);

/* A QUIC connection has one control channel. Over TLS several programs of one identity behind the
 * same address are one session: each has its own.
 */
#define MT_SESSION_CHANNELS_MAX 8
struct mt_session_channel {
	struct mt_session *session;
	struct mt_channel *channel; /* NULL: none */
};

struct mt_session {
	LIST_ENTRY(mt_session) of_worker;
	LIST_ENTRY(mt_session) of_watched;
	struct mt_env *env;
	struct mt_conn *conn;       /* NULL over TLS */
	struct mt_tls_front *front; /* NULL over QUIC; so are those that follow */
	LIST_ENTRY(mt_session) of_front;
	struct mt_tls_visit_list visits;
	unsigned visit_count;
	unsigned extra; /* slots of the account, for more streams than one connection may have */
	struct mt_addr remote;
	uint64_t serial;
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	bool has_identity;
	struct mt_account *account; /* referenced; NULL without identity */
	bool counted;               /* among the account's connections */
	struct mt_rate *rate;
	int64_t expires_at;           /* Unix seconds; 0: never */
	char client[MT_NAME_MAX + 1]; /* empty without identity */
	int64_t connected_at;         /* Unix seconds */
	struct mt_tunnels tunnels;    /* its `trace` is the connection's trace id */
	uint64_t qlog;                /* number of the trace that has its qlog; 0: none */
	struct mt_relay *relay;       /* NULL before the first datagram */
	struct mt_session_channel channels[MT_SESSION_CHANNELS_MAX];
	bool watched; /* stands in env->watched */
	bool closing; /* nothing new is accepted */
	uint64_t close_code;
	char close_reason[64];
	struct mt_deadline farewell;
};

LIST_HEAD(mt_session_list, mt_session);

/* For a connection whose handshake has completed, in on_established. NULL without memory. */
struct mt_session *mt_session_new(
	struct mt_env *env, struct mt_session_list *list, struct mt_conn *conn);
/* The same over TLS on TCP. What is pointed to is borrowed for the call. */
struct mt_session_tls {
	struct mt_tls_front *front;
	const struct mt_addr *remote;
	const uint8_t *fingerprint; /* NULL: without identity */
	uint64_t serial;
};
struct mt_session *mt_session_new_tls(
	struct mt_env *env, struct mt_session_list *list, const struct mt_session_tls *how);
/* A TCP connection has come or gone. Each `max_streams` of them need a connection of the client's
 * limit: MT_E_LIMIT when there is none left; it is then to be taken away again all the same. */
int mt_session_enter(struct mt_session *s, unsigned max_streams) MT_MUST_CHECK;
void mt_session_exit(struct mt_session *s, unsigned max_streams);
/* By which it is known to the control verbs, and where it comes from. */
uint64_t mt_session_serial(const struct mt_session *s);
const struct mt_addr *mt_session_remote(const struct mt_session *s);
/* Takes a stream that the client opened. */
void mt_session_accept_stream(struct mt_session *s, struct mt_stream *stream);
/* From inside mt_endpoint_receive; see mt_relay_receive. */
void mt_session_receive_datagram(struct mt_session *s, const uint8_t *data, size_t len);
void mt_session_resume_relay(struct mt_session *s);
/* Judges identity and targets by the snapshot in force. */
void mt_session_recheck(struct mt_session *s, enum mt_recheck how);
/* The same for what comes by itself with time: expiry and quota. Also brings the account up to
 * date. To be called several times a second for those in env->watched: a session stands there while
 * it has a relay or a quota, or expires soon.
 */
void mt_session_tick(struct mt_session *s, int64_t now);
/* Takes the path's round-trip time into the worker's histogram, and sees whether its expiry is
 * near. To be called for every session at least once in MT_SESSION_OBSERVE_S. */
#define MT_SESSION_OBSERVE_S 60
void mt_session_observe(struct mt_session *s, int64_t now);
void mt_session_notify(struct mt_session *s, enum mt_notice code, const char *text);
/* Whether anybody can be told something. */
bool mt_session_has_channel(const struct mt_session *s);
/* Cuts the tunnels, says why on the control channel, then closes the connection. Repeated calls do
 * nothing. */
void mt_session_close(struct mt_session *s, enum mt_app_code code, const char *reason);
/* Closes without waiting for the farewell. */
void mt_session_close_now(struct mt_session *s, enum mt_app_code code, const char *reason);
void mt_session_get_row(struct mt_session *s, struct mt_connection_row *row, unsigned worker);
/* The connection has ended. */
void mt_session_free(struct mt_session *s);
