/* links: */
/* UDP by io_uring against recvmmsg and sendmmsg: what a packet and a GiB cost on loopback.
 *
 *   uring [MIB [ROUNDS]]
 *
 * Two processes, one that sends and one that receives, each on a processor of its own; the one that
 * is not measured uses sendmmsg or recvmmsg. `bulk` are batches as the data path sends them (GSO of
 * 45 packets, GRO at the other end), MIB of them (512); `small` are single packets of 100 bytes, a
 * twentieth of the bytes. The ways are taken by turns, ROUNDS (3) times, and medians printed: CPU
 * seconds of the measured process, threads of the kernel for its ring included. `uring+epoll` waits
 * for its ring by epoll, as a loop does that has other descriptors. Built where liburing is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT      1452
#define SEGMENTS     45
#define SMALL        100
#define BATCH_MAX    64
#define RX_MESSAGES  16
#define RX_BUFFER    66048 /* a message of GRO, and what io_uring puts before it */
#define RING_BUFFERS 64
#define CONTROL      128
#define ROUNDS_MAX   15
#define GROUP        1
#define GIB          1073741824.0

enum way {
	MMSG,
	URING,
	URING_EPOLL, /* receiving only */
	URING_ZC,    /* sending only */
};

struct shape {
	const char *name;
	size_t message; /* bytes of one */
	size_t segment; /* 0: no GSO */
	unsigned batch; /* messages of a call */
};

struct report {
	double cpu_s;
	uint64_t calls;
	uint64_t packets;
	int error; /* errno: this way does not work here */
};

struct end {
	int fd;
	int credit; /* eventfd: bytes that the receiver has taken */
	uint64_t window;
	const struct shape *shape;
	struct report *report;
	uint64_t total; /* bytes to come */
	uint64_t done;
};

static void die(const char *what)
{
	fprintf(stderr, "uring: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double process_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- receiving ---- */

/* What came is looked at as a server would: how long are the packets in it? */
static void take(struct end *e, struct msghdr *msg, size_t len)
{
	int segment = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&segment, CMSG_DATA(c), sizeof(segment));
		}
	}
	e->done += len;
	e->report->packets += segment > 0 ? (len + (size_t)segment - 1) / (size_t)segment : 1;
}

static void give_credit(struct end *e, uint64_t before)
{
	uint64_t bytes = e->done - before;

	if (bytes > 0 && write(e->credit, &bytes, sizeof(bytes)) != sizeof(bytes)) {
		die("eventfd");
	}
}

static void receive_mmsg(struct end *e)
{
	static struct mmsghdr msgs[RX_MESSAGES];
	static struct sockaddr_in6 names[RX_MESSAGES];
	static struct iovec iov[RX_MESSAGES];
	static char control[RX_MESSAGES][CONTROL];
	struct epoll_event event = {.events = EPOLLIN};
	char *buffers = malloc((size_t)RX_MESSAGES * RX_BUFFER);
	int poller = epoll_create1(0);

	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, e->fd, &event) != 0) {
		die("epoll");
	}
	while (e->done < e->total) {
		uint64_t before = e->done;
		int n = RX_MESSAGES;

		epoll_wait(poller, &event, 1, -1);
		e->report->calls++;
		for (int round = 0; round < 4 && n == RX_MESSAGES; round++) {
			for (int i = 0; i < RX_MESSAGES; i++) {
				iov[i] = (struct iovec){buffers + i * RX_BUFFER, RX_BUFFER};
				msgs[i].msg_hdr = (struct msghdr){.msg_name = &names[i],
					.msg_namelen = sizeof(names[i]),
					.msg_iov = &iov[i],
					.msg_iovlen = 1,
					.msg_control = control[i],
					.msg_controllen = CONTROL};
			}
			n = recvmmsg(e->fd, msgs, RX_MESSAGES, MSG_DONTWAIT, NULL);
			e->report->calls++;
			for (int i = 0; i < n; i++) {
				take(e, &msgs[i].msg_hdr, msgs[i].msg_len);
			}
		}
		give_credit(e, before);
	}
	free(buffers);
	close(poller);
}

/* `waits_inside`: completions are run when the ring is waited for, which is cheapest. A ring that
 * is polled from outside must run them by itself. */
