/* links: tests/bench/lib/interactive_options.c tests/bench/lib/watch.c proto/wire/bytes.c
 * proto/wire/err.c
 */
/* What small round trips wait for beside a bulk transfer: round trips over open tunnels, begun by
 * the clock whether the one before has come back or not, with and without the bulk, by turns.
 *
 *   interactive [options] SOCKS[,SOCKS...]
 *
 * Ports of SOCKS5 proxies on 127.0.0.1, among which the tunnels are spread; 0 is none at all.
 * Targets are threads of this program. Both ends of the round trips run at real-time priority where
 * that is allowed: else, on a machine that the bulk fills, how long they themselves wait for a core
 * would be the larger part of what is measured. Each phase prints a line of JSON: the round trips'
 * percentiles in milliseconds, the bulk's rate, the CPU of the given processes, and how long these
 * have waited for a core.
 */
#include "tests/bench/lib/interactive_options.h"
#include "tests/bench/lib/watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND       1000000000ull
#define SAMPLES_MAX  (1u << 21)
#define PIECE        (256u * 1024)
#define PACED_PIECE  (16u * 1024)
#define SETTLE_NS    (300 * 1000000ull)
#define ANSWER_MAX_S 20

struct tunnel {
	int fd;
	uint64_t due_ns; /* when the round trip that is out, or the next one, was to begin */
	size_t to_come;  /* of the answer; 0: none is out */
};

struct carrier {
	pthread_t thread;
	int fd;
};

static struct interactive_options opt;
static uint16_t target_port;
static uint8_t zeros[PIECE];
static _Atomic uint64_t bulk_bytes;
static float *samples;
static size_t sample_count;
static bool realtime;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "interactive: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail on Linux */
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static bool send_all(int fd, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len > 0) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n <= 0) {
			return false;
		}
		from += n;
		len -= (size_t)n;
	}
	return true;
}

static bool receive_all(int fd, void *data, size_t len)
{
	uint8_t *to = data;

	while (len > 0) {
		ssize_t n = recv(fd, to, len, 0);

		if (n <= 0) {
			return false;
		}
		to += n;
		len -= (size_t)n;
	}
	return true;
}

/* Of the calling thread; those that it starts are normal ones. */
static bool hurry(void)
{
	const struct sched_param first = {.sched_priority = 1};

	return !opt.normal && sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) == 0;
}

static void set_up(int fd)
{
	const struct timeval patience = {.tv_sec = ANSWER_MAX_S};
	const int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0) {
		die("setsockopt");
	}
}

static int dial(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		die("connect");
	}
	set_up(fd);
	return fd;
}

/* A tunnel to our target, which learns what is wanted of it. */
static int dial_through(unsigned proxy, enum bulk what)
{
	const uint8_t hello[] = {5, 1, 0};
	uint8_t request[] = {
		5, 1, 0, 1, 127, 0, 0, 1, (uint8_t)(target_port >> 8), (uint8_t)target_port};
	uint8_t answer[10], kind = (uint8_t)what;
	int fd = dial(proxy != 0 ? proxy : target_port);

	if (proxy != 0 && (!send_all(fd, hello, sizeof(hello)) || !receive_all(fd, answer, 2) ||
				  !send_all(fd, request, sizeof(request)) ||
				  !receive_all(fd, answer, sizeof(answer)) || answer[1] != 0)) {
		die("SOCKS5");
	}
	if (!send_all(fd, &kind, 1)) {
		die("send");
	}
	return fd;
}

/* Without a rate as fast as it goes. */
static void pour(int fd)
{
	uint64_t begun = now_ns(), sent = 0, due;
	struct timespec until;

	while (send_all(fd, zeros, opt.bulk_rate != 0 ? PACED_PIECE : PIECE)) {
		if (opt.bulk_rate == 0) {
			continue;
		}
		sent += PACED_PIECE;
		due = begun + (uint64_t)((double)sent * 1e9 / (double)opt.bulk_rate);
		if (due + SECOND / 100 < now_ns()) {
			begun = now_ns(); /* what was missed is not made up for */
			sent = 0;
		}
		until = (struct timespec){
			.tv_sec = (time_t)(due / SECOND), .tv_nsec = (long)(due % SECOND)};
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
		}
	}
}

static void drain(int fd)
{
	ssize_t n;

	while ((n = recv(fd, NULL, PIECE, MSG_TRUNC)) > 0) {
		atomic_fetch_add(&bulk_bytes, (uint64_t)n);
	}
}

