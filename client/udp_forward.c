#include "client/udp_forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define BUCKETS        256
#define READS_A_TURN   64 /* before other sockets get their share */
#define RECEIVE_BUFFER (4 * 1024 * 1024)

/* Somebody who sends to the port. */
struct peer {
	struct mt_udp_session session; /* first */
	LIST_ENTRY(peer) of_bucket;
	TAILQ_ENTRY(peer) by_use;
	struct mt_udp_forward *forward;
	struct mt_addr addr;
	uint64_t used_ms;
};

LIST_HEAD(peer_bucket, peer);
TAILQ_HEAD(peer_list, peer);

struct mt_udp_forward {
	struct mt_poll_item item; /* first */
	struct mt_udp_ticker ticker;
	struct mt_udp_reader reader;
	struct mt_udp_relay *relay;
	char host[sizeof(((struct mt_forward *)NULL)->host)];
	uint16_t port;
	struct peer_bucket buckets[BUCKETS];
	struct peer_list peers; /* the last used one first */
	size_t count;
	uint64_t seed;
};

static struct peer_bucket *bucket_of(struct mt_udp_forward *f, const struct mt_addr *addr)
{
	return &f->buckets[mt_addr_hash(addr, f->seed) % BUCKETS];
}

static void drop(struct peer *p)
{
	struct mt_udp_forward *f = p->forward;

	LIST_REMOVE(p, of_bucket);
	TAILQ_REMOVE(&f->peers, p, by_use);
	f->count--;
	mt_udp_session_close(&p->session);
	free(p);
}

static void use(struct peer *p)
{
	struct mt_udp_forward *f = p->forward;

	p->used_ms = mt_udp_relay_now_ms(f->relay);
	if (p != TAILQ_FIRST(&f->peers)) {
		TAILQ_REMOVE(&f->peers, p, by_use);
		TAILQ_INSERT_HEAD(&f->peers, p, by_use);
	}
}

