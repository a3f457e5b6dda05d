/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/err.c proto/wire/profile.c proto/wire/request.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c tests/bench/lib/watch.c tests/bench/lib/side.c
 * tests/bench/lib/tunnel.c tests/bench/lib/awake.c tests/bench/lib/holder_options.c
 */
/* Many real clients in one process: tens of thousands of connections with client certificates over
 * a few sockets, for what a server needs to hold them. Prints a line of JSON for each step:
 *
 *   start     the server before anybody came
 *   connect   so many connections established; why others were refused
 *   hold      keep-alives, evenly spread, and nothing else
 *   wait      with --wait; these three for each number of connections
 *   tunnels   each connection has carried one small tunnel; and another wait
 *   leave     all of them gone again
 */
#include "proto/wire/request.h"
#include "tests/bench/lib/awake.h"
#include "tests/bench/lib/holder_options.h"
#include "tests/bench/lib/side.h"
#include "tests/bench/lib/tunnel.h"
#include "tests/bench/lib/watch.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define SECOND_NS         1000000000ull
#define MS_NS             1000000ull
#define REASONS_MAX       8
#define STARTS_A_TURN     50u   /* so that those who came before are served between */
#define CONNECTING_S      45u   /* between keep-alives until all are there */
#define HOLD_MIN          1000u /* fewer tell nothing about keep-alives */
#define BACKOFF_NS        (2 * SECOND_NS)
#define BACKOFF_DOUBLINGS 2u
#define BUFFER_BYTES      (64u << 20) /* of a socket: what thousands of clients get in seconds */
/* As many leave at a time, and so often, as the server's sockets take: a packet that says good-bye
 * is not sent again. */
#define LEAVE_PIECE    500u
#define LEAVE_EVERY_MS 25u
#define LEAVE_S        60u
#define SLICE_US       400

struct held {
	struct holder *holder;
	struct mt_conn *conn;
	uint64_t again_ns; /* refused: when to try again */
	unsigned tries;
	bool up;
	bool carried;
};

struct reason {
	char text[128];
	unsigned count;
};

struct holder {
	struct holder_options o;
	struct bench_side side;
	struct held *held;
	unsigned target;  /* how many are to be held by now */
	unsigned started; /* index of the next one to start */
	unsigned again;   /* where to look for one that was refused */
	unsigned opening;
	unsigned up;
	bool carries; /* each is to carry a tunnel now */
	unsigned carried;
	unsigned carrying;
	unsigned next_carry;
	unsigned spread; /* so many send their keep-alives in turn */
	uint64_t spread_since_ns;
	bool leaving;
	unsigned closed;       /* of those that leave, the first so many */
	uint64_t closed_at_ms; /* the last of them; the loop's time */
	unsigned left;         /* and have said so */
	bool told;
	struct reason reasons[REASONS_MAX];
	unsigned refusals;
	uv_timer_t timer;
};

static void note_refusal(struct holder *h, const char *text)
{
	size_t i;

	h->refusals++;
	for (i = 0; i < REASONS_MAX - 1 && h->reasons[i].count > 0; i++) {
		if (strcmp(h->reasons[i].text, text) == 0) {
			break;
		}
	}
	(void)snprintf(h->reasons[i].text, sizeof(h->reasons[i].text), "%s",
		text); /* what does not fit is not needed */
	h->reasons[i].count++;
}

/* ---- connecting ---- */

static void start_one(struct holder *h, struct held *c)
{
	c->conn = bench_connect(&h->side, (size_t)(c - h->held));
	c->holder = h;
	c->again_ns = 0;
	mt_conn_set_user(c->conn, c);
	h->opening++;
}

/* The next one that was refused and may try again, or NULL. */
static struct held *next_again(struct holder *h, uint64_t now)
{
	for (unsigned i = 0; i < h->started; i++) {
		struct held *c = &h->held[h->again];

		h->again = (h->again + 1) % h->started;
		if (c->conn == NULL && c->again_ns != 0 && c->again_ns <= now) {
			return c;
		}
	}
	return NULL;
}

static void start_more(struct holder *h)
{
	uint64_t now = mt_driver_now_ns(h->side.driver);
	unsigned budget = h->side.behind ? 0 : STARTS_A_TURN;
	struct held *c;

	for (; h->opening < h->o.at_once && h->started < h->target && budget > 0; budget--) {
		start_one(h, &h->held[h->started++]);
	}
	while (budget > 0 && h->up + h->opening < h->started && h->opening < h->o.at_once &&
		(c = next_again(h, now)) != NULL) {
		start_one(h, c);
		budget--;
	}
}

