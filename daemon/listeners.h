/* The addresses that are served, and those that were given up while connections still use them. A
 * new address is bound before anything else changes; an old one stays open until its connections
 * have ended or moved, or MT_RETIRED_MAX_MS have passed. Control thread.
 */
#pragma once

#include "daemon/listen.h"
#include "daemon/listener_list.h"
#include "daemon/worker.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_RETIRED_MAX_MS (3600u * 1000) /* then the connections that are left are ended */

struct mt_appliance;

/* A change of addresses: bound, but not used yet. */
struct mt_move {
	struct mt_listen listen; /* what is new */
	bool keep[MT_LISTENERS_MAX];
	bool prepared;
};

/* Binds what `addrs` name and nobody of ours serves already. On failure nothing has changed, `why`
 * says which address failed, `next` what to do.
 */
int mt_move_prepare(struct mt_move *move, struct mt_appliance *a, const struct mt_addr *addrs,
	size_t count, char *why, size_t why_cap, char *next, size_t next_cap) MT_MUST_CHECK;
/* Closes what was bound; a move that was not prepared is ignored. */
void mt_move_drop(struct mt_move *move);
/* Hands the new sockets to the workers, retires what is no longer named, takes `move`. On -ENOMEM
 * nothing has changed. */
int mt_move_start(struct mt_move *move, struct mt_appliance *a) MT_MUST_CHECK;

/* Notes the listeners of workers that are about to start; fills `ids`, one for each address. */
void mt_listeners_begin(struct mt_appliance *a, const struct mt_listen *listen, unsigned *ids);
/* Puts those that serve among the facts. */
void mt_listeners_post(struct mt_appliance *a);
/* From time to time: closes retired listeners that nobody needs, unless `hold`. */
void mt_listeners_tick(struct mt_appliance *a, bool hold);
