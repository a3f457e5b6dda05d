#include "proto/io/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_BUFFER_BYTES (4u * 1024 * 1024)

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* Beyond net.core.?mem_max only with CAP_NET_ADMIN; a smaller buffer costs speed, nothing else. */
static void set_buffer(int fd, int forced, int plain, size_t bytes)
{
	int value = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;

	if (set_int(fd, SOL_SOCKET, forced, value) != 0) {
		(void)set_int(fd, SOL_SOCKET, plain, value); /* less than asked for is no error */
	}
}

static int set_up_v4(int fd, bool packet_info)
{
	/* DF on every packet, and no trust in ICMP: ngtcp2 finds the path MTU by itself. */
	int err = set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);

	if (err == 0) {
		err = set_int(fd, IPPROTO_IP, IP_RECVTOS, 1);
	}
	if (err == 0 && packet_info) {
		err = set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
	}
	return err;
}

static int set_up_v6(int fd, bool packet_info)
{
	int err = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);

	if (err == 0) {
		err = set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
	}
	if (err == 0) {
		err = set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	}
	if (err == 0 && packet_info) {
		err = set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	}
	return err;
}

int mt_udp_open(struct mt_udp_socket *out, const struct mt_addr *bind_to,
	const struct mt_udp_options *options)
{
	struct mt_udp_socket s = {.fd = -1, .local = *bind_to};
	size_t buffer = options->buffer_bytes != 0 ? options->buffer_bytes : DEFAULT_BUFFER_BYTES;
	int err;

	mt_addr_unmap(&s.local);
	s.wildcard = mt_addr_is_any(&s.local) && !options->connect_ok;
	s.fd = socket(s.local.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s.fd < 0) {
		return -errno;
	}
	if (s.local.sa.sa_family == AF_INET6) {
		err = set_up_v6(s.fd, s.wildcard);
	} else {
		err = set_up_v4(s.fd, s.wildcard);
	}
	if (err == 0 && options->reuse_port) {
		err = set_int(s.fd, SOL_SOCKET, SO_REUSEPORT, 1);
	}
	if (err != 0) {
		goto out;
	}
	set_buffer(s.fd, SO_RCVBUFFORCE, SO_RCVBUF, buffer);
	set_buffer(s.fd, SO_SNDBUFFORCE, SO_SNDBUF, buffer);
	(void)set_int(s.fd, IPPROTO_UDP, UDP_GRO, 1); /* an old kernel: one packet a message then */
	s.gso = set_int(s.fd, IPPROTO_UDP, UDP_SEGMENT, 0) == 0;
	if (bind(s.fd, &s.local.sa, s.local.len) != 0) {
		err = -errno;
		goto out;
	}
	s.local.len = sizeof(s.local.v6);
	if (getsockname(s.fd, &s.local.sa, &s.local.len) != 0) {
		err = -errno;
		goto out;
	}
	*out = s;
	return 0;
out:
	mt_udp_close(&s);
	return err;
}

void mt_udp_close(struct mt_udp_socket *s)
{
	if (s->fd >= 0) {
		close(s->fd);
		s->fd = -1;
	}
}
