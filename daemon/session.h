/* What the daemon keeps of one QUIC connection: whose it is, its tunnels, its relay, its control
 * channel. One thread. */
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
#define MT_SESSION_FAREWELL_MS   100 /* for the reason to reach the client before the close */

struct mt_session {
	LIST_ENTRY(mt_session) of_worker;
	struct mt_env *env;
	struct mt_conn *conn;
	uint8_t fingerprint[MT_FINGERPRINT_LEN];
	bool has_identity;
	struct mt_account *account; /* referenced; NULL without identity */
	bool counted;               /* among the account's connections */
	struct mt_rate *rate;
	int64_t expires_at;           /* Unix seconds; 0: never */
	char client[MT_NAME_MAX + 1]; /* empty without identity */
	int64_t connected_at;         /* Unix seconds */
	struct mt_tunnels tunnels;    /* its `trace` is the connection's trace id */
	struct mt_relay *relay;       /* NULL before the first datagram */
	struct mt_channel *channel;   /* NULL: none */
	bool closing;                 /* nothing new is accepted */
	uint64_t close_code;
	char close_reason[64];
	struct mt_deadline farewell;
};

LIST_HEAD(mt_session_list, mt_session);

/* For a connection whose handshake has completed, in on_established. NULL without memory. */
struct mt_session *mt_session_new(
	struct mt_env *env, struct mt_session_list *list, struct mt_conn *conn);
/* Takes a stream that the client opened. */
void mt_session_accept_stream(struct mt_session *s, struct mt_stream *stream);
/* From inside mt_endpoint_receive; see mt_relay_receive. */
void mt_session_receive_datagram(struct mt_session *s, const uint8_t *data, size_t len);
void mt_session_resume_relay(struct mt_session *s);
/* Judges identity and targets by the snapshot in force. */
void mt_session_recheck(struct mt_session *s, enum mt_recheck how);
/* The same for what comes by itself with time: expiry and quota. Also brings the account up to
 * date. */
void mt_session_tick(struct mt_session *s, int64_t now);
/* Takes the path's round-trip time into the worker's histogram. */
void mt_session_observe(struct mt_session *s);
void mt_session_notify(struct mt_session *s, enum mt_notice code, const char *text);
/* Cuts the tunnels, says why on the control channel, then closes the connection. Repeated calls do
 * nothing. */
void mt_session_close(struct mt_session *s, enum mt_app_code code, const char *reason);
/* Closes without waiting for the farewell. */
void mt_session_close_now(struct mt_session *s, enum mt_app_code code, const char *reason);
void mt_session_get_row(struct mt_session *s, struct mt_connection_row *row, unsigned worker);
/* The connection has ended. */
void mt_session_free(struct mt_session *s);