static int open_ring(struct io_uring *ring, unsigned entries, bool waits_inside)
{
	struct io_uring_params best = {.flags = IORING_SETUP_SINGLE_ISSUER |
						IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 1024};
	struct io_uring_params plain = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 1024};
	int rv = waits_inside ? io_uring_queue_init_params(entries, ring, &best) : -EINVAL;

	return rv == 0 ? 0 : io_uring_queue_init_params(entries, ring, &plain);
}

struct multishot {
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	char *memory;
	struct msghdr msg;
	bool armed;
};

static char *buffer_of(const struct multishot *m, unsigned id)
{
	return m->memory + (size_t)id * RX_BUFFER;
}

static void give_buffer(struct multishot *m, unsigned id)
{
	io_uring_buf_ring_add(m->buffers, buffer_of(m, id), RX_BUFFER, (unsigned short)id,
		io_uring_buf_ring_mask(RING_BUFFERS), 0);
	io_uring_buf_ring_advance(m->buffers, 1);
}

static int open_multishot(struct multishot *m, bool waits_inside)
{
	struct io_uring_buf_reg reg = {.ring_entries = RING_BUFFERS, .bgid = GROUP};
	int rv = open_ring(&m->ring, 64, waits_inside);

	if (rv != 0) {
		return -rv;
	}
	m->buffers = mmap(NULL, RING_BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
		MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	m->memory = malloc((size_t)RING_BUFFERS * RX_BUFFER);
	reg.ring_addr = (uintptr_t)m->buffers;
	rv = io_uring_register_buf_ring(&m->ring, &reg, 0);
	if (rv != 0) {
		return -rv;
	}
	io_uring_buf_ring_init(m->buffers);
	for (unsigned i = 0; i < RING_BUFFERS; i++) {
		give_buffer(m, i);
	}
	m->msg.msg_namelen = sizeof(struct sockaddr_in6);
	m->msg.msg_controllen = CONTROL;
	return 0;
}

static void arm(struct multishot *m, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&m->ring);

	io_uring_prep_recvmsg_multishot(sqe, fd, &m->msg, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	m->armed = true;
}

/* Returns an errno when this kernel cannot. */
static int take_completion(struct multishot *m, struct end *e, const struct io_uring_cqe *cqe)
{
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	struct io_uring_recvmsg_out *out;
	struct msghdr msg = {.msg_name = NULL};

	if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
		m->armed = false;
	}
	if (cqe->res < 0) {
		return cqe->res == -ENOBUFS ? 0 : -cqe->res;
	}
	out = io_uring_recvmsg_validate(buffer_of(m, id), cqe->res, &m->msg);
	if (out != NULL) {
		msg.msg_control = (char *)io_uring_recvmsg_name(out) + m->msg.msg_namelen;
		msg.msg_controllen = out->controllen;
		take(e, &msg, io_uring_recvmsg_payload_length(out, cqe->res, &m->msg));
	}
	give_buffer(m, id);
	return 0;
}

static void receive_uring(struct end *e, bool by_epoll)
{
	static struct multishot m;
	struct epoll_event event = {.events = EPOLLIN};
	int poller = epoll_create1(0);
	struct io_uring_cqe *cqe;

	e->report->error = open_multishot(&m, !by_epoll);
	if (e->report->error == 0 && by_epoll &&
		epoll_ctl(poller, EPOLL_CTL_ADD, m.ring.ring_fd, &event) != 0) {
		die("epoll");
	}
	while (e->report->error == 0 && e->done < e->total) {
		uint64_t before = e->done;
		unsigned count = 0, head;

		if (!m.armed) {
			arm(&m, e->fd);
			io_uring_submit(&m.ring);
		}
		if (by_epoll) {
			epoll_wait(poller, &event, 1, -1);
			e->report->calls++;
		} else {
			io_uring_submit_and_wait(&m.ring, 1);
			e->report->calls++;
		}
		io_uring_for_each_cqe(&m.ring, head, cqe)
		{
			int error = take_completion(&m, e, cqe);

			e->report->error = error != 0 ? error : e->report->error;
			count++;
		}
		io_uring_cq_advance(&m.ring, count);
		give_credit(e, before);
	}
	close(poller);
}

/* ---- sending ---- */

static void wait_for_window(struct end *e, uint64_t *outstanding, uint64_t next)
{
	while (*outstanding + next > e->window) {
		uint64_t credit;

		if (read(e->credit, &credit, sizeof(credit)) != sizeof(credit)) {
			die("eventfd");
		}
		*outstanding -= credit;
	}
}

