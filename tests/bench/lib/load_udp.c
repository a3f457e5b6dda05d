#include "tests/bench/lib/load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH_MAX    64
#define HEADER_BYTES 10 /* SOCKS5's, with an IPv4 address */
#define PACKET_BYTES 2048
#define BUFFER_BYTES (4 << 20)
#define GIVE_UP_MS   100 /* what has not come back by then is lost */
#define TICK_NS      200000
#define STAMP_BYTES  sizeof(struct stamp)

struct stamp {
	uint64_t sent_ns;
	uint64_t number;
};

struct flow {
	struct load *load;
	int control; /* -1 without a proxy */
	int fd;
	size_t head;
	uint8_t packet[PACKET_BYTES]; /* header and pattern, without the stamp */
	uint64_t on_the_way;
};

static void associate(struct flow *f)
{
	struct sockaddr_in to = load_loopback(f->load->target);
	int bytes = BUFFER_BYTES;
	uint8_t request[10], answer[10];

	f->control = -1;
	if (f->load->proxy_count > 0) {
		struct sockaddr_in proxy = load_loopback(f->load->proxies[0]);

		f->control = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (f->control < 0 ||
			connect(f->control, (struct sockaddr *)&proxy, sizeof(proxy)) != 0 ||
			send(f->control, "\5\1\0", 3, MSG_NOSIGNAL) != 3 ||
			recv(f->control, answer, 2, MSG_WAITALL) != 2 ||
			send(f->control, request, load_socks_request(f->load, 3, request),
				MSG_NOSIGNAL) != 10 ||
			recv(f->control, answer, 10, MSG_WAITALL) != 10 || answer[1] != 0 ||
			answer[3] != 1) {
			load_die("the association");
		}
		memcpy(f->packet, (const uint8_t[]){0, 0, 0, 1}, 4);
		memcpy(f->packet + 4, &to.sin_addr, 4);
		memcpy(f->packet + 8, &to.sin_port, 2);
		memcpy(&to.sin_port, answer + 8, 2);
		f->head = HEADER_BYTES;
	}
	f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (f->fd < 0 || connect(f->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		load_die("a UDP socket");
	}
	if (setsockopt(f->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0) {
		(void)setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* or less */
	}
	for (size_t i = STAMP_BYTES; i < f->load->size; i++) {
		f->packet[f->head + i] = (uint8_t)(i * 31 + 7);
	}
}

/* Sends so many; each packet is header, stamp, pattern. */
static void send_some(struct flow *f, uint64_t count)
{
	struct mmsghdr messages[BATCH_MAX];
	struct stamp stamps[BATCH_MAX];
	struct iovec iov[BATCH_MAX][3];
	size_t batch = count < BATCH_MAX ? (size_t)count : BATCH_MAX;
	uint64_t now = load_now_ns();
	int n;

	for (size_t i = 0; i < batch; i++) {
		stamps[i] = (struct stamp){now, f->load->sent + i};
		iov[i][0] = (struct iovec){f->packet, f->head};
		iov[i][1] = (struct iovec){&stamps[i], STAMP_BYTES};
		iov[i][2] = (struct iovec){
			f->packet + f->head + STAMP_BYTES, f->load->size - STAMP_BYTES};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = iov[i], .msg_iovlen = 3};
	}
	n = sendmmsg(f->fd, messages, (unsigned)batch, 0);
	if (n > 0) {
		f->load->sent += (uint64_t)n;
		f->on_the_way += (uint64_t)n;
	}
}

/* Whether it is one of ours, unchanged. */
static bool judge(struct flow *f, const uint8_t *data, size_t len)
{
	size_t size = f->load->size;
	struct stamp stamp;

	if (f->head > 0 && (len < 4 || data[3] != 1)) {
		return false;
	}
	if (len != f->head + size ||
		memcmp(data + f->head + STAMP_BYTES, f->packet + f->head + STAMP_BYTES,
			size - STAMP_BYTES) != 0) {
		return false;
	}
	memcpy(&stamp, data + f->head, STAMP_BYTES);
	load_note_latency(f->load, stamp.sent_ns);
	return true;
}

static void receive(struct flow *f)
{
	static uint8_t buf[BATCH_MAX][PACKET_BYTES];
	struct mmsghdr messages[BATCH_MAX];
	struct iovec iov[BATCH_MAX];
	int n;

	for (size_t i = 0; i < BATCH_MAX; i++) {
		iov[i] = (struct iovec){buf[i], PACKET_BYTES};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	n = recvmmsg(f->fd, messages, BATCH_MAX, 0, NULL);
	for (int i = 0; i < n; i++) {
		if (judge(f, buf[i], messages[i].msg_len)) {
			f->load->units++;
			f->on_the_way -= f->on_the_way > 0;
		} else {
			f->load->failed++;
		}
	}
}

/* Always `window` of them on their way. */
static void keep_window(struct flow *f)
{
	struct pollfd readable = {.fd = f->fd, .events = POLLIN};

	if (f->on_the_way < f->load->window) {
		send_some(f, f->load->window - f->on_the_way);
	}
	if (poll(&readable, 1, GIVE_UP_MS) == 0) {
		f->on_the_way = 0;
	} else {
		receive(f);
	}
}

/* `rate` a second in small portions. Time that this process did not get is not made up for: that
 * would be a burst, and another test. */
static void keep_rate(struct flow *f, uint64_t *due_ns)
{
	const struct timespec tick = {.tv_nsec = TICK_NS};
	struct pollfd readable = {.fd = f->fd, .events = POLLIN};
	uint64_t now = load_now_ns(), step = 1000000000u / f->load->rate, count;

	if (now > *due_ns + BATCH_MAX / 2 * step) {
		*due_ns = now - BATCH_MAX / 2 * step;
	}
	count = now > *due_ns ? (now - *due_ns) / step : 0;
	if (count > 0) {
		send_some(f, count);
		*due_ns += count * step;
	}
	if (ppoll(&readable, 1, &tick, NULL) > 0) {
		receive(f);
	}
}

/* What is still on its way comes back, or does not. */
static void collect(struct flow *f)
{
	struct pollfd readable = {.fd = f->fd, .events = POLLIN};

	while (f->load->units < f->load->sent && poll(&readable, 1, 2 * GIVE_UP_MS) > 0) {
		receive(f);
	}
}

void *load_run_udp(void *load)
{
	struct flow f = {.load = load};
	uint64_t due_ns;

	associate(&f);
	due_ns = load_now_ns();
	f.load->ready = true;
	while (!f.load->stop) {
		if (f.load->rate > 0) {
			keep_rate(&f, &due_ns);
		} else {
			keep_window(&f);
		}
	}
	collect(&f);
	if (f.control >= 0) {
		close(f.control);
	}
	close(f.fd);
	return NULL;
}
