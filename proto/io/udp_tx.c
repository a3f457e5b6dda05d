#include "proto/io/udp.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Batches lie one behind the other, so that many small ones (acknowledgements to many peers) share
 * one sendmmsg. */
#define ARENA_BYTES  ((size_t)8 * MT_TX_BATCH_BYTES)
#define BATCHES_MAX  256
#define ALIGNMENT    64
#define MESSAGES_MAX 64
#define SEGMENTS_MAX 64 /* UDP_MAX_SEGMENTS of kernels before 6.9 */
#define BATCH_MAX    65473
#define TX_CONTROL                                                                                 \
	(CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) +                        \
		CMSG_SPACE(sizeof(uint16_t)))

/* What one commit brought; `off` to `end` of the arena is still to be sent. */
struct batch {
	struct mt_udp_socket *socket;
	struct mt_path path;
	size_t off;
	size_t end;
	size_t segment;
	unsigned ecn;
};

struct mt_udp_tx {
	struct batch batches[BATCHES_MAX];
	size_t count;
	size_t used; /* bytes of the arena */
	uint8_t *arena;
	struct mt_udp_tx_stats stats;

	/* scratch of one sendmmsg */
	struct mmsghdr msgs[MESSAGES_MAX];
	struct iovec iov[MESSAGES_MAX];
	struct batch *owner[MESSAGES_MAX];
	alignas(struct cmsghdr) uint8_t control[MESSAGES_MAX][TX_CONTROL];
};

struct mt_udp_tx *mt_udp_tx_new(void)
{
	struct mt_udp_tx *tx = calloc(1, sizeof(*tx));

	if (tx == NULL) {
		return NULL;
	}
	tx->arena = malloc(ARENA_BYTES);
	if (tx->arena == NULL) {
		free(tx);
		return NULL;
	}
	return tx;
}

void mt_udp_tx_free(struct mt_udp_tx *tx)
{
	if (tx != NULL) {
		free(tx->arena);
		free(tx);
	}
}

const struct mt_udp_tx_stats *mt_udp_tx_stats(const struct mt_udp_tx *tx)
{
	return &tx->stats;
}

static size_t align_up(size_t n)
{
	return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static bool has_room(const struct mt_udp_tx *tx)
{
	return tx->count < BATCHES_MAX && tx->used + MT_TX_BATCH_BYTES <= ARENA_BYTES;
}

/* Forgets what has been sent and moves the rest, which only a blocked socket leaves, to the front.
 */
static void compact(struct mt_udp_tx *tx)
{
	size_t kept = 0;
	size_t used = 0;

	for (size_t i = 0; i < tx->count; i++) {
		struct batch *b = &tx->batches[i];
		size_t len = b->end - b->off;

		if (len == 0) {
			continue;
		}
		if (b->off != used) {
			memmove(tx->arena + used, tx->arena + b->off, len);
		}
		b->off = used;
		b->end = used + len;
		used = align_up(b->end);
		if (kept != i) {
			tx->batches[kept] = *b;
		}
		kept++;
	}
	tx->count = kept;
	tx->used = used;
}

uint8_t *mt_udp_tx_reserve(void *user)
{
	struct mt_udp_tx *tx = user;

	if (!has_room(tx)) {
		int err = mt_udp_tx_flush(tx);

		if (err != 0) {
			compact(tx);
		}
		if (!has_room(tx)) {
			return NULL;
		}
	}
	return tx->arena + tx->used;
}

void mt_udp_tx_commit(
	void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	struct mt_udp_tx *tx = user;
	struct mt_udp_socket *s = path->socket;
	struct batch *b;

	assert(len <= MT_TX_BATCH_BYTES && has_room(tx));
	if (len == 0) {
		return;
	}
	if (s == NULL || s->fd < 0) {
		tx->stats.dropped++;
		return;
	}
	b = &tx->batches[tx->count++];
	b->socket = s;
	b->path = *path;
	b->off = tx->used;
	b->end = tx->used + len;
	b->segment = segment == 0 || segment > len ? len : segment;
	b->ecn = ecn;
	tx->used = align_up(b->end);
}

static void *put_control(struct msghdr *msg, int level, int type, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)msg->msg_control + msg->msg_controllen);

	memset(c, 0, CMSG_SPACE(len));
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	msg->msg_controllen += CMSG_SPACE(len);
	return CMSG_DATA(c);
}

static void put_source(struct msghdr *msg, const struct mt_addr *local)
{
	if (local->sa.sa_family == AF_INET6) {
		struct in6_pktinfo info = {
			.ipi6_addr = local->v6.sin6_addr, .ipi6_ifindex = local->v6.sin6_scope_id};

		memcpy(put_control(msg, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(info)), &info,
			sizeof(info));
	} else {
		struct in_pktinfo info = {.ipi_spec_dst = local->v4.sin_addr};

		memcpy(put_control(msg, IPPROTO_IP, IP_PKTINFO, sizeof(info)), &info, sizeof(info));
	}
}

