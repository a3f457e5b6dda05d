/* The insides of an application's connection, shared by local*.c only. */
#pragma once

#include "client/local.h"
#include "client/tunnel_log.h"
#include "client/tunnel_request.h"
#include "proto/io/pump.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct mt_local;

/* How one protocol reads and answers. */
struct mt_local_protocol {
	/* New bytes are in the buffer. True: more are needed. False: the request has been dealt
	 * with, and the connection may be gone.
	 */
	bool (*on_data)(struct mt_local *local);
	/* Writes the answer to a request that has got its tunnel; returns its length. */
	size_t (*accept)(uint8_t *buf, size_t cap);
	/* Writes the answer to one that has not; may be 0. */
	size_t (*refuse)(uint8_t *buf, size_t cap, uint8_t status, const char *reason);
};

extern const struct mt_local_protocol mt_local_socks;
extern const struct mt_local_protocol mt_local_http;       /* CONNECT, and until it is known */
extern const struct mt_local_protocol mt_local_http_plain; /* absolute URIs */

struct mt_local {
	struct mt_poll_item item; /* first */
	TAILQ_ENTRY(mt_local) entry;
	struct mt_locals *locals;
	enum {
		MT_LOCAL_READING,
		MT_LOCAL_WAITING, /* for the tunnel's status */
		MT_LOCAL_PUMPING,
		MT_LOCAL_ASSOCIATED, /* its end ends the UDP association */
		MT_LOCAL_LINGERING,  /* was refused; until it has read that */
	} state;
	const struct mt_local_protocol *protocol; /* NULL: not known yet, or a forward */
	const struct mt_forward *forward;
	unsigned ready; /* what the poller has told and no read has disproved */
	bool greeted;   /* SOCKS5: the methods have been agreed on */
	uint8_t *buffer;
	size_t fill;
	size_t capacity;
	uint64_t deadline_ms; /* of reading and lingering */
	struct mt_tunnel_request *request;
	struct mt_pump *pump;
	struct mt_tunnel_log log;
	struct mt_udp_assoc *assoc;
};

TAILQ_HEAD(mt_local_list, mt_local);

struct mt_locals {
	struct mt_locals_config config;
	struct mt_local_list list;
	size_t count;
	uv_timer_t tick;
};

/* Drops `len` bytes from the front of the buffer. */
void mt_local_consume(struct mt_local *local, size_t len);
/* Asks for a tunnel. Takes `early`, NULL for none. Refuses the application when that fails at once.
 */
void mt_local_request(struct mt_local *local, const char *host, size_t host_len, uint16_t port,
	uint8_t *early, size_t early_len, bool early_is_safe);
/* Sends a few bytes; closes the connection and returns false when they do not go. */
bool mt_local_send(struct mt_local *local, const void *data, size_t len);
/* Sends a last answer (may be empty) and closes when the application has seen it. */
void mt_local_finish(struct mt_local *local, const void *data, size_t len);
void mt_local_close(struct mt_local *local);
