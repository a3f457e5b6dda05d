/* The TCP addresses on which TLS is served, as tcp.enabled, tcp.bind_addr and server.bind_addr ask
 * for them. New ones are bound before anything else changes; old ones are closed once their workers
 * have accepted what waited. Control thread.
 */
#pragma once

#include "daemon/listeners.h"
#include "daemon/tls_front.h"
#include "daemon/tls_listen.h"
#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <stdbool.h>
#include <stddef.h>

struct mt_appliance;

/* A change: bound, but not used yet. */
struct mt_tls_move {
	struct mt_tls_listen listen; /* what is new */
	bool keep[MT_LISTENERS_MAX];
	bool prepared;
};

/* Binds what `settings` ask for and nobody of ours serves yet; `quic` is the move of
 * server.bind_addr that goes with it, perhaps not prepared. On failure nothing has changed. */
int mt_tls_move_prepare(struct mt_tls_move *move, struct mt_appliance *a,
	const struct mt_settings *settings, const struct mt_move *quic, char *why, size_t why_cap,
	char *next, size_t next_cap) MT_MUST_CHECK;
/* Closes what was bound; a move that was not prepared is ignored. */
void mt_tls_move_drop(struct mt_tls_move *move);
/* Hands it to the workers and takes it. On -ENOMEM nothing has changed. */
int mt_tls_move_start(struct mt_tls_move *move, struct mt_appliance *a) MT_MUST_CHECK;

/* At the start of the workers, and from time to time when it has failed: listens, or notes why
 * not. */
void mt_tls_listeners_try(struct mt_appliance *a);
