#include "client/udp_assoc.h"

#include "client/socks.h"
#include "client/udp_flows.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define DATAGRAM_MAX   65535
#define READS_A_TURN   64 /* before other sockets get their share */
#define RECEIVE_BUFFER (1024 * 1024)

struct mt_udp_assoc {
	struct mt_poll_item item; /* first */
	TAILQ_ENTRY(mt_udp_assoc) entry;
	struct mt_udp_relay *relay;
	struct mt_addr owner; /* its address; its port once `locked` */
	bool locked;          /* the first datagram's port is the only one from then on */
};

TAILQ_HEAD(assoc_list, mt_udp_assoc);

struct mt_udp_relay {
	uv_loop_t *loop;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	struct mt_udp_flows *flows;
	struct assoc_list assocs; /* the last active one first */
	size_t count;
	struct mt_udp_relay_stats stats;
	uint8_t buffer[DATAGRAM_MAX];
};

struct mt_udp_relay *mt_udp_relay_new(
	uv_loop_t *loop, struct mt_poller *poller, struct mt_uplink *uplink)
{
	struct mt_udp_relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL) {
		return NULL;
	}
	relay->loop = loop;
	relay->poller = poller;
	relay->uplink = uplink;
	TAILQ_INIT(&relay->assocs);
	relay->flows = mt_udp_flows_new();
	if (relay->flows == NULL) {
		free(relay);
		return NULL;
	}
	return relay;
}

void mt_udp_relay_free(struct mt_udp_relay *relay)
{
	if (relay != NULL) {
		mt_udp_flows_free(relay->flows);
		free(relay);
	}
}

/* The datagram in the relay's buffer is from the association's owner: into the tunnel with it. */
static void forward(struct mt_udp_assoc *assoc, size_t len)
{
	struct mt_udp_relay *relay = assoc->relay;
	uint8_t header[MT_DATAGRAM_HEADER_MAX];
	struct mt_socks_target target;
	size_t payload;
	size_t header_len;
	int err;

	if (mt_socks_udp_decode(&target, &payload, relay->buffer, len) < 0) {
		relay->stats.dropped_malformed++;
		return;
	}
	header_len = target.port == 0 ? 0
				      : mt_datagram_header_encode(header, sizeof(header),
						target.port, target.host, target.host_len);
	if (header_len == 0) {
		relay->stats.dropped_malformed++;
		return;
	}
	err = mt_udp_flows_touch(relay->flows, target.host, target.host_len, target.port, assoc,
		uv_now(relay->loop));
	if (err == 0) {
		err = mt_uplink_send_datagram(
			relay->uplink, header, header_len, relay->buffer + payload, len - payload);
	}
	if (err == 0) {
		relay->stats.sent++;
	} else if (err == MT_E_TOO_LONG) {
		relay->stats.dropped_too_long++;
	} else {
		relay->stats.dropped_offline++;
	}
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

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_udp_assoc *assoc = (struct mt_udp_assoc *)item;
	struct mt_udp_relay *relay = assoc->relay;

	if ((events & MT_POLL_IN) == 0) {
		return;
	}
	TAILQ_REMOVE(&relay->assocs, assoc, entry);
	TAILQ_INSERT_HEAD(&relay->assocs, assoc, entry);
	for (int i = 0; i < READS_A_TURN; i++) {
		struct sockaddr_storage name;
		socklen_t name_len = sizeof(name);
		struct mt_addr from;
		ssize_t n = recvfrom(item->fd, relay->buffer, sizeof(relay->buffer), 0,
			(struct sockaddr *)&name, &name_len);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			return;
		}
		if (n < 0) {
			continue; /* an ICMP error of an earlier answer, taken away by this call */
		}
		if (mt_addr_from_sockaddr(&from, (struct sockaddr *)&name, name_len) < 0 ||
			!is_owner(assoc, &from)) {
			relay->stats.dropped_foreign++;
			continue;
		}
		forward(assoc, (size_t)n);
	}
	mt_poller_defer(relay->poller, item, MT_POLL_IN);
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

int mt_udp_assoc_open(
	struct mt_udp_assoc **out, struct mt_udp_relay *relay, int fd, struct mt_addr *bound)
{
	struct mt_udp_assoc *assoc;
	struct mt_addr address;
	int udp_fd = -1;
	int err;

	if (relay->count >= MT_UDP_ASSOCS_MAX) {
		return MT_E_LIMIT;
	}
	assoc = calloc(1, sizeof(*assoc));
	if (assoc == NULL) {
		return -ENOMEM;
	}
	assoc->relay = relay;
	err = get_name(fd, peer_name, &assoc->owner);
	if (err == 0) {
		err = open_socket(fd, &udp_fd, &address);
	}
	if (err == 0) {
		err = mt_poller_add(relay->poller, &assoc->item, udp_fd, on_ready);
	}
	if (err < 0) {
		goto out;
	}
	TAILQ_INSERT_HEAD(&relay->assocs, assoc, entry);
	relay->count++;
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
	struct mt_udp_relay *relay;

	if (assoc == NULL) {
		return;
	}
	relay = assoc->relay;
	mt_poller_close(relay->poller, &assoc->item);
	mt_udp_flows_forget(relay->flows, assoc);
	TAILQ_REMOVE(&relay->assocs, assoc, entry);
	relay->count--;
	free(assoc);
}

void mt_udp_relay_deliver(struct mt_udp_relay *relay, const uint8_t *data, size_t len)
{
	uint8_t header[MT_SOCKS_UDP_HEADER_MAX];
	struct mt_datagram datagram;
	struct mt_udp_assoc *assoc;
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	size_t header_len;

	if (mt_datagram_decode(&datagram, data, len) < 0) {
		relay->stats.dropped_unknown++;
		return;
	}
	/* The server's side of the mapping is a full cone: what nobody asked for goes to the
	 * association that was active last.
	 */
	assoc = mt_udp_flows_find(relay->flows, datagram.host, datagram.host_len, datagram.port);
	if (assoc == NULL) {
		assoc = TAILQ_FIRST(&relay->assocs);
	}
	header_len = mt_socks_udp_header_encode(
		header, sizeof(header), datagram.host, datagram.host_len, datagram.port);
	if (assoc == NULL || !assoc->locked || header_len == 0) {
		relay->stats.dropped_unknown++;
		return;
	}
	iov[0] = (struct iovec){.iov_base = header, .iov_len = header_len};
	iov[1] = (struct iovec){
		.iov_base = (void *)(uintptr_t)datagram.payload, .iov_len = datagram.payload_len};
	msg.msg_name = &assoc->owner.sa;
	msg.msg_namelen = assoc->owner.len;
	if (sendmsg(assoc->item.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		relay->stats.received++;
	} else {
		relay->stats.dropped_unknown++;
	}
}

void mt_udp_relay_tick(struct mt_udp_relay *relay)
{
	mt_udp_flows_expire(relay->flows, uv_now(relay->loop));
}

const struct mt_udp_relay_stats *mt_udp_relay_stats(const struct mt_udp_relay *relay)
{
	return &relay->stats;
}
