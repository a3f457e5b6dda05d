#include "tests/bench/lib/load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX     64
#define DATAGRAMS_MAX  64
#define DATAGRAM_BYTES 2048
#define BUFFER_BYTES   (4 << 20)

static int target = -1; /* listens, or gets datagrams */
static uint8_t piece[LOAD_PIECE_BYTES];

static void large_buffers(int fd)
{
	int bytes = BUFFER_BYTES;

	/* Without the right to force it, as much as the system gives. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	}
}

void load_target_start(struct load *l)
{
	struct sockaddr_in addr = load_loopback(0);
	socklen_t len = sizeof(addr);
	int kind = l->work == LOAD_UDP ? SOCK_DGRAM : SOCK_STREAM;

	target = socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (target < 0) {
		load_die("the target");
	}
	if (l->work == LOAD_UDP) {
		large_buffers(target);
	} else if (l->work == LOAD_UP) {
		load_bound_buffer(l, target);
	}
	if (bind(target, (struct sockaddr *)&addr, len) != 0 ||
		(kind == SOCK_STREAM && listen(target, 4096) != 0) ||
		getsockname(target, (struct sockaddr *)&addr, &len) != 0) {
		load_die("the target");
	}
	l->target = ntohs(addr.sin_port);
}

/* Datagrams back to where they came from. */
static void echo_datagrams(void)
{
	static uint8_t buf[DATAGRAMS_MAX][DATAGRAM_BYTES];
	struct sockaddr_in from[DATAGRAMS_MAX];
	struct mmsghdr messages[DATAGRAMS_MAX];
	struct iovec iov[DATAGRAMS_MAX];
	int count, done, n;

	for (size_t i = 0; i < DATAGRAMS_MAX; i++) {
		iov[i] = (struct iovec){buf[i], DATAGRAM_BYTES};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
			.msg_namelen = sizeof(from[i]),
			.msg_iov = &iov[i],
			.msg_iovlen = 1};
	}
	count = recvmmsg(target, messages, DATAGRAMS_MAX, 0, NULL);
	for (int i = 0; i < count; i++) {
		iov[i].iov_len = messages[i].msg_len;
	}
	for (done = 0; done < count; done += n) {
		n = sendmmsg(target, messages + done, (unsigned)(count - done), 0);
		if (n <= 0) {
			n = 1; /* this one is lost, and will be counted so */
		}
	}
}

static void accept_all(int epoll)
{
	int fd, one = 1;

	while ((fd = accept4(target, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

		if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
			epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
			load_die("accept");
		}
	}
}

/* Whether the connection goes on. */
static bool echo(int fd)
{
	uint8_t buf[2048];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n < 0) {
		return errno == EAGAIN;
	}
	/* So little always fits into an empty socket's buffer. */
	return n > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n;
}

static bool take(struct load *l, int fd)
{
	ssize_t n = recv(fd, piece, sizeof(piece), l->copy ? 0 : MSG_TRUNC);

	if (n > 0) {
		l->units += (uint64_t)n;
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool give(int fd)
{
	ssize_t n = send(fd, piece, sizeof(piece), MSG_NOSIGNAL);

	return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool serve(struct load *l, int epoll, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data.fd = fd};
	uint8_t first;

	switch (l->work) {
	case LOAD_DOWN:
		if ((events & EPOLLOUT) != 0) {
			return give(fd);
		}
		/* The first byte says that the tunnel stands. */
		return recv(fd, &first, 1, 0) == 1 && epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &ev) == 0;
	case LOAD_UP: return take(l, fd);
	default: return echo(fd);
	}
}

void *load_target_run(void *load)
{
	struct epoll_event events[EVENTS_MAX], ev = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	struct load *l = load;

	ev.data.fd = target;
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, target, &ev) != 0) {
		load_die("epoll");
	}
	while (!l->over) {
		n = epoll_wait(epoll, events, EVENTS_MAX, 20);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == target && l->work == LOAD_UDP) {
				echo_datagrams();
			} else if (fd == target) {
				accept_all(epoll);
			} else if (!serve(l, epoll, fd, events[i].events)) {
				close(fd);
			}
		}
	}
	close(epoll);
	return NULL;
}
