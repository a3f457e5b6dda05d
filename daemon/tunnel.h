/* A TCP tunnel: a stream that begins with a request, and the target's socket behind it. One thread.
 *
 * header -> (resolve) -> connect -> Status -> the pump (proto/io/pump.h) carries the rest
 */
#pragma once

#include "daemon/account.h"
#include "daemon/env.h"
#include "daemon/rate.h"
#include "proto/quic/stream.h"
#include "proto/wire/err.h"

#include <stdint.h>
#include <sys/queue.h>

struct mt_tunnel;

/* One connection's tunnels; embedded in its session. */
struct mt_tunnels {
	struct mt_env *env;
	struct mt_tunnel_list list;
	uint64_t trace;             /* of the connection; set by its owner */
	const char *client;         /* its name, empty without identity; borrowed */
	struct mt_account *account; /* of new tunnels; borrowed, NULL without identity */
	struct mt_rate *rate;       /* of the connection; borrowed */
	uint64_t bytes_received;    /* of tunnels that have ended */
	uint64_t bytes_sent;
	/* A stream turned out to be a control channel; its type byte is consumed. Taken. */
	void (*on_channel)(void *user, struct mt_stream *stream);
	/* Likewise, to carry UDP; to set after mt_tunnels_init. */
	void (*on_udp)(void *user, struct mt_stream *stream);
	void *user;
};

void mt_tunnels_init(struct mt_tunnels *set, struct mt_env *env, const char *client,
	void (*on_channel)(void *user, struct mt_stream *stream), void *user);
/* A stream that the client opened; taken, on failure too (it is then refused). */
void mt_tunnels_accept(struct mt_tunnels *set, struct mt_stream *stream);
/* Payload of all tunnels up to now, from and to the client. */
void mt_tunnels_bytes(const struct mt_tunnels *set, uint64_t *received, uint64_t *sent);
/* Cuts every tunnel with `app_code`. */
void mt_tunnels_cancel(struct mt_tunnels *set, uint64_t app_code);
/* Cuts those whose target is not allowed any more, or keeps them. Returns how many were cut. */
unsigned mt_tunnels_recheck(struct mt_tunnels *set, enum mt_recheck how);
/* The connection has gone: tunnels that only deliver what had arrived live on without it. */
void mt_tunnels_abandon(struct mt_tunnels *set);

/* All of a worker, abandoned ones too. */
void mt_tunnels_cancel_all(struct mt_env *env, uint64_t app_code);
