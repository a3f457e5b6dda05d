/* TLS over TCP on one worker: listening sockets, connections in their handshake, and whose they
 * are. All connections of one identity from one address are one session, each a stream of it: the
 * kernel brings all of an address to the same worker (daemon/tls_listen.h). One thread.
 */
#pragma once

#include "daemon/env.h"
#include "daemon/session.h"
#include "proto/io/tls_stream.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_TLS_LISTENERS_MAX 32
#define MT_TLS_HALF_OPEN_MAX 512 /* of one worker; then the oldest gives way */
#define MT_TLS_ACCEPT_TURN   32  /* connections accepted before others get their share of a turn */
#define MT_TLS_PAUSE_MS      100 /* without a descriptor to accept with */

struct mt_tls_front;

struct mt_tls_front_config {
	struct mt_env *env;
	uv_loop_t *loop;
	struct mt_session_list *sessions;
	/* A number for a session, unlike that of any QUIC connection. */
	uint64_t (*next_serial)(void *user);
	/* A session has begun, is about to be freed, or a client was turned away (see
	 * mt_endpoint_events). */
	void (*on_session)(void *user, struct mt_session *s);
	void (*on_session_end)(void *user, struct mt_session *s);
	void (*on_refused)(void *user, const struct mt_addr *remote, const char *why,
		const uint8_t *fingerprint);
	void *user;
};

struct mt_tls_limits {
	uint64_t max_connections; /* TCP connections, in their handshake or not */
	uint64_t max_new_per_sec;
	unsigned max_streams; /* of one connection of a client's limit */
};

int mt_tls_front_new(
	struct mt_tls_front **out, const struct mt_tls_front_config *config) MT_MUST_CHECK;
/* Sessions of this kind are gone already. NULL is allowed. */
void mt_tls_front_free(struct mt_tls_front *f);
void mt_tls_front_set_limits(struct mt_tls_front *f, const struct mt_tls_limits *limits);

/* Takes a listening, non-blocking socket. On failure the caller keeps it. */
int mt_tls_front_add_listener(struct mt_tls_front *f, unsigned id, int fd) MT_MUST_CHECK;
/* Accepts what waits already, then closes it. An unknown id is ignored. */
void mt_tls_front_close_listener(struct mt_tls_front *f, unsigned id);
/* No new connections from now on: those that come are closed. */
void mt_tls_front_set_draining(struct mt_tls_front *f);
/* A session's end, called by mt_session_close some time later: frees it. */
void mt_tls_front_end_session(struct mt_session *s);
/* The round trip of one of its connections, as the kernel measures it; 0: unknown. */
double mt_tls_front_rtt_ms(const struct mt_session *s);
