#include "daemon/tls_listen.h"

#include "proto/io/tls_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NET(offset)  ((uint32_t)SKF_NET_OFF + (offset))
#define IPV4_SOURCE  12
#define IPV6_SOURCE  8
#define VERSION_MASK 0xf0
#define VERSION_4    0x40
#define GOLDEN_RATIO 0x9e3779b1u /* spreads neighbouring addresses */

size_t mt_tls_steer_program(struct sock_filter *prog, unsigned workers)
{
	const struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NET(0)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, VERSION_MASK),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, VERSION_4, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(IPV4_SOURCE)),
		BPF_STMT(BPF_JMP | BPF_JA, 10),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(IPV6_SOURCE)),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(IPV6_SOURCE + 4)),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(IPV6_SOURCE + 8)),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(IPV6_SOURCE + 12)),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, GOLDEN_RATIO),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers == 0 ? 1 : workers),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	const size_t n = sizeof(insns) / sizeof(insns[0]);

	_Static_assert(sizeof(insns) / sizeof(insns[0]) <= MT_TLS_STEER_MAX, "program too long");
	for (size_t i = 0; i < n; i++) {
		prog[i] = insns[i];
	}
	return n;
}

static int steer(int fd, unsigned workers)
{
	struct sock_filter insns[MT_TLS_STEER_MAX];
	struct sock_fprog prog = {
		.len = (unsigned short)mt_tls_steer_program(insns, workers), .filter = insns};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) == 0
		       ? 0
		       : -errno;
}

static int set(int fd, int level, int option)
{
	const int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on)) == 0 ? 0 : -errno;
}

/* A bound socket. Connections of an earlier process that still end do not keep the address. */
static int open_socket(int *out, const struct mt_addr *addr, bool shared)
{
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rv = fd < 0 ? -errno : set(fd, SOL_SOCKET, SO_REUSEADDR);

	if (rv == 0 && shared) {
		rv = set(fd, SOL_SOCKET, SO_REUSEPORT);
	}
	if (rv == 0 && addr->sa.sa_family == AF_INET6) {
		rv = set(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	}
	if (rv == 0 && bind(fd, &addr->sa, addr->len) != 0) {
		rv = -errno;
	}
	if (rv == 0) {
		mt_tls_socket_set_options(fd);
		*out = fd;
	} else if (fd >= 0) {
		(void)close(fd); /* nothing was said yet */
	}
	return rv;
}

/* See listen.c: a bind without SO_REUSEPORT tells whether the port is another program's. Only a
 * listen tells it for two that are both bound. */
static int probe(struct mt_addr *addr)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	int fd = -1;
	int rv = open_socket(&fd, addr, false);

	if (rv == 0 && listen(fd, 1) != 0) {
		rv = -errno;
	}
	if (rv == 0 && getsockname(fd, (struct sockaddr *)&local, &len) != 0) {
		rv = -errno;
	}
	if (rv == 0) {
		rv = mt_addr_from_sockaddr(addr, (const struct sockaddr *)&local, len);
	}
	if (fd >= 0) {
		(void)close(fd); /* nobody was accepted */
	}
	return rv;
}

int mt_tls_listen_probe(const struct mt_addr *addr)
{
	struct mt_addr copy = *addr;

	return probe(&copy);
}

static bool overlaps_own(const struct mt_tls_listen_request *r, const struct mt_addr *addr)
{
	for (size_t i = 0; i < r->own_count; i++) {
		if (r->own[i].sa.sa_family == addr->sa.sa_family &&
			mt_addr_port(&r->own[i]) == mt_addr_port(addr) &&
			(mt_addr_is_any(&r->own[i]) || mt_addr_is_any(addr))) {
			return true;
		}
	}
	return false;
}

static int open_group(
	struct mt_tls_listen *l, size_t column, const struct mt_tls_listen_request *request)
{
	struct mt_addr addr = request->addrs[column];
	int rv = overlaps_own(request, &addr) ? 0 : probe(&addr);

	for (size_t w = 0; rv == 0 && w < l->workers; w++) {
		int *fd = &l->fds[w * l->addr_count + column];

		rv = open_socket(fd, &addr, true);
		if (rv == 0 && listen(*fd, MT_TLS_BACKLOG) != 0) {
			rv = -errno;
		}
	}
	if (rv == 0) {
		rv = steer(l->fds[column], (unsigned)l->workers);
	}
	if (rv == 0) {
		l->addrs[column] = addr;
		l->wanted[column] = request->addrs[column];
	}
	return rv;
}

static void explain(
	int err, const struct mt_addr *addr, char *why, size_t why_cap, char *next, size_t next_cap)
{
	char text[MT_ADDR_TEXT_MAX];

	(void)mt_addr_format(addr, text, sizeof(text));
	/* Texts for people: cut when they do not fit. */
	(void)snprintf(why, why_cap, "cannot listen on TCP %s: %s", text, mt_strerror(err));
	if (err == -EADDRINUSE) {
		(void)snprintf(next, next_cap,
			"find the program that has the port (ss -tlpn), or choose another one for "
			"TLS: mytunnelctl set tcp.bind_addr 0.0.0.0:8443");
	} else {
		(void)snprintf(next, next_cap,
			"mytunnelctl set tcp.bind_addr ADDRESS:PORT, or tcp.enabled off");
	}
}

int mt_tls_listen_open(struct mt_tls_listen *out, const struct mt_tls_listen_request *request,
	char *why, size_t why_cap, char *next, size_t next_cap)
{
	struct mt_tls_listen l = {.workers = request->workers, .addr_count = request->count};
	int rv = 0;

	l.fds = calloc(l.workers * l.addr_count, sizeof(*l.fds));
	if (l.fds == NULL) {
		(void)snprintf(why, why_cap, "out of memory");
		next[0] = '\0';
		return -ENOMEM;
	}
	for (size_t i = 0; i < l.workers * l.addr_count; i++) {
		l.fds[i] = -1;
	}
	for (size_t i = 0; rv == 0 && i < l.addr_count; i++) {
		rv = open_group(&l, i, request);
		if (rv != 0) {
			explain(rv, &request->addrs[i], why, why_cap, next, next_cap);
		}
	}
	if (rv != 0) {
		mt_tls_listen_close(&l);
		return rv;
	}
	*out = l;
	return 0;
}

void mt_tls_listen_close(struct mt_tls_listen *l)
{
	for (size_t i = 0; l->fds != NULL && i < l->workers * l->addr_count; i++) {
		if (l->fds[i] >= 0) {
			(void)close(l->fds[i]); /* who waited there is reset */
		}
	}
	free(l->fds);
	l->fds = NULL;
	l->workers = 0;
	l->addr_count = 0;
}
