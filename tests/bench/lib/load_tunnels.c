#include "tests/bench/lib/load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64

/* One place among those that are used at once: opens a tunnel, sends 1 KiB, has it back, closes it,
 * and begins again. */
enum step {
	STEP_CONNECT,
	STEP_GREET,
	STEP_ASK,
	STEP_EXCHANGE,
};

struct place {
	int fd;
	unsigned number;
	enum step step;
	size_t wanted; /* bytes of the answer to this step that are to come */
	uint64_t begin_ns;
	uint8_t answer[10];
};

static const uint8_t payload[LOAD_EXCHANGE];

static void open_place(struct load *l, int epoll, struct place *p)
{
	struct sockaddr_in to = load_loopback(
		l->proxy_count > 0 ? l->proxies[p->number % l->proxy_count] : l->target);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = p};
	int one = 1;

	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	p->step = STEP_CONNECT;
	p->begin_ns = load_now_ns();
	if (p->fd < 0 || setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
		epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &ev) != 0 ||
		(connect(p->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)) {
		load_die("a tunnel");
	}
}

static bool say(struct place *p, enum step step, const void *data, size_t len, size_t wanted)
{
	p->step = step;
	p->wanted = wanted;
	return send(p->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The step that follows a complete answer; whether it could be taken. */
static bool advance(struct load *l, struct place *p)
{
	uint8_t request[10];

	switch (p->step) {
	case STEP_CONNECT:
		if (l->proxy_count > 0) {
			return say(p, STEP_GREET, (const uint8_t[]){5, 1, 0}, 3, 2);
		}
		return say(p, STEP_EXCHANGE, payload, sizeof(payload), sizeof(payload));
	case STEP_GREET:
		return p->answer[1] == 0 &&
		       say(p, STEP_ASK, request, load_socks_request(l, 1, request), 10);
	case STEP_ASK:
		return p->answer[1] == 0 &&
		       say(p, STEP_EXCHANGE, payload, sizeof(payload), sizeof(payload));
	default: return false;
	}
}

/* Takes what has come; negative when the tunnel failed, 1 when it is done. */
static int hear(struct load *l, struct place *p)
{
	uint8_t buf[LOAD_EXCHANGE];
	ssize_t n = recv(p->fd, buf, p->wanted, 0);

	if (n <= 0) {
		return n < 0 && errno == EAGAIN ? 0 : -1;
	}
	if (p->step != STEP_EXCHANGE) {
		memcpy(p->answer + (p->step == STEP_GREET ? 2 : 10) - p->wanted, buf, (size_t)n);
	}
	p->wanted -= (size_t)n;
	if (p->wanted > 0) {
		return 0;
	}
	if (p->step == STEP_EXCHANGE) {
		return 1;
	}
	return advance(l, p) ? 0 : -1;
}

static void turn(struct load *l, int epoll, struct place *p, uint32_t events)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
	int result = 0;

	if (p->step == STEP_CONNECT) {
		if ((events & (EPOLLERR | EPOLLHUP)) != 0 || !advance(l, p)) {
			result = -1;
		} else if (epoll_ctl(epoll, EPOLL_CTL_MOD, p->fd, &ev) != 0) {
			load_die("epoll");
		}
	} else {
		result = hear(l, p);
	}
	if (result == 0) {
		return;
	}
	if (result > 0) {
		load_note_latency(l, p->begin_ns);
		l->units++;
	} else {
		l->failed++;
	}
	close(p->fd);
	open_place(l, epoll, p);
}

void *load_run_tunnels(void *load)
{
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	struct load *l = load;
	struct place *places = calloc(l->streams, sizeof(*places));

	if (epoll < 0 || places == NULL) {
		load_die("places");
	}
	for (unsigned i = 0; i < l->streams; i++) {
		places[i].number = i;
		open_place(l, epoll, &places[i]);
	}
	l->ready = true;
	while (!l->stop) {
		n = epoll_wait(epoll, events, EVENTS_MAX, 20);
		for (int i = 0; i < n; i++) {
			turn(l, epoll, events[i].data.ptr, events[i].events);
		}
	}
	for (unsigned i = 0; i < l->streams; i++) {
		close(places[i].fd);
	}
	free(places);
	close(epoll);
	return NULL;
}

/* One byte there and back, one after the other. */
void *load_run_trips(void *load)
{
	struct load *l = load;
	int fd = load_open_tunnel(l, 0);
	uint8_t byte = 1;

	l->ready = true;
	while (!l->stop) {
		uint64_t begin = load_now_ns();

		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1) {
			load_die("an open tunnel");
		}
		load_note_latency(l, begin);
		l->units++;
	}
	close(fd);
	return NULL;
}
