/* The insides of a worker's TLS over TCP, shared by tls_front.c and tls_accept.c. */
#pragma once

#include "daemon/tls_front.h"

#include <sys/queue.h>

struct mt_tls_listener {
	struct mt_poll_item item; /* first */
	struct mt_tls_front *front;
	unsigned id;
	bool open;
};

/* One TCP connection. */
struct mt_tls_visit {
	LIST_ENTRY(mt_tls_visit) of_front;
	LIST_ENTRY(mt_tls_visit) of_session;
	struct mt_tls_front *front;
	struct mt_stream *stream;   /* NULL in the handshake; only to look at */
	struct mt_session *session; /* NULL in the handshake, and when the session has gone */
	struct mt_addr remote;
	bool counted_kernel;
	bool counted_user;
	bool told;                  /* why it was refused is known already */
	struct mt_deadline refusal; /* runs while a refused one has not said what it wants */
	enum mt_app_code refusal_code;
	const char *refusal_text;
};

/* A power of 2. */
#define MT_TLS_BUCKETS 1024u

struct mt_tls_front {
	struct mt_tls_front_config cfg;
	struct mt_tls_limits limits;
	struct mt_tls_loop *tls;
	struct mt_tls_listener listeners[MT_TLS_LISTENERS_MAX];
	struct mt_tls_visit_list visits;
	size_t visit_count;
	struct mt_session_list buckets[MT_TLS_BUCKETS]; /* by address and identity */
	uint64_t tokens; /* accepts that the rate still allows, in 1/1000 */
	uint64_t filled_ms;
	struct mt_deadline again; /* accepting waits */
	bool draining;
};

/* tls_front.c: takes the descriptor */
void mt_tls_front_begin(struct mt_tls_front *f, int fd, const struct mt_addr *remote);

/* tls_refuse.c: answers a connection whose session may not be used, whatever it asks for: a tunnel
 * with a failure, a control channel with the reason. The stream is taken, `text` lasts. */
void mt_tls_front_refuse(struct mt_tls_visit *v, enum mt_app_code code, const char *text);

/* tls_accept.c */
void mt_tls_accept_init(struct mt_tls_front *f);
void mt_tls_accept_deinit(struct mt_tls_front *f);
