#include "tests/bench/lib/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64

static uint8_t piece[LOAD_PIECE_BYTES];

/* Nothing flows before all of them are open. */
static void open_streams(struct load *l, int epoll)
{
	struct epoll_event ev = {.events = l->work == LOAD_DOWN ? EPOLLIN : EPOLLOUT};
	int *fds = calloc(l->streams, sizeof(*fds));

	if (fds == NULL) {
		load_die("streams");
	}
	for (unsigned i = 0; i < l->streams; i++) {
		fds[i] = load_open_tunnel(l, i);
	}
	for (unsigned i = 0; i < l->streams; i++) {
		ev.data.fd = fds[i];
		if (send(fds[i], "x", 1, MSG_NOSIGNAL) != 1 ||
			fcntl(fds[i], F_SETFL, O_NONBLOCK) != 0 ||
			epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &ev) != 0) {
			load_die("a stream");
		}
	}
	free(fds);
}

/* As many bytes as there are, or as fit, in one call; whether the stream goes on. */
static bool move(struct load *l, int fd)
{
	ssize_t n;

	if (l->work == LOAD_UP) {
		n = send(fd, piece, sizeof(piece), MSG_NOSIGNAL);
	} else {
		n = recv(fd, piece, sizeof(piece), l->copy ? 0 : MSG_TRUNC);
		l->units += n > 0 ? (uint64_t)n : 0;
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

void *load_run_bulk(void *load)
{
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	struct load *l = load;

	if (epoll < 0) {
		load_die("epoll");
	}
	open_streams(l, epoll);
	l->ready = true;
	while (!l->stop) {
		n = epoll_wait(epoll, events, EVENTS_MAX, 20);
		for (int i = 0; i < n; i++) {
			if (!move(l, events[i].data.fd)) {
				l->failed++;
				close(events[i].data.fd);
			}
		}
	}
	/* The process ends now, and with it every stream. */
	return NULL;
}
