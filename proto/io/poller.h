/* Readiness of many sockets: an edge-triggered epoll set of its own, polled by the libuv loop as
 * one descriptor. One EPOLL_CTL_ADD a socket and no other epoll_ctl in its life, even when it
 * changes hands. One thread.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct mt_poller;

enum {
	MT_POLL_IN = 1u << 0,
	MT_POLL_OUT = 1u << 1,
	MT_POLL_HUP = 1u << 2, /* both directions ended, or an error: reads and writes tell which */
	MT_POLL_EOF = 1u << 3, /* the peer's end is in the receive queue: a short read is not yet
				  the last one */
};

/* A socket in the set; embedded in its owner, which must stay in place until mt_poller_remove. */
struct mt_poll_item {
	int fd;
	/* Edge-triggered: read or write until EAGAIN, or remember that more is there. The handler
	 * may add and remove any item, its own too.
	 */
	void (*on_ready)(struct mt_poll_item *item, unsigned events);

	/* the poller's own */
	struct mt_poll_item *next, *prev; /* in the list of deferred items; NULL: not in it */
	unsigned deferred;                /* what it will be told */
	int slot;                         /* in the batch of events being handled, or -1 */
};

int mt_poller_new(struct mt_poller **out, uv_loop_t *loop) MT_MUST_CHECK;
/* The loop must run once more for the handle to close; the memory goes then. All items must be
 * removed. */
void mt_poller_free(struct mt_poller *poller);
/* Registers a non-blocking descriptor for all events; the first ones are reported soon. `item` is
 * set up here. */
int mt_poller_add(struct mt_poller *poller, struct mt_poll_item *item, int fd,
	void (*on_ready)(struct mt_poll_item *item, unsigned events)) MT_MUST_CHECK;
/* No event follows, not even one already fetched or deferred. Does not close the descriptor. An
 * item that is not in the set, but has been set up, is left alone.
 */
void mt_poller_remove(struct mt_poller *poller, struct mt_poll_item *item);
/* Takes the item out, but leaves its descriptor, which is returned, in the set: for a socket that
 * another item takes over by mt_poller_add or mt_poller_take, or mt_poller_close_fd ends. What the
 * item has not been told yet is told to the next one, and so are `events`: of what it has been
 * told, those that no read or write has disproved.
 */
int mt_poller_park(struct mt_poller *poller, struct mt_poll_item *item, unsigned events);
/* As mt_poller_add; what is known already of a parked descriptor is not reported later, but in
 * `events`, 0 for any other. */
int mt_poller_take(struct mt_poller *poller, struct mt_poll_item *item, int fd,
	void (*on_ready)(struct mt_poll_item *item, unsigned events),
	unsigned *events) MT_MUST_CHECK;
/* close() for a descriptor that may be parked. */
void mt_poller_close_fd(struct mt_poller *poller, int fd);
/* mt_poller_remove and close() in one, without the epoll_ctl: for descriptors of which there is no
 * duplicate. */
void mt_poller_close(struct mt_poller *poller, struct mt_poll_item *item);

/* Sets up an item without a descriptor, for mt_poller_defer alone. */
void mt_poller_init_item(
	struct mt_poll_item *item, void (*on_ready)(struct mt_poll_item *item, unsigned events));
/* Calls the item's handler with `events` in the next turn of the loop, which then does not wait:
 * for a handler that has done its share of this turn and would block the others by going on.
 * Repeated calls add up. mt_poller_remove undoes it.
 */
void mt_poller_defer(struct mt_poller *poller, struct mt_poll_item *item, unsigned events);
