#include "daemon/listen.h"

#include "daemon/tls_listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A port has to be free for TCP too, where thousands may be in use or just have been. */
#define PORT_TRIES 100

/* A socket of our own user with SO_REUSEPORT would silently join a group that another daemon has on
 * the same port, and take its packets. A bind without SO_REUSEPORT fails then; it also picks a port
 * that nobody has.
 */
static int probe(struct mt_addr *addr)
{
	struct mt_udp_options options = {.reuse_port = false};
	struct mt_udp_socket s;
	int rv = mt_udp_open(&s, addr, &options);

	if (rv != 0) {
		return rv;
	}
	*addr = s.local;
	mt_udp_close(&s);
	return 0;
}

/* A wildcard and an address below it, or the other way round: the probe would find ourselves,
 * though they are groups of their own for the kernel.
 */
static bool overlaps_own(const struct mt_listen_request *r, const struct mt_addr *addr)
{
	for (size_t i = 0; i < r->own_count; i++) {
		const struct mt_addr *own = &r->own[i];

		if (own->sa.sa_family == addr->sa.sa_family &&
			mt_addr_port(own) == mt_addr_port(addr) && !mt_addr_equal(own, addr) &&
			(mt_addr_is_any(own) || mt_addr_is_any(addr))) {
			return true;
		}
	}
	return false;
}

static int open_group(struct mt_listen *l, size_t column, const struct mt_addr *wanted,
	const struct mt_listen_request *request)
{
	struct mt_udp_options options = {.reuse_port = true};
	struct mt_addr addr = *wanted;
	int rv = overlaps_own(request, &addr) ? 0 : probe(&addr);

	if (rv == 0 && request->tcp_too && mt_addr_port(wanted) == 0) {
		rv = mt_tls_listen_probe(&addr);
	}
	for (size_t w = 0; rv == 0 && w < l->workers; w++) {
		struct mt_udp_socket *s = &l->sockets[w * l->addr_count + column];

		rv = mt_udp_open(s, &addr, &options);
		if (rv != 0) {
			s->fd = -1;
		}
	}
	if (rv == 0) {
		rv = mt_udp_steer(&l->sockets[column], (uint8_t)l->workers, request->tag);
	}
	if (rv == 0) {
		l->addrs[column] = addr;
		l->wanted[column] = *wanted;
		return 0;
	}
	for (size_t w = 0; w < l->workers; w++) {
		mt_udp_close(&l->sockets[w * l->addr_count + column]);
	}
	return rv;
}

static void explain(
	int err, const struct mt_addr *addr, char *why, size_t why_cap, char *next, size_t next_cap)
{
	char text[MT_ADDR_TEXT_MAX];

	(void)mt_addr_format(addr, text, sizeof(text));
	/* Texts for people: cut when they do not fit. */
	(void)snprintf(why, why_cap, "cannot listen on UDP %s: %s", text, mt_strerror(err));
	if (err == -EACCES || err == -EPERM) {
		(void)snprintf(next, next_cap,
			"give the daemon CAP_NET_BIND_SERVICE, or choose a port above 1023: "
			"mytunnelctl set "
			"server.bind_addr 0.0.0.0:8443");
	} else if (err == -EADDRINUSE) {
		(void)snprintf(next, next_cap,
			"find the program that has the port (ss -ulpn), or choose another port: "
			"mytunnelctl set "
			"server.bind_addr 0.0.0.0:8443");
	} else if (err == -EADDRNOTAVAIL) {
		(void)snprintf(next, next_cap,
			"the host has no such address (ip address): mytunnelctl set "
			"server.bind_addr 0.0.0.0:%u",
			mt_addr_port(addr));
	} else if (err == -EMFILE || err == -ENFILE) {
		(void)snprintf(next, next_cap, "raise the limit of open files (LimitNOFILE=)");
	} else {
		(void)snprintf(next, next_cap, "mytunnelctl set server.bind_addr ADDRESS:PORT");
	}
}

static bool may_skip(int err, const struct mt_addr *addr, size_t others)
{
	return others > 0 && addr->sa.sa_family == AF_INET6 && mt_addr_is_any(addr) &&
	       (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL);
}

/* Removes the last column that did not open, so that each worker's sockets stay next to each other.
 */
static void drop_column(struct mt_listen *l, size_t column)
{
	size_t width = l->addr_count - 1;

	for (size_t w = 0; w < l->workers; w++) {
		for (size_t a = 0, to = 0; a < l->addr_count; a++) {
			if (a != column) {
				l->sockets[w * width + to++] = l->sockets[w * l->addr_count + a];
			}
		}
	}
	l->addr_count = width;
}

int mt_listen_open(struct mt_listen *out, const struct mt_listen_request *request, char *why,
	size_t why_cap, char *next, size_t next_cap)
{
	const struct mt_addr *addrs = request->addrs;
	size_t count = request->count;
	size_t workers = request->workers;
	struct mt_listen l = {.workers = workers, .addr_count = count};
	size_t column = 0;
	int rv = 0;

	if (count == 0 || count > MT_SETTING_ADDRS_MAX || workers == 0) {
		(void)snprintf(why, why_cap, "server.bind_addr names no address");
		(void)snprintf(next, next_cap, "mytunnelctl reset server.bind_addr");
		return MT_E_RANGE;
	}
	l.sockets = calloc(workers * count, sizeof(*l.sockets));
	if (l.sockets == NULL) {
		(void)snprintf(why, why_cap, "out of memory");
		next[0] = '\0';
		return -ENOMEM;
	}
	for (size_t i = 0; i < workers * count; i++) {
		l.sockets[i].fd = -1;
	}
	for (size_t i = 0; i < count; i++) {
		unsigned tries = mt_addr_port(&addrs[i]) == 0 ? PORT_TRIES : 1;

		do {
			rv = open_group(&l, column, &addrs[i], request);
		} while (rv == -EADDRINUSE && --tries > 0);
		if (rv == 0) {
			column++;
		} else if (may_skip(rv, &addrs[i], count - 1 + request->kept)) {
			char text[MT_ADDR_TEXT_MAX];

			(void)snprintf(l.notice, sizeof(l.notice), "%s is left out: %s",
				mt_addr_format(&addrs[i], text, sizeof(text)), mt_strerror(rv));
			drop_column(&l, column);
		} else {
			explain(rv, &addrs[i], why, why_cap, next, next_cap);
			mt_listen_close(&l);
			return rv;
		}
	}
	*out = l;
	return 0;
}

void mt_listen_release(struct mt_listen *l, size_t w)
{
	for (size_t a = 0; a < l->addr_count; a++) {
		l->sockets[w * l->addr_count + a].fd = -1;
	}
}

void mt_listen_close(struct mt_listen *l)
{
	for (size_t i = 0; l->sockets != NULL && i < l->workers * l->addr_count; i++) {
		mt_udp_close(&l->sockets[i]);
	}
	free(l->sockets);
	l->sockets = NULL;
	l->workers = 0;
	l->addr_count = 0;
}
