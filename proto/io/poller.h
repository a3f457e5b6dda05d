/* Readiness of many sockets: an edge-triggered epoll set of its own, polled by the libuv loop as one descriptor.
 * One EPOLL_CTL_ADD a socket and no other epoll_ctl in its life. One thread.
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
};

/* A socket in the set; embedded in its owner, which must stay in place until mt_poller_remove. */
struct mt_poll_item {
	int fd;
	/* Edge-triggered: read or write until EAGAIN, or remember that more is there. The handler may add and
	 * remove any item, its own too.
	 */
	void (*on_ready)(struct mt_poll_item *item, unsigned events);
};

int mt_poller_new(struct mt_poller **out, uv_loop_t *loop) MT_MUST_CHECK;
/* The loop must run once more for the handle to close; the memory goes then. All items must be removed. */
void mt_poller_free(struct mt_poller *poller);
/* Registers a non-blocking descriptor for all events; the first ones are reported soon. `item` is set up here. */
int mt_poller_add(struct mt_poller *poller, struct mt_poll_item *item, int fd,
	void (*on_ready)(struct mt_poll_item *item, unsigned events)) MT_MUST_CHECK;
/* No event follows, not even one already fetched. Does not close the descriptor. */
void mt_poller_remove(struct mt_poller *poller, struct mt_poll_item *item);