static void on_established(void *user, struct mt_conn *conn)
{
	struct holder *h = user;
	struct held *c = mt_conn_user(conn);

	c->up = true;
	h->opening--;
	h->up++;
	mt_conn_set_keep_alive(conn, CONNECTING_S * SECOND_NS);
	start_more(h);
}

/* Doubling, and between half of it and all of it by chance, as clients of a full server wait. */
static uint64_t backoff_ns(unsigned tries)
{
	uint64_t wait = BACKOFF_NS << (tries < BACKOFF_DOUBLINGS ? tries : BACKOFF_DOUBLINGS);

	return wait / 2 + wait / 2 * ((unsigned)rand() % 1024) / 1024;
}

static void on_end(void *user, struct mt_conn *conn, const struct mt_conn_end *end)
{
	struct holder *h = user;
	struct held *c = mt_conn_user(conn);

	c->conn = NULL;
	if (c->up) {
		h->up--;
		c->up = false;
	} else {
		h->opening--;
	}
	if (!h->leaving) {
		note_refusal(h, end->reason[0] != '\0' ? end->reason : mt_strerror(end->err));
		c->again_ns = mt_driver_now_ns(h->side.driver) + backoff_ns(c->tries++);
	} else if (end->err == MT_E_CLOSED && !end->by_peer) {
		h->left++;
	}
}

/* ---- a tunnel on each ---- */

static void carry_more(struct holder *h);

static void on_carried(void *user, double ms)
{
	struct held *c = user;
	struct holder *h = c->holder;

	(void)ms;
	c->carried = true;
	h->carried++;
	h->carrying--;
	carry_more(h);
}

static void carry_more(struct holder *h)
{
	while (h->carrying < h->o.at_once && h->next_carry < h->target && !h->side.behind) {
		struct held *c = &h->held[h->next_carry++];

		if (c->up) {
			h->carrying++;
			bench_tunnel(c->conn, &h->o.target, on_carried, c);
		}
	}
}

/* ---- steps ---- */

/* Each sends its first keep-alive in its turn, so that they come evenly from then on. */
static void spread_keep_alives(struct holder *h)
{
	uint64_t passed = mt_driver_now_ns(h->side.driver) - h->spread_since_ns;
	uint64_t due = h->started * passed / (h->o.keep_alive_ms * MS_NS);

	for (; h->spread < h->started && h->spread < due; h->spread++) {
		struct held *c = &h->held[h->spread];

		if (c->up) {
			mt_conn_set_keep_alive(c->conn, h->o.keep_alive_ms * MS_NS);
		}
	}
}

/* The next ones say good-bye when nobody waits for anything and the server has had its time. */
static void leave_more(struct holder *h)
{
	uint64_t now_ms = uv_now(&h->side.loop);

	if (h->side.behind || now_ms - h->closed_at_ms < LEAVE_EVERY_MS) {
		return;
	}
	for (unsigned n = 0; n < LEAVE_PIECE && h->closed < h->started; h->closed++) {
		struct held *c = &h->held[h->closed];

		if (c->conn != NULL) {
			mt_conn_close(c->conn, MT_APP_NONE, "");
			n++;
		}
	}
	h->closed_at_ms = now_ms;
}

static void on_timer(uv_timer_t *timer)
{
	struct holder *h = timer->data;

	if (h->leaving) {
		leave_more(h);
		return;
	}
	start_more(h);
	if (h->carries) {
		carry_more(h);
	}
	if (h->spread_since_ns != 0 && !h->side.behind) {
		spread_keep_alives(h);
	}
}

static void progress(struct holder *h, const char *what)
{
	fprintf(stderr, "\r%-8s %7u of %u up, %u under way, %u refused, %u carried   ", what, h->up,
		h->target, h->opening, h->refusals, h->carried);
}

/* Runs the loop until `done`, at most `limit_s`; whether it was done. */
static bool run_until(
	struct holder *h, const char *what, bool (*done)(struct holder *h), unsigned limit_s)
{
	uint64_t begin = uv_hrtime(), shown = 0;

	while (!done(h)) {
		if (uv_hrtime() - begin > limit_s * SECOND_NS) {
			return false;
		}
		(void)uv_run(&h->side.loop, UV_RUN_ONCE);
		if (uv_hrtime() - shown > SECOND_NS / 2) {
			shown = uv_hrtime();
			progress(h, what);
		}
	}
	progress(h, what);
	fputc('\n', stderr);
	return true;
}

static bool never(struct holder *h)
{
	(void)h;
	return false;
}

static bool all_up(struct holder *h)
{
	return h->up == h->target;
}

