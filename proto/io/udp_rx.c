#include "proto/io/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* With UDP_GRO one message holds up to 64 packets of a sender, so a batch is up to 1 MiB. The
 * memory is touched only as far as batches really get.
 */
#define RX_MESSAGES MT_UDP_RX_MESSAGES
#define RX_BUFFER   65536
#define RX_CONTROL  (CMSG_SPACE(sizeof(int)) * 2 + CMSG_SPACE(sizeof(struct in6_pktinfo)))
#define ECN_MASK    0x03

struct mt_udp_rx {
	struct mmsghdr msgs[RX_MESSAGES];
	struct iovec iov[RX_MESSAGES];
	struct mt_addr remote[RX_MESSAGES];
	alignas(struct cmsghdr) uint8_t control[RX_MESSAGES][RX_CONTROL];
	uint8_t *buffers;
	unsigned most;
	void (*ahead)(void *user, const uint8_t *data, size_t len);
	void *ahead_user;
};

/* What the control messages of one message say. */
struct rx_info {
	unsigned ecn;
	size_t segment;
};

struct mt_udp_rx *mt_udp_rx_new(void)
{
	struct mt_udp_rx *rx = calloc(1, sizeof(*rx));

	if (rx == NULL) {
		return NULL;
	}
	rx->most = RX_MESSAGES;
	rx->buffers = malloc((size_t)RX_MESSAGES * RX_BUFFER);
	if (rx->buffers == NULL) {
		free(rx);
		return NULL;
	}
	for (size_t i = 0; i < RX_MESSAGES; i++) {
		rx->iov[i].iov_base = rx->buffers + i * RX_BUFFER;
		rx->iov[i].iov_len = RX_BUFFER;
		rx->msgs[i].msg_hdr.msg_iov = &rx->iov[i];
		rx->msgs[i].msg_hdr.msg_iovlen = 1;
		rx->msgs[i].msg_hdr.msg_name = &rx->remote[i].sa;
		rx->msgs[i].msg_hdr.msg_control = rx->control[i];
		rx->msgs[i].msg_hdr.msg_namelen = sizeof(rx->remote[i].v6);
		rx->msgs[i].msg_hdr.msg_controllen = RX_CONTROL;
	}
	return rx;
}

void mt_udp_rx_free(struct mt_udp_rx *rx)
{
	if (rx != NULL) {
		free(rx->buffers);
		free(rx);
	}
}

void mt_udp_rx_set_ahead(
	struct mt_udp_rx *rx, void (*fn)(void *user, const uint8_t *data, size_t len), void *user)
{
	rx->ahead = fn;
	rx->ahead_user = user;
}

void mt_udp_rx_set_most(struct mt_udp_rx *rx, unsigned messages)
{
	rx->most = messages < RX_MESSAGES ? messages : RX_MESSAGES;
}

static void read_int(const struct cmsghdr *cmsg, int *out)
{
	if (cmsg->cmsg_len >= CMSG_LEN(sizeof(*out))) {
		memcpy(out, CMSG_DATA(cmsg), sizeof(*out));
	}
}

static void local_from_v4(struct mt_addr *local, const struct cmsghdr *cmsg)
{
	struct in_pktinfo info;

	memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
	local->v4.sin_addr = info.ipi_spec_dst;
}

static void local_from_v6(struct mt_addr *local, const struct cmsghdr *cmsg)
{
	struct in6_pktinfo info;

	memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
	local->v6.sin6_addr = info.ipi6_addr;
	if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) {
		local->v6.sin6_scope_id = info.ipi6_ifindex;
	}
}

static void read_control(struct msghdr *msg, struct rx_info *info, struct mt_addr *local)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		int value = 0;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			/* a single byte here, whatever is used for sending */
			info->ecn = *CMSG_DATA(c) & ECN_MASK;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			read_int(c, &value);
			info->ecn = (unsigned)value & ECN_MASK;
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			read_int(c, &value);
			info->segment = value > 0 ? (size_t)value : 0;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			local_from_v4(local, c);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			local_from_v6(local, c);
		}
	}
}

int mt_udp_receive(struct mt_udp_rx *rx, struct mt_udp_socket *s,
	void (*fn)(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
		size_t len, size_t segment),
	void *user)
{
	int n;

	do {
		n = recvmmsg(s->fd, rx->msgs, rx->most, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	}
	for (int i = 0; i < n && n > 1 && rx->ahead != NULL; i++) {
		rx->ahead(rx->ahead_user, rx->iov[i].iov_base, rx->msgs[i].msg_len);
	}
	for (int i = 0; i < n; i++) {
		struct msghdr *msg = &rx->msgs[i].msg_hdr;
		struct mt_path path = {.local = s->local, .remote = rx->remote[i], .socket = s};
		struct rx_info info = {.ecn = 0, .segment = 0};

		path.remote.len = msg->msg_namelen;
		read_control(msg, &info, &path.local);
		if ((msg->msg_flags & MSG_TRUNC) == 0) {
			fn(user, &path, info.ecn, rx->iov[i].iov_base, rx->msgs[i].msg_len,
				info.segment < rx->msgs[i].msg_len ? info.segment : 0);
		}
		msg->msg_namelen = sizeof(rx->remote[i].v6);
		msg->msg_controllen = RX_CONTROL;
		msg->msg_flags = 0;
	}
	return n;
}
