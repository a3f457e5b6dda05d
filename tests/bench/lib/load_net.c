#include "tests/bench/lib/load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define PATIENCE_S   10
#define SHARED_BYTES (16 << 20)
#define LEAST_BYTES  (256 << 10)

_Noreturn void load_die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t load_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* never fails */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void load_note_latency(struct load *l, uint64_t begin_ns)
{
	size_t n = l->latency_count;

	if (l->timed && n < LOAD_LATENCIES_MAX) {
		l->latencies_us[n] = (float)(load_now_ns() - begin_ns) / 1000.0f;
		l->latency_count = n + 1;
	}
}

struct sockaddr_in load_loopback(in_port_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return addr;
}

size_t load_socks_request(const struct load *l, uint8_t command, uint8_t buf[10])
{
	struct sockaddr_in to = load_loopback(command == 1 ? l->target : 0);

	memcpy(buf, (const uint8_t[]){5, command, 0, 1}, 4);
	memcpy(buf + 4, &to.sin_addr, 4);
	memcpy(buf + 8, &to.sin_port, 2);
	return 10;
}

static void expect(int fd, void *buf, size_t len)
{
	errno = ECONNRESET;
	if (recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len) {
		load_die("an answer of the proxy");
	}
}

/* Many streams share what the buffer of one may grow to: else what lies in them when the window
 * opens would be a good part of what is counted. */
void load_bound_buffer(const struct load *l, int fd)
{
	int bytes = SHARED_BYTES / (int)l->streams;

	if (l->streams > 1) {
		bytes = bytes > LEAST_BYTES ? bytes : LEAST_BYTES;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* or less */
	}
}

int load_open_tunnel(struct load *l, unsigned n)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_in to =
		load_loopback(l->proxy_count > 0 ? l->proxies[n % l->proxy_count] : l->target);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	uint8_t request[13] = {5, 1, 0}, answer[10];

	if (fd >= 0) {
		load_bound_buffer(l, fd);
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
		connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		load_die("connect");
	}
	if (l->proxy_count == 0) {
		return fd;
	}
	if (send(fd, request, 3, MSG_NOSIGNAL) != 3) {
		load_die("a proxy's greeting");
	}
	expect(fd, answer, 2);
	(void)load_socks_request(l, 1, request); /* always 10 bytes */
	if (send(fd, request, 10, MSG_NOSIGNAL) != 10) {
		load_die("a proxy's request");
	}
	expect(fd, answer, 10); /* all of them answer with an IPv4 address */
	if (answer[1] != 0 || answer[3] != 1) {
		fprintf(stderr, "load: the proxy answers %u, address type %u\n", answer[1],
			answer[3]);
		exit(1);
	}
	return fd;
}
