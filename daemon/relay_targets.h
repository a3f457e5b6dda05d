/* Where the datagrams of one relay go: each (Host, Port) that the client used, as it wrote it, with
 * the address behind it, to be found by either. No
 * I/O and no clock in here.
 */
#pragma once

#include "daemon/resolver.h"
#include "proto/quic/mem.h"
#include "proto/wire/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct mt_relay_target {
	TAILQ_ENTRY(mt_relay_target) by_use;
	struct mt_relay_target *next_by_text;
	struct mt_relay_target *next_by_addr;
	struct mt_resolve resolve;
	void *owner;         /* the relay's */
	struct mt_addr addr; /* with port; len 0 while the name is looked up */
	bool named;          /* `host` is a name and no address */
	bool kept;           /* goes on although the rules refuse it by now */
	bool answers; /* the last one used for its address: found by mt_relay_targets_by_addr */
	uint64_t used_ms;
	uint64_t text_hash;
	uint16_t port;
	uint8_t host_len;
	char host[];
};

TAILQ_HEAD(mt_relay_target_list, mt_relay_target);

struct mt_relay_targets {
	struct mt_mem *mem;
	uint64_t seed;
	struct mt_relay_target_list used; /* the most recent one first */
	struct mt_relay_target **by_text; /* `buckets` heads each, one block */
	struct mt_relay_target **by_addr;
	size_t buckets; /* a power of two; 0 before the first entry */
	size_t count;
};

void mt_relay_targets_init(struct mt_relay_targets *t, struct mt_mem *mem, uint64_t seed);
/* Forgets all; look-ups must have been cancelled. Usable again afterwards. */
void mt_relay_targets_clear(struct mt_relay_targets *t);
struct mt_relay_target *mt_relay_targets_by_text(
	struct mt_relay_targets *t, uint16_t port, const char *host, uint8_t len);
struct mt_relay_target *mt_relay_targets_by_addr(
	struct mt_relay_targets *t, const struct mt_addr *addr);
/* A new entry without an address. The caller has made room (mt_relay_targets_oldest). NULL without
 * memory. */
struct mt_relay_target *mt_relay_targets_add(
	struct mt_relay_targets *t, uint16_t port, const char *host, uint8_t len, uint64_t now_ms);
/* Notes a use: answers from its address, if it has one, are given its text from now on. */
void mt_relay_targets_use(
	struct mt_relay_targets *t, struct mt_relay_target *target, uint64_t now_ms);
void mt_relay_targets_drop(struct mt_relay_targets *t, struct mt_relay_target *target);
/* The least recently used one; NULL when there is none. */
struct mt_relay_target *mt_relay_targets_oldest(const struct mt_relay_targets *t);
