#include "daemon/relay_io.h"
#include "daemon/drop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OUT_MAX   256
#define OUT_BYTES ((size_t)512 * 1024)
#define IN_BYTES  65536u /* no datagram is larger */
#define NONE      UINT_MAX

struct out_message {
	struct mt_addr to;
	size_t off;
	size_t len;
	unsigned next; /* through the same socket */
};

struct mt_relay_io {
	struct mt_worker_counters *counters;
	struct mt_relay_out *dirty;
	unsigned count;
	size_t bytes;
	struct out_message out[OUT_MAX];
	uint8_t out_data[OUT_BYTES];

	struct mt_relay_in in[MT_RELAY_BATCH];
	struct mmsghdr msgs[MT_RELAY_BATCH];
	struct iovec iov[MT_RELAY_BATCH];
	struct sockaddr_storage from[MT_RELAY_BATCH];
	uint8_t in_data[MT_RELAY_BATCH]
		       [IN_BYTES]; /* pages that no datagram touched are not there */
};

struct mt_relay_io *mt_relay_io_new(struct mt_worker_counters *counters)
{
	struct mt_relay_io *io = calloc(1, sizeof(*io));

	if (io != NULL) {
		io->counters = counters;
	}
	return io;
}

void mt_relay_io_free(struct mt_relay_io *io)
{
	free(io);
}

void mt_relay_io_init(struct mt_relay_out *out, int fd, mt_counter *bytes)
{
	*out = (struct mt_relay_out){.fd = fd, .bytes = bytes, .first = NONE, .last = NONE};
}

void mt_relay_io_send(struct mt_relay_io *io, struct mt_relay_out *out, const struct mt_addr *to,
	const uint8_t *data, size_t len)
{
	struct out_message *m;

	if (len > IN_BYTES) {
		return; /* no caller has so much */
	}
	if (io->count == OUT_MAX || OUT_BYTES - io->bytes < len) {
		mt_relay_io_flush(io);
	}
	m = &io->out[io->count];
	m->to = *to;
	m->off = io->bytes;
	m->len = len;
	m->next = NONE;
	if (len > 0) {
		memcpy(io->out_data + io->bytes, data, len);
	}
	io->bytes += len;
	if (out->count == 0) {
		out->first = io->count;
		out->next = io->dirty;
		io->dirty = out;
	} else {
		io->out[out->last].next = io->count;
	}
	out->last = io->count;
	out->count++;
	io->count++;
}

/* One sendmmsg and what follows from it; returns how many messages are dealt with. */
static unsigned send_some(
	struct mt_relay_io *io, const struct mt_relay_out *out, struct mmsghdr *msgs, unsigned n)
{
	int sent = sendmmsg(out->fd, msgs, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent > 0) {
		mt_count(&io->counters->udp_from_clients, (uint64_t)sent);
		for (int i = 0; i < sent; i++) {
			mt_count(out->bytes, msgs[i].msg_len);
		}
		return (unsigned)sent;
	}
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EBADF) {
		MT_COUNT_DROP(io->counters, udp_dropped_send, n);
		return n;
	}
	/* The first one alone cannot be sent: no route, too long, a firewall. */
	MT_COUNT_DROP(io->counters, udp_dropped_send, 1);
	return 1;
}

static void send_out(struct mt_relay_io *io, struct mt_relay_out *out)
{
	struct mmsghdr msgs[MT_RELAY_BATCH];
	struct iovec iov[MT_RELAY_BATCH];
	unsigned next = out->first;
	unsigned n;
	unsigned done;

	while (next != NONE) {
		memset(msgs, 0, sizeof(msgs));
		for (n = 0; n < MT_RELAY_BATCH && next != NONE; n++) {
			struct out_message *m = &io->out[next];

			iov[n].iov_base = io->out_data + m->off;
			iov[n].iov_len = m->len;
			msgs[n].msg_hdr.msg_name = &m->to.sa;
			msgs[n].msg_hdr.msg_namelen = m->to.len;
			msgs[n].msg_hdr.msg_iov = &iov[n];
			msgs[n].msg_hdr.msg_iovlen = 1;
			next = m->next;
		}
		for (done = 0; done < n;) {
			done += send_some(io, out, msgs + done, n - done);
		}
	}
	mt_relay_io_init(out, out->fd, out->bytes);
}

void mt_relay_io_flush(struct mt_relay_io *io)
{
	struct mt_relay_out *next;

	for (struct mt_relay_out *out = io->dirty; out != NULL; out = next) {
		next = out->next;
		send_out(io, out);
	}
	io->dirty = NULL;
	io->count = 0;
	io->bytes = 0;
}

int mt_relay_io_receive(struct mt_relay_io *io, int fd, size_t max, const struct mt_relay_in **in)
{
	int n;

	max = max < MT_RELAY_BATCH ? max : MT_RELAY_BATCH;
	for (size_t i = 0; i < max; i++) {
		io->iov[i] = (struct iovec){.iov_base = io->in_data[i], .iov_len = IN_BYTES};
		io->msgs[i] = (struct mmsghdr){.msg_hdr = {
						       .msg_name = &io->from[i],
						       .msg_namelen = sizeof(io->from[i]),
						       .msg_iov = &io->iov[i],
						       .msg_iovlen = 1,
					       }};
	}
	do {
		n = recvmmsg(fd, io->msgs, (unsigned)max, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return errno == EAGAIN ? 0 : -errno;
	}
	for (int i = 0; i < n; i++) {
		struct mt_relay_in *to = &io->in[i];

		/* UDP sockets give nothing but internet addresses; anything else has length 0. */
		if (mt_addr_from_sockaddr(&to->from, (const struct sockaddr *)&io->from[i],
			    io->msgs[i].msg_hdr.msg_namelen) < 0) {
			to->from.len = 0;
		}
		to->data = io->in_data[i];
		to->len = io->msgs[i].msg_len;
	}
	*in = io->in;
	return n;
}