static bool all_carried(struct holder *h)
{
	return h->carrying == 0 && h->next_carry == h->target;
}

static bool all_spread(struct holder *h)
{
	return h->spread == h->started;
}

static bool all_gone(struct holder *h)
{
	return h->up == 0 && h->opening == 0;
}

static void wait_s(struct holder *h, const char *what, unsigned seconds)
{
	if (seconds > 0) {
		(void)run_until(h, what, never, seconds); /* for as long as that */
	}
}

static double per(double value, double n)
{
	return n > 0 ? value / n : 0;
}

static void say_step(struct holder *h, const char *step, const struct bench_usage *base,
	const struct bench_usage *before, double seconds)
{
	struct bench_usage now = bench_usage(h->o.pid);

	printf("{\"step\":\"%s\",\"connections\":%u,\"seconds\":%.2f,\"server_rss_kib\":%llu,"
	       "\"rss_per_connection_bytes\":%.0f,\"server_cpu_s\":%.3f,\"refused\":%u,\"reasons\":"
	       "{",
		step, h->up, seconds, (unsigned long long)(now.rss_bytes / 1024),
		per((double)now.rss_bytes - (double)base->rss_bytes, h->up),
		now.cpu_s - before->cpu_s, h->refusals);
	for (size_t i = 0; i < REASONS_MAX && h->reasons[i].count > 0; i++) {
		printf("%s\"%s\":%u", i > 0 ? "," : "", h->reasons[i].text, h->reasons[i].count);
	}
	puts("}}");
	fflush(stdout);
}

/* CPU of the server while it is held for so long, in seconds. */
static double hold_cpu_s(struct holder *h, const char *what)
{
	double before = bench_usage(h->o.pid).cpu_s;

	wait_s(h, what, h->o.hold_s);
	return bench_usage(h->o.pid).cpu_s - before;
}

/* Keep-alives and nothing else, first with processors that sleep between them, then with processors
 * that do not. */
static void step_hold(struct holder *h, const struct bench_usage *base)
{
	double exchanges, asleep_s, awake_s;
	struct bench_usage after;

	if (h->o.hold_s == 0 || h->up < HOLD_MIN) {
		return;
	}
	h->spread = 0;
	h->spread_since_ns = mt_driver_now_ns(h->side.driver);
	(void)run_until(
		h, "spread", all_spread, 2 * h->o.keep_alive_ms / 1000 + 1); /* the hold tells */
	h->spread_since_ns = 0;
	asleep_s = hold_cpu_s(h, "hold");
	bench_stay_awake();
	awake_s = hold_cpu_s(h, "awake");
	bench_let_sleep();
	after = bench_usage(h->o.pid);
	exchanges = (double)h->up * h->o.hold_s * 1000 / h->o.keep_alive_ms;
	printf("{\"step\":\"hold\",\"connections\":%u,\"seconds\":%u,\"server_rss_kib\":%llu,"
	       "\"rss_per_connection_bytes\":%.0f,\"server_cpu_s\":%.3f,"
	       "\"cpu_us_per_keep_alive\":%.2f,\"cpu_us_per_keep_alive_asleep\":%.2f}\n",
		h->up, h->o.hold_s, (unsigned long long)(after.rss_bytes / 1024),
		per((double)after.rss_bytes - (double)base->rss_bytes, h->up), awake_s,
		per(awake_s * 1e6, exchanges), per(asleep_s * 1e6, exchanges));
	fflush(stdout);
}

static void on_line(uv_poll_t *poll, int status, int events)
{
	struct holder *h = poll->data;
	char line[64];

	(void)status;
	(void)events;
	if (read(STDIN_FILENO, line, sizeof(line)) >= 0) {
		h->told = true; /* also by the end of it */
	}
}

static bool was_told(struct holder *h)
{
	return h->told;
}

/* For whoever wants to look at the server meanwhile: until there is something to read. */
static void step_wait(struct holder *h)
{
	uv_poll_t poll = {.data = h};

	if (!h->o.wait || uv_poll_init(&h->side.loop, &poll, STDIN_FILENO) != 0) {
		return;
	}
	printf("{\"step\":\"wait\",\"connections\":%u}\n", h->up);
	fflush(stdout);
	h->told = false;
	(void)uv_poll_start(&poll, UV_READABLE, on_line);   /* has a callback: cannot fail */
	(void)run_until(h, "wait", was_told, h->o.limit_s); /* goes on either way */
	uv_close((uv_handle_t *)&poll, NULL);
	(void)uv_run(&h->side.loop, UV_RUN_NOWAIT); /* `poll` ends here */
}

