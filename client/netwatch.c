#include "client/netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_MS 50 /* a change comes as several messages */

struct mt_netwatch {
	int fd;
	void (*on_change)(void *user);
	void *user;
	uv_poll_t poll;
	uv_timer_t settle;
	int open_handles;
};

static void on_settled(uv_timer_t *timer)
{
	struct mt_netwatch *w = timer->data;

	w->on_change(w->user);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct mt_netwatch *w = poll->data;
	char waste[8192];
	ssize_t n;

	(void)status;
	(void)events;
	/* That something has changed is all that counts; with ENOBUFS messages were lost, which is
	 * a change too.
	 */
	do {
		n = recv(w->fd, waste, sizeof(waste), MSG_DONTWAIT);
	} while (n > 0 || (n < 0 && errno == ENOBUFS));
	if (!uv_is_active((uv_handle_t *)&w->settle)) {
		/* A callback is given: this cannot fail. */
		(void)uv_timer_start(&w->settle, on_settled, SETTLE_MS, 0);
	}
}

int mt_netwatch_start(
	struct mt_netwatch **out, uv_loop_t *loop, void (*on_change)(void *user), void *user)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	struct mt_netwatch *w = calloc(1, sizeof(*w));
	int err;

	if (w == NULL) {
		return -ENOMEM;
	}
	w->on_change = on_change;
	w->user = user;
	w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (w->fd < 0 || bind(w->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		err = -errno;
		goto out;
	}
	err = uv_poll_init(loop, &w->poll, w->fd);
	if (err < 0) {
		goto out;
	}
	w->poll.data = w;
	w->settle.data = w;
	w->open_handles = 2;
	/* Neither can fail from here on. */
	(void)uv_timer_init(loop, &w->settle);
	(void)uv_poll_start(&w->poll, UV_READABLE, on_readable);
	*out = w;
	return 0;
out:
	if (w->fd >= 0) {
		(void)close(w->fd); /* only read from */
	}
	free(w);
	return err;
}

static void on_closed(uv_handle_t *handle)
{
	struct mt_netwatch *w = handle->data;

	if (--w->open_handles == 0) {
		free(w);
	}
}

void mt_netwatch_stop(struct mt_netwatch *w)
{
	if (w == NULL) {
		return;
	}
	uv_close((uv_handle_t *)&w->poll, on_closed);
	uv_close((uv_handle_t *)&w->settle, on_closed);
	(void)close(w->fd); /* only read from */
}