/* Of the calling thread alone. */
static void give_way(void)
{
	if (opt.bulk_nice != 0 && setpriority(PRIO_PROCESS, (id_t)gettid(), opt.bulk_nice) != 0) {
		die("setpriority");
	}
}

static void *run_far_bulk(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t kind = 0;

	give_way();
	(void)prctl(PR_SET_TIMERSLACK, 1UL); /* less precise without */
	if (recv(fd, &kind, 1, 0) == 1 && kind == BULK_DOWN) {
		pour(fd);
	} else {
		drain(fd);
	}
	close(fd);
	return NULL;
}

static void *run_near_bulk(void *arg)
{
	const struct carrier *c = arg;

	give_way();
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	if (opt.bulk == BULK_DOWN) {
		drain(c->fd);
	} else {
		pour(c->fd);
	}
	return NULL;
}

static void echo(int set, int fd)
{
	uint8_t data[INTERACTIVE_MESSAGE_MAX];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN) {
		return;
	}
	/* A message fits an empty socket's buffer many times. */
	if (n <= 0 || send(fd, data, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n) {
		(void)epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
		close(fd);
	}
}

static void take_in(int set, int listener)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	pthread_t thread;
	uint8_t kind;

	if (fd < 0) {
		return;
	}
	set_up(fd);
	if (recv(fd, &kind, 1, MSG_PEEK) != 1) {
		close(fd);
	} else if (kind != ECHO) {
		if (pthread_create(&thread, NULL, run_far_bulk, (void *)(intptr_t)fd) != 0) {
			die("thread");
		}
		(void)pthread_detach(thread); /* one that exists */
	} else {
		(void)recv(fd, &kind, 1, 0); /* it is there */
		event.data.fd = fd;
		if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) {
			die("epoll_ctl");
		}
	}
}

static void *run_target(void *arg)
{
	int listener = (int)(intptr_t)arg, set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[64], event = {.events = EPOLLIN, .data.fd = listener};

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) != 0) {
		die("epoll");
	}
	(void)hurry(); /* as the other end, which tells */
	for (;;) {
		int n = epoll_wait(set, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener) {
				take_in(set, listener);
			} else {
				echo(set, events[i].data.fd);
			}
		}
	}
	return NULL;
}

static void start_target(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t thread;

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
		die("target");
	}
	target_port = ntohs(at.sin_port);
	if (pthread_create(&thread, NULL, run_target, (void *)(intptr_t)fd) != 0) {
		die("thread");
	}
	(void)pthread_detach(thread);
}

static void begin_trip(struct tunnel *t)
{
	if (send(t->fd, zeros, opt.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)opt.bytes) {
		die("a tunnel takes no more");
	}
	t->to_come = opt.bytes;
}

/* What begins late, because the answer before it was late, has waited since its time came. */
static void end_trip(struct tunnel *t, uint64_t now)
{
	if (sample_count < SAMPLES_MAX) {
		samples[sample_count++] = (float)((double)(now - t->due_ns) / 1e6);
	}
	t->due_ns += opt.interval_ns;
	if (t->due_ns <= now) {
		begin_trip(t);
	}
}

static void on_answer(struct tunnel *t)
{
	uint8_t data[INTERACTIVE_MESSAGE_MAX];
	ssize_t n = recv(t->fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN) {
		return;
	}
	if (n <= 0 || (size_t)n > t->to_come) {
		errno = n < 0 ? errno : EPROTO;
		die("a tunnel ended");
	}
	t->to_come -= (size_t)n;
	if (t->to_come == 0) {
		end_trip(t, now_ns());
	}
}

/* Begins what is due; returns when the next one is. */
static uint64_t begin_due(struct tunnel *tunnels, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < opt.tunnels; i++) {
		struct tunnel *t = &tunnels[i];

		if (t->to_come > 0) {
			continue;
		}
		if (t->due_ns <= now) {
			begin_trip(t);
		} else if (t->due_ns < next) {
			next = t->due_ns;
		}
	}
	return next;
}

