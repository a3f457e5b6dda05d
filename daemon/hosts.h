/* The host's own addresses: which targets are the server itself, and which address a profile may
 * name. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <uv.h>

#define MT_HOSTS_MAX        4096 /* more addresses than that are not looked at */
#define MT_HOSTS_REFRESH_MS 30000

/* Reads the addresses of all interfaces, port 0, sorted, each once. An array for free(). */
int mt_hosts_read(struct mt_addr **out, size_t *count) MT_MUST_CHECK;

/* Notices changes: by netlink at once where it is available, and by a timer. */
struct mt_hosts_watch {
	uv_poll_t poll;
	uv_timer_t timer;              /* regular look */
	uv_timer_t soon;               /* gathers a burst of netlink messages into one look */
	int fd;                        /* netlink, -1 without */
	void (*on_change)(void *user); /* addresses may have changed */
	void *user;
};
int mt_hosts_watch_start(struct mt_hosts_watch *w, uv_loop_t *loop, void (*on_change)(void *user),
	void *user) MT_MUST_CHECK;
/* Handles close with the next turn of the loop; `w` must live until then. */
void mt_hosts_watch_stop(struct mt_hosts_watch *w);
