/* Addresses that the daemon listens on, of either transport, and what is said of them. Control
 * thread. */
#pragma once

#include "daemon/worker.h"
#include "proto/wire/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_appliance;

struct mt_listener {
	unsigned id;
	struct mt_addr wanted; /* as the setting names it, perhaps with port 0 */
	struct mt_addr addr;
	enum {
		MT_LISTENER_SERVES,
		MT_LISTENER_RETIRED, /* no new connections */
		MT_LISTENER_ENDING,  /* retired, and its connections have been told to end */
		MT_LISTENER_CLOSING, /* the workers are closing it */
	} state;
	uint64_t retired_ms; /* of the loop's clock */
};

struct mt_listeners {
	struct mt_listener list[MT_LISTENERS_MAX];
	size_t count;
	unsigned last_id;
	bool asking; /* a round about those that are retired is under way */
};

/* Adds one that serves, within MT_LISTENERS_MAX; its id. */
unsigned mt_listeners_add(
	struct mt_listeners *l, const struct mt_addr *wanted, const struct mt_addr *addr);
/* Where an address is, as it was wanted or as it came out; `count`: nowhere. */
size_t mt_listeners_find(const struct mt_listeners *l, const struct mt_addr *addr);
/* The addresses of those that serve, MT_SETTING_ADDRS_MAX at most: how many. */
size_t mt_listeners_serving(const struct mt_listeners *l, struct mt_addr *out);

/* Into the log and the events. */
void mt_listener_tell(struct mt_appliance *a, const char *protocol, const char *event,
	const struct mt_addr *addr);
/* A worker did not take a new socket: into the log, and as `out` among the facts. */
void mt_listener_not_taken(struct mt_appliance *a, int err, char *out, size_t cap);