/* Connects up to `count` in all, and sees what it costs to hold them. */
static void step_count(struct holder *h, const struct bench_usage *base, unsigned count)
{
	struct bench_usage before = bench_usage(h->o.pid);
	uint64_t begin = uv_hrtime();

	h->target = count;
	start_more(h);
	if (!run_until(h, "connect", all_up, h->o.limit_s)) {
		fprintf(stderr, "\nholder: not all are up after %u s\n", h->o.limit_s);
	}
	wait_s(h, "settle", h->o.settle_s);
	say_step(h, "connect", base, &before, (double)(uv_hrtime() - begin) / 1e9);
	step_hold(h, base);
	step_wait(h);
}

static void step_tunnels(struct holder *h, const struct bench_usage *base)
{
	struct bench_usage before = bench_usage(h->o.pid);
	uint64_t begin = uv_hrtime();

	if (!h->o.tunnels || !h->o.has_target) {
		return;
	}
	h->carries = true;
	carry_more(h);
	(void)run_until(h, "tunnels", all_carried, h->o.limit_s); /* told by what is said */
	h->carries = false;
	wait_s(h, "settle", h->o.settle_s);
	say_step(h, "tunnels", base, &before, (double)(uv_hrtime() - begin) / 1e9);
	step_wait(h);
}

static void step_leave(struct holder *h)
{
	struct bench_usage before = bench_usage(h->o.pid), after;
	uint64_t begin = uv_hrtime();
	unsigned had = h->up;

	h->leaving = true; /* whatever else was to come; the timer does it */
	(void)run_until(h, "leave", all_gone, LEAVE_S); /* told by what is said */
	wait_s(h, "settle", h->o.settle_s);
	after = bench_usage(h->o.pid);
	printf("{\"step\":\"leave\",\"connections\":%u,\"seconds\":%.2f,\"had\":%u,\"left\":%u,"
	       "\"dropped\":%llu,\"server_rss_kib\":%llu,\"server_cpu_s\":%.3f}\n",
		h->up, (double)(uv_hrtime() - begin) / 1e9, had, h->left,
		(unsigned long long)mt_driver_tx_stats(h->side.driver)->dropped,
		(unsigned long long)(after.rss_bytes / 1024), after.cpu_s - before.cpu_s);
	fflush(stdout);
}

static void run_steps(struct holder *h)
{
	struct bench_usage base = bench_usage(h->o.pid);

	say_step(h, "start", &base, &base, 0);
	(void)uv_timer_start(&h->timer, on_timer, 1, 1); /* has a callback: cannot fail */
	for (unsigned i = 0; i < h->o.counts; i++) {
		step_count(h, &base, h->o.count[i]);
	}
	step_tunnels(h, &base);
	step_leave(h);
	(void)uv_timer_stop(&h->timer); /* never fails */
}

static void on_slice_end(int number)
{
	(void)number;
	(void)sched_yield(); /* cannot fail on Linux */
}

/* What would run on other machines gets what nobody else wants of these processors. By its priority
 * alone it would keep one that it has got until the next tick, 4 ms at times, while others wait.
 */
static void give_way(void)
{
	const struct sched_param none = {0};
	const struct sigaction action = {.sa_handler = on_slice_end, .sa_flags = SA_RESTART};
	const struct itimerval slice = {{0, SLICE_US}, {0, SLICE_US}};

	if (sched_setscheduler(0, SCHED_IDLE, &none) != 0 ||
		sigaction(SIGALRM, &action, NULL) != 0 ||
		setitimer(ITIMER_REAL, &slice, NULL) != 0) {
		bench_die("priority", -errno);
	}
}

int main(int argc, char **argv)
{
	static struct holder h;
	struct bench_side_config config = {
		.buffer_bytes = BUFFER_BYTES,
		.reads_first = true,
		.events = {.on_established = on_established, .on_end = on_end, .user = &h},
	};

	holder_options_parse(&h.o, argc, argv);
	if (h.o.idle) {
		give_way();
	}
	config.profile = h.o.profile;
	config.sockets = h.o.sockets;
	bench_side_open(&h.side, &config);
	(void)uv_timer_init(&h.side.loop, &h.timer); /* never fails */
	h.timer.data = &h;
	h.held = calloc(h.o.count[h.o.counts - 1] + 1, sizeof(*h.held));
	if (h.held == NULL) {
		bench_die("connections", -ENOMEM);
	}
	run_steps(&h);
	uv_close((uv_handle_t *)&h.timer, NULL);
	bench_side_close(&h.side);
	free(h.held);
	return 0;
}
