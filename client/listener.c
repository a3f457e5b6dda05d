#include "client/listener.h"

#include "client/say.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG        1024
#define ACCEPTS_A_TURN 64  /* before the tunnels get their share */
#define PAUSE_MS       100 /* when descriptors or memory have run out */

struct mt_listener {
	struct mt_poll_item item; /* first */
	struct mt_poller *poller;
	struct mt_locals *locals;
	const struct mt_forward *forward;
	uv_timer_t pause;
	bool told; /* that connections had to wait: once is enough */
};

static void on_ready(struct mt_poll_item *item, unsigned events);

static void on_pause_over(uv_timer_t *timer)
{
	struct mt_listener *l = timer->data;

	on_ready(&l->item, MT_POLL_IN);
}

static void pause_accepting(struct mt_listener *l, int err)
{
	if (!l->told) {
		l->told = true;
		mt_say("connections of applications must wait: %s", mt_strerror(err));
	}
	/* A callback is given: this cannot fail. */
	(void)uv_timer_start(&l->pause, on_pause_over, PAUSE_MS, 0);
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_listener *l = (struct mt_listener *)item;
	const int on = 1;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(item->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		int err;

		if (fd < 0) {
			switch (errno) {
			case EAGAIN: return;
			case EMFILE:
			case ENFILE:
			case ENOBUFS:
			case ENOMEM: pause_accepting(l, -errno); return;
			default: continue; /* that one connection is gone */
			}
		}
		/* Slower without, but working. */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		err = mt_local_start(l->locals, fd, l->forward);
		if (err < 0) {
			(void)close(fd); /* nothing was read or written */
			pause_accepting(l, err);
			return;
		}
	}
	mt_poller_defer(l->poller, item, MT_POLL_IN);
}

static int open_socket(const struct mt_addr *address, int *out, struct mt_addr *bound)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	const int on = 1;
	int err = 0;
	int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		return -errno;
	}
	/* Without it a restart must wait for old connections to be forgotten; no reason to give up.
	 */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->sa.sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) {
		err = -errno;
	}
	if (err == 0 && (bind(fd, &address->sa, address->len) < 0 || listen(fd, BACKLOG) < 0 ||
				getsockname(fd, (struct sockaddr *)&name, &len) < 0)) {
		err = -errno;
	}
	if (err == 0) {
		err = mt_addr_from_sockaddr(bound, (struct sockaddr *)&name, len);
	}
	if (err < 0) {
		(void)close(fd); /* nothing was accepted */
		return err;
	}
	*out = fd;
	return 0;
}

int mt_listener_open(struct mt_listener **out, uv_loop_t *loop, struct mt_poller *poller,
	struct mt_locals *locals, const struct mt_addr *bind, const struct mt_forward *forward,
	struct mt_addr *bound)
{
	struct mt_listener *l = calloc(1, sizeof(*l));
	struct mt_addr address;
	int fd = -1;
	int err;

	if (l == NULL) {
		return -ENOMEM;
	}
	l->poller = poller;
	l->locals = locals;
	l->forward = forward;
	err = open_socket(bind, &fd, &address);
	if (err < 0) {
		goto out;
	}
	err = mt_poller_add(poller, &l->item, fd, on_ready);
	if (err < 0) {
		goto out;
	}
	(void)uv_timer_init(loop, &l->pause); /* always 0 */
	l->pause.data = l;
	*bound = address;
	*out = l;
	return 0;
out:
	if (fd >= 0) {
		(void)close(fd); /* nothing was accepted */
	}
	free(l);
	return err;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void mt_listener_close(struct mt_listener *l)
{
	if (l != NULL) {
		mt_poller_close(l->poller, &l->item);
		uv_close((uv_handle_t *)&l->pause, on_closed);
	}
}