struct batch {
	struct mmsghdr msgs[BATCH_MAX];
	struct iovec iov[BATCH_MAX];
	char control[BATCH_MAX][CMSG_SPACE(sizeof(uint16_t))];
	char *memory;
};

static void make_batch(struct batch *b, const struct shape *shape)
{
	uint16_t segment = (uint16_t)shape->segment;

	b->memory = calloc(BATCH_MAX, shape->message);
	for (unsigned i = 0; i < shape->batch; i++) {
		struct msghdr *msg = &b->msgs[i].msg_hdr;

		b->iov[i] = (struct iovec){b->memory + i * shape->message, shape->message};
		*msg = (struct msghdr){.msg_iov = &b->iov[i], .msg_iovlen = 1};
		if (segment > 0) {
			struct cmsghdr *c = (struct cmsghdr *)b->control[i];

			msg->msg_control = c;
			msg->msg_controllen = sizeof(b->control[i]);
			c->cmsg_level = SOL_UDP;
			c->cmsg_type = UDP_SEGMENT;
			c->cmsg_len = CMSG_LEN(sizeof(segment));
			memcpy(CMSG_DATA(c), &segment, sizeof(segment));
		}
	}
}

static void count_sent(struct end *e, unsigned messages)
{
	const struct shape *s = e->shape;

	e->done += messages * s->message;
	e->report->packets += messages * (s->segment > 0 ? s->message / s->segment : 1);
}

static void send_mmsg(struct end *e, struct batch *b)
{
	uint64_t outstanding = 0;

	while (e->done < e->total) {
		unsigned done = 0;

		wait_for_window(e, &outstanding, e->shape->batch * e->shape->message);
		while (done < e->shape->batch) {
			int n = sendmmsg(e->fd, b->msgs + done, e->shape->batch - done, 0);

			if (n < 0) {
				die("sendmmsg");
			}
			e->report->calls++;
			done += (unsigned)n;
		}
		outstanding += done * e->shape->message;
		count_sent(e, done);
	}
}

static void send_uring(struct end *e, struct batch *b, bool zero_copy)
{
	struct io_uring ring;
	uint64_t outstanding = 0;

	e->report->error = -open_ring(&ring, BATCH_MAX, true);
	while (e->report->error == 0 && e->done < e->total) {
		unsigned due = e->shape->batch; /* completions: with zero copy two for each */

		wait_for_window(e, &outstanding, e->shape->batch * e->shape->message);
		for (unsigned i = 0; i < e->shape->batch; i++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

			if (zero_copy) {
				io_uring_prep_sendmsg_zc(sqe, e->fd, &b->msgs[i].msg_hdr, 0);
			} else {
				io_uring_prep_sendmsg(sqe, e->fd, &b->msgs[i].msg_hdr, 0);
			}
		}
		while (due > 0) {
			struct io_uring_cqe *cqe;
			unsigned count = 0, head;

			io_uring_submit_and_wait(&ring, 1);
			e->report->calls++;
			io_uring_for_each_cqe(&ring, head, cqe)
			{
				if (cqe->res < 0 && (cqe->flags & IORING_CQE_F_NOTIF) == 0) {
					e->report->error = -cqe->res;
				}
				due += (cqe->flags & IORING_CQE_F_MORE) != 0;
				due--;
				count++;
			}
			io_uring_cq_advance(&ring, count);
		}
		outstanding += e->shape->batch * e->shape->message;
		count_sent(e, e->shape->batch);
	}
}

/* ---- both ---- */

static void pin(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* one processor only: they share it */
}

static pid_t start(struct end *e, enum way way, bool sends)
{
	pid_t pid = fork();
	double begin;

	if (pid != 0) {
		return pid;
	}
	pin(sends ? 0 : 1);
	begin = process_cpu();
	if (sends) {
		static struct batch b;

		make_batch(&b, e->shape);
		if (way == MMSG) {
			send_mmsg(e, &b);
		} else {
			send_uring(e, &b, way == URING_ZC);
		}
	} else if (way == MMSG) {
		receive_mmsg(e);
	} else {
		receive_uring(e, way == URING_EPOLL);
	}
	e->report->cpu_s = process_cpu() - begin;
	_exit(e->report->error != 0);
}

