#include "client/udp_assoc.h"

#include "client/socks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READS_A_TURN   64 /* before other sockets get their share */
#define RECEIVE_BUFFER (4 * 1024 * 1024)

struct mt_udp_assoc {
	struct mt_poll_item item; /* first */
	struct mt_udp_session session;
	struct mt_udp_reader reader;
	struct mt_addr owner; /* its address; its port once `locked` */
	bool locked; /* one port only: that of the request, or else that of the first datagram */
};

/* The datagram in the relay's buffer is from the association's owner: into the tunnel with it. */
static void forward(struct mt_udp_assoc *assoc, const uint8_t *data, size_t len)
{
	struct mt_socks_target target;
	size_t payload;

	/* Fragments of SOCKS5 are among what is refused here (RFC 1928, section 7). */
	if (mt_socks_udp_decode(&target, &payload, data, len) < 0) {
		mt_udp_relay_stats(assoc->session.relay)->dropped_malformed++;
		return;
	}
	mt_udp_session_send(&assoc->session, target.host, target.host_len, target.port,
		data + payload, len - payload);
}

static bool is_owner(struct mt_udp_assoc *assoc, const struct mt_addr *from)
{
	if (assoc->locked) {
		return mt_addr_equal(from, &assoc->owner);
	}
	if (!mt_addr_equal_host(from, &assoc->owner)) {
		return false;
	}
	assoc->owner = *from;
	assoc->locked = true;
	return true;
}

/* False when nothing is left. */
static bool read_one(struct mt_udp_assoc *assoc)
{
	struct mt_udp_relay *relay = assoc->session.relay;
	uint8_t *buffer = mt_udp_relay_buffer(relay);
	struct sockaddr_storage name;
	socklen_t name_len = sizeof(name);
	struct mt_addr from;
	ssize_t n = recvfrom(
		assoc->item.fd, buffer, MT_UDP_READ_BYTES, 0, (struct sockaddr *)&name, &name_len);

	if (n < 0) {
		/* Anything else is an ICMP error of an earlier answer, taken away by this call. */
		return errno != EAGAIN && errno != EWOULDBLOCK;
	}
	if (mt_addr_from_sockaddr(&from, (struct sockaddr *)&name, name_len) < 0 ||
		!is_owner(assoc, &from)) {
		mt_udp_relay_stats(relay)->dropped_foreign++;
		return true;
	}
	forward(assoc, buffer, (size_t)n);
	return true;
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_udp_assoc *assoc = (struct mt_udp_assoc *)item;
	struct mt_udp_relay *relay = assoc->session.relay;

	if ((events & MT_POLL_IN) == 0 || assoc->reader.waiting) {
		return;
	}
	for (int i = 0; i < READS_A_TURN; i++) {
		if (!read_one(assoc)) {
			return;
		}
		if (!mt_udp_relay_go_on(relay, &assoc->reader)) {
			return;
		}
	}
	mt_poller_defer(mt_udp_relay_poller(relay), item, MT_POLL_IN);
}

static void on_answer(struct mt_udp_session *s, const struct mt_datagram *answer)
{
	struct mt_udp_assoc *assoc =
		(struct mt_udp_assoc *)((char *)s - offsetof(struct mt_udp_assoc, session));
	struct mt_udp_relay_stats *stats = mt_udp_relay_stats(s->relay);
	uint8_t header[MT_SOCKS_UDP_HEADER_MAX];
	size_t header_len = mt_socks_udp_header_encode(
		header, sizeof(header), answer->host, answer->host_len, answer->port);
	struct iovec iov[2] = {
		{.iov_base = header, .iov_len = header_len},
		{.iov_base = (void *)(uintptr_t)answer->payload, .iov_len = answer->payload_len},
	};
	struct msghdr msg = {
		.msg_name = &assoc->owner.sa,
		.msg_namelen = assoc->owner.len,
		.msg_iov = iov,
		.msg_iovlen = 2,
	};

	if (header_len > 0 && assoc->locked &&
		sendmsg(assoc->item.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		stats->received++;
	} else {
		stats->dropped_unknown++;
	}
}

static int get_name(int fd, int (*get)(int, struct sockaddr *, socklen_t *), struct mt_addr *out)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);

	if (get(fd, (struct sockaddr *)&name, &len) < 0) {
		return -errno;
	}
	return mt_addr_from_sockaddr(out, (struct sockaddr *)&name, len);
}

static int local_name(int fd, struct sockaddr *name, socklen_t *len)
{
	return getsockname(fd, name, len);
}

static int peer_name(int fd, struct sockaddr *name, socklen_t *len)
{
	return getpeername(fd, name, len);
}

static int open_socket(int tcp_fd, int *out, struct mt_addr *bound)
{
	const int buffer = RECEIVE_BUFFER;
	struct mt_addr local;
	int fd;
	int err = get_name(tcp_fd, local_name, &local);

	if (err < 0) {
		return err;
	}
	mt_addr_set_port(&local, 0);
	fd = socket(local.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	/* Less than asked for is no error: bursts are then lost sooner. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	if (bind(fd, &local.sa, local.len) < 0) {
		err = -errno;
	} else {
		err = get_name(fd, local_name, bound);
	}
	if (err < 0) {
		(void)close(fd); /* nothing was written */
		return err;
	}
	*out = fd;
	return 0;
}

/* RFC 1928, section 4: where the application says that its datagrams will come from. Zeros, and
 * what the socket cannot receive from, say nothing.
 */
static void take_request(struct mt_udp_assoc *assoc, const struct mt_socks_target *from)
{
	struct mt_addr said;
	enum mt_host_kind kind;

	if (mt_host_parse(&kind, &said, from->host, from->host_len, 0) == 0 &&
		kind != MT_HOST_NAME && !mt_addr_is_any(&said) &&
		said.sa.sa_family == assoc->owner.sa.sa_family) {
		assoc->owner = said;
	}
	mt_addr_set_port(&assoc->owner, from->port);
	assoc->locked = from->port != 0;
}

int mt_udp_assoc_open(struct mt_udp_assoc **out, struct mt_udp_relay *relay, int fd,
	const struct mt_socks_target *from, struct mt_addr *bound)
{
	struct mt_udp_assoc *assoc = calloc(1, sizeof(*assoc));
	struct mt_addr address;
	int udp_fd = -1;
	int err;

	if (assoc == NULL) {
		return -ENOMEM;
	}
	assoc->session.on_answer = on_answer;
	assoc->reader.item = &assoc->item;
	err = get_name(fd, peer_name, &assoc->owner);
	if (err == 0) {
		take_request(assoc, from);
		err = open_socket(fd, &udp_fd, &address);
	}
	if (err == 0) {
		err = mt_udp_session_open(&assoc->session, relay);
	}
	if (err < 0) {
		goto out;
	}
	err = mt_poller_add(mt_udp_relay_poller(relay), &assoc->item, udp_fd, on_ready);
	if (err < 0) {
		mt_udp_session_close(&assoc->session);
		goto out;
	}
	*bound = address;
	*out = assoc;
	return 0;
out:
	if (udp_fd >= 0) {
		(void)close(udp_fd); /* nothing was written */
	}
	free(assoc);
	return err;
}

void mt_udp_assoc_close(struct mt_udp_assoc *assoc)
{
	if (assoc == NULL) {
		return;
	}
	mt_udp_relay_forget_reader(assoc->session.relay, &assoc->reader);
	mt_poller_close(mt_udp_relay_poller(assoc->session.relay), &assoc->item);
	mt_udp_session_close(&assoc->session);
	free(assoc);
}