/* One message: as many packets of `b` from `off` on as one send may carry. Returns its bytes. */
static size_t fill_message(struct mt_udp_tx *tx, size_t slot, struct batch *b, size_t off)
{
	struct msghdr *msg = &tx->msgs[slot].msg_hdr;
	size_t len = b->end - off;
	size_t max = b->segment;

	if (b->socket->gso && b->segment <= BATCH_MAX) {
		size_t packets = BATCH_MAX / b->segment;

		max *= packets < SEGMENTS_MAX ? packets : SEGMENTS_MAX;
	}
	len = len < max ? len : max;
	tx->owner[slot] = b;
	tx->iov[slot] = (struct iovec){.iov_base = tx->arena + off, .iov_len = len};
	*msg = (struct msghdr){
		.msg_name = &b->path.remote.sa,
		.msg_namelen = b->path.remote.len,
		.msg_iov = &tx->iov[slot],
		.msg_iovlen = 1,
		.msg_control = tx->control[slot],
		.msg_controllen = 0,
	};
	if (b->socket->wildcard && b->path.local.len != 0) {
		put_source(msg, &b->path.local);
	}
	if (b->ecn != 0) {
		int tos = (int)b->ecn;
		bool v6 = b->path.remote.sa.sa_family == AF_INET6;

		memcpy(put_control(msg, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS,
			       sizeof(tos)),
			&tos, sizeof(tos));
	}
	if (len > b->segment) {
		uint16_t size = (uint16_t)b->segment;

		memcpy(put_control(msg, IPPROTO_UDP, UDP_SEGMENT, sizeof(size)), &size,
			sizeof(size));
	}
	if (msg->msg_controllen == 0) {
		msg->msg_control = NULL;
	}
	return len;
}

/* Builds messages from the batches of one socket from index `first` on; returns how many. */
static size_t fill_messages(struct mt_udp_tx *tx, size_t first)
{
	const struct mt_udp_socket *s = tx->batches[first].socket;
	size_t n = 0;

	for (size_t i = first; i < tx->count && tx->batches[i].socket == s; i++) {
		struct batch *b = &tx->batches[i];

		for (size_t off = b->off; off < b->end && n < MESSAGES_MAX; n++) {
			off += fill_message(tx, n, b, off);
		}
		if (n == MESSAGES_MAX) {
			break;
		}
	}
	return n;
}

static int send_messages(struct mt_udp_tx *tx, const struct mt_udp_socket *s, size_t count)
{
	int n;

	do {
		tx->stats.calls++;
		n = sendmmsg(s->fd, tx->msgs, (unsigned)count, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	for (int i = 0; i < n; i++) {
		tx->owner[i]->off += tx->iov[i].iov_len;
	}
	tx->stats.messages += (uint64_t)n;
	return n;
}

/* The kernel refused a message with UDP_SEGMENT. EIO means the device cannot; EINVAL may also mean
 * this path (MTU, vanished source address): then a single packet tells. Returns an error of that
 * packet, 0 when it went out.
 */
static int fall_back(struct mt_udp_tx *tx, struct mt_udp_socket *s, size_t first, int err)
{
	int n;

	s->gso = false;
	tx->stats.gso_fallbacks++;
	if (err == -EIO) {
		return 0; /* the next round sends singly */
	}
	(void)fill_message(tx, 0, &tx->batches[first], tx->batches[first].off);
	n = send_messages(tx, s, 1);
	if (n < 0) {
		s->gso = true;
		return n;
	}
	return 0;
}

/* Sends the batches of one socket that follow each other from index `first` on, until they are out
 * or it is full. */
static bool send_run(struct mt_udp_tx *tx, size_t first)
{
	struct batch *b = &tx->batches[first];
	struct mt_udp_socket *s = b->socket;
	size_t count = fill_messages(tx, first);
	int n = send_messages(tx, s, count);

	if (n < 0 && (n == -EIO || n == -EINVAL) && tx->iov[0].iov_len > b->segment) {
		n = fall_back(tx, s, first, n);
	}
	if (n >= 0) {
		return true;
	}
	if (n == -EAGAIN) {
		return false;
	}
	/* QUIC sees a loss. A packet that is too large (a probe for a larger MTU) says nothing
	 * about those behind it, any other refusal holds for the whole batch.
	 */
	tx->stats.dropped++;
	b->off = n == -EMSGSIZE && b->end - b->off > b->segment ? b->off + b->segment : b->end;
	return true;
}

int mt_udp_tx_flush(struct mt_udp_tx *tx)
{
	bool blocked = false;

	for (size_t i = 0; i < tx->count; i++) {
		tx->batches[i].socket->blocked = false;
	}
	for (size_t i = 0; i < tx->count;) {
		struct batch *b = &tx->batches[i];

		if (b->off == b->end || b->socket->blocked) {
			i++;
		} else if (!send_run(tx, i)) {
			b->socket->blocked = true;
			tx->stats.blocked++;
			blocked = true;
		}
	}
	if (blocked) {
		return MT_E_AGAIN;
	}
	tx->count = 0;
	tx->used = 0;
	return 0;
}

void mt_udp_tx_forget(struct mt_udp_tx *tx, const struct mt_udp_socket *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < tx->count; i++) {
		if (tx->batches[i].socket != s) {
			tx->batches[kept++] = tx->batches[i];
		}
	}
	tx->count = kept;
	if (kept == 0) {
		tx->used = 0;
	}
}
