#include "daemon/hosts.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_MS 200

static int compare(const void *a, const void *b)
{
	char x[MT_ADDR_TEXT_MAX];
	char y[MT_ADDR_TEXT_MAX];

	return strcmp(mt_addr_format(a, x, sizeof(x)), mt_addr_format(b, y, sizeof(y)));
}

int mt_hosts_read(struct mt_addr **out, size_t *count)
{
	struct ifaddrs *list = NULL;
	struct mt_addr *addrs = NULL;
	size_t n = 0;
	size_t unique = 0;
	int rv = 0;

	if (getifaddrs(&list) != 0) {
		return -errno;
	}
	for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
		n++;
	}
	n = n > MT_HOSTS_MAX ? MT_HOSTS_MAX : n;
	addrs = calloc(n + 1, sizeof(*addrs));
	if (addrs == NULL) {
		rv = -ENOMEM;
		goto out;
	}
	n = 0;
	for (struct ifaddrs *i = list; i != NULL && n < MT_HOSTS_MAX; i = i->ifa_next) {
		struct mt_addr a;
		socklen_t len;

		if (i->ifa_addr == NULL) {
			continue;
		}
		len = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
							: sizeof(struct sockaddr_in6);
		if (mt_addr_from_sockaddr(&a, i->ifa_addr, len) != 0) {
			continue; /* packet sockets and the like */
		}
		if (a.sa.sa_family == AF_INET6) {
			a.v6.sin6_scope_id = 0; /* targets are compared without a zone */
		}
		mt_addr_set_port(&a, 0);
		addrs[n++] = a;
	}
	qsort(addrs, n, sizeof(*addrs), compare);
	for (size_t i = 0; i < n; i++) {
		if (unique == 0 || !mt_addr_equal(&addrs[unique - 1], &addrs[i])) {
			addrs[unique++] = addrs[i];
		}
	}
	*out = addrs;
	*count = unique;
	addrs = NULL;
out:
	free(addrs);
	freeifaddrs(list);
	return rv;
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_hosts_watch *w = timer->data;

	w->on_change(w->user);
}

static void on_netlink(uv_poll_t *poll, int status, int events)
{
	struct mt_hosts_watch *w = poll->data;
	char buf[8192];

	(void)events;
	/* What changed does not matter, that something changed does: ENOBUFS says so as well. */
	while (status == 0 && recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
	}
	(void)uv_timer_start(
		&w->soon, on_timer, SETTLE_MS, 0); /* fails only for a closing handle */
}

static int open_netlink(void)
{
	struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		(void)close(fd); /* nothing was written */
		fd = -1;
	}
	return fd;
}

int mt_hosts_watch_start(
	struct mt_hosts_watch *w, uv_loop_t *loop, void (*on_change)(void *user), void *user)
{
	int rv;

	w->on_change = on_change;
	w->user = user;
	w->fd = open_netlink();
	if (w->fd >= 0 && uv_poll_init(loop, &w->poll, w->fd) != 0) {
		(void)close(w->fd); /* the timer alone then */
		w->fd = -1;
	}
	rv = uv_timer_init(loop, &w->timer);
	if (rv == 0) {
		rv = uv_timer_init(loop, &w->soon);
	}
	if (rv != 0) {
		return rv; /* libuv's codes are negative errnos; its timers never fail to initialise
			    */
	}
	w->timer.data = w;
	w->soon.data = w;
	w->poll.data = w;
	if (w->fd >= 0) {
		rv = uv_poll_start(&w->poll, UV_READABLE, on_netlink);
	}
	if (rv == 0) {
		rv = uv_timer_start(&w->timer, on_timer, MT_HOSTS_REFRESH_MS, MT_HOSTS_REFRESH_MS);
	}
	return rv;
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct mt_hosts_watch *w = handle->data;

	(void)close(w->fd); /* nothing was written */
	w->fd = -1;
}

void mt_hosts_watch_stop(struct mt_hosts_watch *w)
{
	if (w->fd >= 0) {
		uv_close((uv_handle_t *)&w->poll, on_poll_closed);
	}
	uv_close((uv_handle_t *)&w->timer, NULL);
	uv_close((uv_handle_t *)&w->soon, NULL);
}