static int open_pair(int fds[2], uint64_t *buffer)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int size = 4 << 20, on = 1;
	socklen_t size_len = sizeof(size);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fds[0] = socket(AF_INET, SOCK_DGRAM, 0);
	fds[1] = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fds[0], SOL_UDP, UDP_GRO, &on, sizeof(on));
	if (bind(fds[0], (struct sockaddr *)&addr, len) != 0 ||
		getsockname(fds[0], (struct sockaddr *)&addr, &len) != 0 ||
		connect(fds[1], (struct sockaddr *)&addr, len) != 0 ||
		getsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &size, &size_len) != 0) {
		return -1;
	}
	*buffer = (uint64_t)size;
	return 0;
}

/* One transfer; returns what the measured side reports. */
static struct report run(
	const struct shape *shape, enum way way, bool sends, uint64_t bytes, double *seconds)
{
	struct report *reports = mmap(NULL, 2 * sizeof(*reports), PROT_READ | PROT_WRITE,
		MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	uint64_t buffer, turn = shape->batch * shape->message, room;
	uint64_t total = (bytes + turn - 1) / turn * turn;
	int credit = eventfd(0, 0), fds[2];
	struct timespec begin, end;
	struct report result;
	struct end e = {.credit = credit, .shape = shape, .total = total};
	pid_t pids[2];
	int status;

	if (open_pair(fds, &buffer) != 0) {
		die("socket");
	}
	/* The kernel counts about a KiB for a small packet, and never must the buffer overflow. */
	room = shape->segment > 0 ? buffer / 4 : buffer / 4 / 1024 * shape->message;
	e.window = room > turn ? room : turn;
	memset(reports, 0, 2 * sizeof(*reports));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	e.fd = fds[0];
	e.report = &reports[0];
	pids[0] = start(&e, sends ? MMSG : way, false);
	e.fd = fds[1];
	e.report = &reports[1];
	pids[1] = start(&e, sends ? way : MMSG, true);
	waitpid(pids[sends ? 1 : 0], &status, 0);
	if (status != 0) {
		kill(pids[sends ? 0 : 1], SIGTERM); /* it would wait for ever */
	}
	waitpid(pids[sends ? 0 : 1], NULL, 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*seconds =
		(double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	result = reports[sends ? 1 : 0];
	munmap(reports, 2 * sizeof(*reports));
	close(credit);
	close(fds[0]);
	close(fds[1]);
	return result;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void measure(const struct shape *shape, bool sends, uint64_t bytes, int rounds)
{
	static const char *const names[] = {"mmsg", "uring", "uring+epoll", "uring zero-copy"};
	double cpu[4][ROUNDS_MAX], seconds = 0;
	struct report last[4];

	for (int r = 0; r < rounds; r++) {
		for (int w = MMSG; w <= URING_ZC; w++) {
			if (w != (sends ? URING_EPOLL : URING_ZC)) {
				last[w] = run(shape, (enum way)w, sends, bytes, &seconds);
				cpu[w][r] = last[w].cpu_s;
			}
		}
	}
	for (int w = MMSG; w <= URING_ZC; w++) {
		if (w == (sends ? URING_EPOLL : URING_ZC)) {
			continue;
		}
		printf("%s\t%s\t%u\t%s\t", sends ? "send" : "receive", shape->name, shape->batch,
			names[w]);
		if (last[w].error != 0) {
			printf("not here: %s\n", strerror(last[w].error));
			continue;
		}
		qsort(cpu[w], (size_t)rounds, sizeof(double), compare);
		printf("%.3f\t%.0f\t%.1f\n", cpu[w][rounds / 2] * GIB / (double)bytes,
			cpu[w][rounds / 2] * 1e9 / (double)last[w].packets,
			1000.0 * (double)last[w].calls / (double)last[w].packets);
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct shape shapes[] = {
		{"bulk", (size_t)SEGMENT * SEGMENTS, SEGMENT, 1},
		{"bulk", (size_t)SEGMENT * SEGMENTS, SEGMENT, 8},
		{"small", SMALL, 0, 1},
		{"small", SMALL, 0, 16},
		{"small", SMALL, 0, 64},
	};
	uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 512) << 20;
	long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 3;

	if (bytes == 0 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: %s [MIB [ROUNDS]]\n", argv[0]);
		return 2;
	}
	printf("side\tshape\tbatch\tway\tcpu_s_per_gib\tcpu_ns_per_packet\tcalls_per_1000_"
	       "packets\n");
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		uint64_t of = shapes[i].segment > 0 ? bytes : bytes / 20;

		measure(&shapes[i], false, of, (int)rounds);
		measure(&shapes[i], true, of, (int)rounds);
	}
	return 0;
}
