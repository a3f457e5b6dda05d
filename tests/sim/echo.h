/* A server that echoes streams and datagrams, and a client that sends a known pattern and checks
 * what comes back. */
#pragma once

#include "tests/sim/sim.h"

#define ECHO_STREAMS_MAX 128

struct echo_stream {
	struct echo *echo;
	struct mt_stream *s;
	uint64_t size; /* client: what it sends */
	uint64_t sent;
	uint64_t received;
	uint64_t seed;
	bool fin;   /* all that was expected has come, and then FIN */
	bool wrong; /* a byte that differs from the pattern */
	bool cut;   /* a reset, or an end without FIN */
	int end_err;
	bool ended;
};

struct echo {
	struct sim sim;
	struct mt_conn *conn; /* client */
	struct mt_conn *server_conn;
	bool established;
	bool ended;
	struct mt_conn_end end;
	bool server_ended;
	struct mt_conn_end server_end;
	int authorize_alert; /* what the server answers in the handshake */
	unsigned authorized; /* how often it was asked */
	bool server_holds;   /* the server reads nothing */
	struct echo_stream streams[ECHO_STREAMS_MAX];
	unsigned stream_count;
	struct mt_stream *server_streams[ECHO_STREAMS_MAX];
	unsigned server_stream_count;
	unsigned datagrams; /* echoed back to the client */
	bool datagram_wrong;
};

void echo_init(struct echo *e, uint64_t seed);
void echo_deinit(struct echo *e);
/* Connects and runs until established. */
void echo_connect(struct echo *e);
/* Opens a stream that sends `size` bytes and FIN. */
struct echo_stream *echo_start(struct echo *e, uint64_t size);
bool echo_all_done(void *user); /* `user` is the struct echo: every stream has ended */
bool echo_is_established(void *user);
bool echo_has_ended(void *user);
const struct mt_endpoint_events *echo_server_events(struct echo *e);