static void run_trips(int set, struct tunnel *tunnels, uint64_t length_ns)
{
	uint64_t begun = now_ns(), end = begun + length_ns, now;
	struct epoll_event events[64];
	bool out = true;

	for (unsigned i = 0; i < opt.tunnels; i++) {
		tunnels[i].due_ns = begun + i * opt.interval_ns / opt.tunnels;
	}
	while ((now = now_ns()) < end || out) {
		uint64_t next = now < end ? begin_due(tunnels, now) : now + SECOND / 1000;
		uint64_t wait = next > now ? next - now : 0;
		struct timespec until = {.tv_nsec = (long)(wait % SECOND)};
		int n = epoll_pwait2(set, events, 64, &until, NULL);

		for (int i = 0; i < n; i++) {
			on_answer(&tunnels[events[i].data.u32]);
		}
		out = false;
		for (unsigned i = 0; i < opt.tunnels; i++) {
			out = out || tunnels[i].to_come > 0;
		}
		if (now > end + ANSWER_MAX_S * SECOND) {
			errno = ETIMEDOUT;
			die("answers");
		}
	}
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static double share(double part)
{
	return sample_count > 0 ? samples[(size_t)((double)(sample_count - 1) * part)] : 0;
}

static void start_bulk(struct carrier *c)
{
	c->fd = dial_through(opt.bulk_proxy, opt.bulk);
	if (pthread_create(&c->thread, NULL, run_near_bulk, c) != 0) {
		die("thread");
	}
}

static void settle(void)
{
	const struct timespec pause = {.tv_nsec = SETTLE_NS};

	(void)nanosleep(&pause, NULL); /* shorter after a signal: no harm */
}

static void print_list(const double *values)
{
	printf("[");
	for (size_t i = 0; i < opt.pid_count; i++) {
		printf("%s%.3f", i > 0 ? "," : "", values[i]);
	}
	printf("]");
}

static void run_phase(int set, struct tunnel *tunnels, bool loaded, unsigned round)
{
	struct carrier bulk;
	double cpu[INTERACTIVE_PIDS_MAX], waited[INTERACTIVE_PIDS_MAX], own, seconds;
	uint64_t begun, bytes;

	if (loaded) {
		start_bulk(&bulk);
	}
	settle();
	run_trips(set, tunnels, SECOND / 2); /* until windows and buffers are what they will be */
	sample_count = 0;
	for (size_t i = 0; i < opt.pid_count; i++) {
		cpu[i] = bench_usage(opt.pids[i]).cpu_s;
		waited[i] = bench_waited_s(opt.pids[i]);
	}
	own = bench_usage(getpid()).cpu_s;
	bytes = atomic_load(&bulk_bytes);
	begun = now_ns();
	run_trips(set, tunnels, opt.phase_ns);
	seconds = (double)(now_ns() - begun) / 1e9;
	bytes = atomic_load(&bulk_bytes) - bytes;
	for (size_t i = 0; i < opt.pid_count; i++) {
		cpu[i] = (bench_usage(opt.pids[i]).cpu_s - cpu[i]) / seconds;
		waited[i] = (bench_waited_s(opt.pids[i]) - waited[i]) / seconds;
	}
	own = (bench_usage(getpid()).cpu_s - own) / seconds;
	if (loaded) {
		(void)shutdown(bulk.fd, SHUT_RDWR); /* ended by the other side otherwise */
		(void)pthread_join(bulk.thread, NULL);
		close(bulk.fd);
	}
	qsort(samples, sample_count, sizeof(*samples), by_size);
	printf("{\"round\":%u,\"loaded\":%s,\"trips\":%zu,\"p50_ms\":%.3f,\"p90_ms\":%.3f,"
	       "\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,\"bulk_gbit_s\":%.3f,"
	       "\"cpu_load\":%.3f,\"realtime\":%s,\"cpu\":",
		round, loaded ? "true" : "false", sample_count, share(0.5), share(0.9), share(0.99),
		share(0.999), share(1), (double)bytes * 8 / 1e9 / seconds, own,
		realtime ? "true" : "false");
	print_list(cpu);
	printf(",\"waited\":");
	print_list(waited);
	printf("}\n");
	fflush(stdout);
	settle();
}

int main(int argc, char **argv)
{
	static struct tunnel tunnels[INTERACTIVE_TUNNELS_MAX];
	int set;

	interactive_options(&opt, argc, argv);
	(void)prctl(PR_SET_TIMERSLACK, 1UL); /* less precise without */
	samples = malloc(SAMPLES_MAX * sizeof(*samples));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!samples || set < 0) {
		die("start");
	}
	start_target();
	for (unsigned i = 0; i < opt.tunnels; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

		tunnels[i].fd = dial_through(opt.proxies[i % opt.proxy_count], ECHO);
		if (epoll_ctl(set, EPOLL_CTL_ADD, tunnels[i].fd, &event) != 0) {
			die("epoll_ctl");
		}
	}
	realtime = hurry();
	for (unsigned round = 1; round <= opt.rounds; round++) {
		run_phase(set, tunnels, false, round);
		run_phase(set, tunnels, true, round);
	}
	return 0;
}