/* From the target alone: who else knows the server's port is nobody that the peer has asked. */
static void on_answer(struct mt_udp_session *s, const struct mt_datagram *answer)
{
	struct peer *p = (struct peer *)s;
	struct mt_udp_forward *f = p->forward;
	struct mt_udp_relay_stats *stats = mt_udp_relay_stats(f->relay);
	struct iovec iov = {
		.iov_base = (void *)(uintptr_t)answer->payload, .iov_len = answer->payload_len};
	struct msghdr msg = {
		.msg_name = &p->addr.sa,
		.msg_namelen = p->addr.len,
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};

	if (answer->port != f->port || answer->host_len != strlen(f->host) ||
		memcmp(answer->host, f->host, answer->host_len) != 0) {
		stats->dropped_foreign++;
		return;
	}
	use(p);
	if (sendmsg(f->item.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		stats->received++;
	} else {
		stats->dropped_queue++;
	}
}

/* NULL without memory, or room. */
static struct peer *find_peer(struct mt_udp_forward *f, const struct mt_addr *addr)
{
	struct peer *p;

	LIST_FOREACH(p, bucket_of(f, addr), of_bucket)
	{
		if (mt_addr_equal(&p->addr, addr)) {
			return p;
		}
	}
	if (f->count >= MT_UDP_FORWARD_PEERS_MAX) {
		drop(TAILQ_LAST(&f->peers, peer_list));
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL) {
		return NULL;
	}
	p->forward = f;
	p->addr = *addr;
	p->session.on_answer = on_answer;
	if (mt_udp_session_open(&p->session, f->relay) < 0) {
		free(p);
		return NULL;
	}
	LIST_INSERT_HEAD(bucket_of(f, addr), p, of_bucket);
	TAILQ_INSERT_HEAD(&f->peers, p, by_use);
	f->count++;
	return p;
}

/* False when nothing is left. */
static bool read_one(struct mt_udp_forward *f)
{
	uint8_t *buffer = mt_udp_relay_buffer(f->relay);
	struct sockaddr_storage name;
	socklen_t name_len = sizeof(name);
	struct mt_addr from;
	struct peer *p = NULL;
	ssize_t n = recvfrom(
		f->item.fd, buffer, MT_UDP_READ_BYTES, 0, (struct sockaddr *)&name, &name_len);

	if (n < 0) {
		/* Anything else is an ICMP error of an earlier answer, taken away by this call. */
		return errno != EAGAIN && errno != EWOULDBLOCK;
	}
	if (mt_addr_from_sockaddr(&from, (struct sockaddr *)&name, name_len) == 0) {
		p = find_peer(f, &from);
	}
	if (p == NULL) {
		mt_udp_relay_stats(f->relay)->dropped_queue++;
		return true;
	}
	use(p);
	mt_udp_session_send(&p->session, f->host, strlen(f->host), f->port, buffer, (size_t)n);
	return true;
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_udp_forward *f = (struct mt_udp_forward *)item;

	if ((events & MT_POLL_IN) == 0 || f->reader.waiting) {
		return;
	}
	for (int i = 0; i < READS_A_TURN; i++) {
		if (!read_one(f)) {
			return;
		}
		if (!mt_udp_relay_go_on(f->relay, &f->reader)) {
			return;
		}
	}
	mt_poller_defer(mt_udp_relay_poller(f->relay), item, MT_POLL_IN);
}

static void on_tick(struct mt_udp_ticker *ticker)
{
	struct mt_udp_forward *f =
		(struct mt_udp_forward *)((char *)ticker - offsetof(struct mt_udp_forward, ticker));
	struct peer *oldest;

	while ((oldest = TAILQ_LAST(&f->peers, peer_list)) != NULL &&
		mt_udp_relay_now_ms(f->relay) - oldest->used_ms >= MT_UDP_FORWARD_IDLE_MS) {
		drop(oldest);
	}
}

static int open_socket(const struct mt_addr *bind_to, int *out, struct mt_addr *bound)
{
	const int buffer = RECEIVE_BUFFER;
	const int on = 1;
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int fd = socket(bind_to->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0) {
		return -errno;
	}
	/* Less than asked for is no error: bursts are then lost sooner. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	if ((bind_to->sa.sa_family == AF_INET6 &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
		bind(fd, &bind_to->sa, bind_to->len) < 0 ||
		getsockname(fd, (struct sockaddr *)&name, &len) < 0) {
		err = -errno;
	} else {
		err = mt_addr_from_sockaddr(bound, (struct sockaddr *)&name, len);
	}
	if (err < 0) {
		(void)close(fd); /* nothing was written */
		return err;
	}
	*out = fd;
	return 0;
}

int mt_udp_forward_open(struct mt_udp_forward **out, struct mt_udp_relay *relay,
	const struct mt_forward *forward, struct mt_addr *bound)
{
	struct mt_udp_forward *f = calloc(1, sizeof(*f));
	struct mt_addr address;
	int fd = -1;
	int err;

	if (f == NULL) {
		return -ENOMEM;
	}
	f->relay = relay;
	f->reader.item = &f->item;
	memcpy(f->host, forward->host, sizeof(f->host));
	f->port = forward->port;
	TAILQ_INIT(&f->peers);
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_INIT(&f->buckets[i]);
	}
	if (getrandom(&f->seed, sizeof(f->seed), GRND_NONBLOCK) < 0) {
		f->seed = (uintptr_t)f; /* only chance is needed, not secrecy */
	}
	err = open_socket(&forward->bind, &fd, &address);
	if (err == 0) {
		err = mt_poller_add(mt_udp_relay_poller(relay), &f->item, fd, on_ready);
	}
	if (err < 0) {
		if (fd >= 0) {
			(void)close(fd); /* nothing was written */
		}
		free(f);
		return err;
	}
	f->ticker.on_tick = on_tick;
	mt_udp_relay_add_ticker(relay, &f->ticker);
	*bound = address;
	*out = f;
	return 0;
}

void mt_udp_forward_close(struct mt_udp_forward *f)
{
	if (f == NULL) {
		return;
	}
	while (f->count > 0) {
		drop(TAILQ_FIRST(&f->peers));
	}
	LIST_REMOVE(&f->ticker, of_relay);
	mt_udp_relay_forget_reader(f->relay, &f->reader);
	mt_poller_close(mt_udp_relay_poller(f->relay), &f->item);
	free(f);
}
