/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/err.c proto/wire/profile.c proto/wire/request.c tests/bench/lib/watch.c
 * tests/bench/lib/holder_probe.c tests/bench/lib/holder_options.c proto/quic/order.c
 * proto/quic/calm.c
 */
/* Many real clients in one process: tens of thousands of connections with client certificates over
 * a few sockets, for what a server needs to hold them. Prints a line of JSON for each step:
 *
 *   start     the server before anybody came
 *   probe     new tunnels on one connection, one after the other
 *   connect   so many connections established; why others were refused
 *   hold      keep-alives, evenly spread, and nothing else
 *   probe     the same as above beside all of them; these three for each number of connections
 *   tunnels   each connection has carried one small tunnel
 *   wait      with --wait
 *   leave     all of them gone again
 */
#include "tests/bench/lib/holder.h"
#include "tests/bench/lib/holder_options.h"

#include "proto/quic/identity.h"
#include "proto/wire/profile.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS         1000000000ull
#define MS_NS             1000000ull
#define REASONS_MAX       8
#define STARTS_A_TURN     50u   /* so that those who came before are served between */
#define CONNECTING_S      45u   /* between keep-alives until all are there */
#define HOLD_MIN          1000u /* fewer tell nothing about keep-alives */
#define BACKOFF_NS        (2 * SECOND_NS)
#define BACKOFF_DOUBLINGS 2u

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
	struct mt_tls_client *tls;
	struct mt_addr server;
	struct mt_udp_socket *sockets[HOLDER_SOCKETS_MAX];
	struct held *held;
	unsigned target;  /* how many are to be held by now */
	unsigned started; /* index of the next one to start */
	unsigned again;   /* where to look for one that was refused */
	unsigned opening;
	unsigned up;
	unsigned carried;
	unsigned carrying;
	unsigned next_carry;
	unsigned spread; /* so many send their keep-alives in turn */
	uint64_t spread_since_ns;
	double idle_cpu; /* of the server for each second of the last hold */
	bool leaving;
	bool told;
	struct reason reasons[REASONS_MAX];
	unsigned refusals;
	uv_timer_t timer;
};

void bench_die(const char *what, int err)
{
	fprintf(stderr, "holder: %s: %s\n", what, mt_strerror(err));
	exit(1);
}

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
	struct mt_udp_socket *socket =
		h->sockets[(size_t)(c - h->held) % (h->o.sockets > 0 ? h->o.sockets : 1)];
	const struct mt_path path = {.local = socket->local, .remote = h->server, .socket = socket};
	int err = mt_endpoint_connect(mt_driver_endpoint(h->side.driver), &path, h->tls,
		mt_driver_now_ns(h->side.driver), &c->conn);

	if (err != 0) {
		bench_die("connect", err);
	}
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
	unsigned budget = STARTS_A_TURN;
	struct held *c;

	for (; h->opening < h->o.at_once && h->started < h->target && budget > 0; budget--) {
		start_one(h, &h->held[h->started++]);
	}
	while (h->up + h->opening < h->started && h->opening < h->o.at_once && budget > 0 &&
		(c = next_again(h, now)) != NULL) {
		start_one(h, c);
		budget--;
	}
}

static void on_established(void *user, struct mt_conn *conn)
{
	struct holder *h = user;
	struct held *c = mt_conn_user(conn);

	if (c == NULL) { /* the probe's */
		bench_probe_connected(&h->side);
		return;
	}
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

	if (c == NULL) {
		if (!h->leaving) {
			bench_die(end->reason[0] != '\0' ? end->reason : "the probe's connection",
				end->err);
		}
		return;
	}
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
	while (h->carrying < h->o.at_once && h->next_carry < h->target) {
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

static void on_timer(uv_timer_t *timer)
{
	struct holder *h = timer->data;

	start_more(h);
	if (h->spread_since_ns != 0) {
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

static void step_hold(struct holder *h, const struct bench_usage *base)
{
	struct bench_usage before, after;
	double exchanges;

	if (h->o.hold_s == 0 || h->up < HOLD_MIN) {
		return;
	}
	h->spread = 0;
	h->spread_since_ns = mt_driver_now_ns(h->side.driver);
	(void)run_until(
		h, "spread", all_spread, 2 * h->o.keep_alive_ms / 1000 + 1); /* the hold tells */
	h->spread_since_ns = 0;
	before = bench_usage(h->o.pid);
	wait_s(h, "hold", h->o.hold_s);
	after = bench_usage(h->o.pid);
	exchanges = (double)h->up * h->o.hold_s * 1000 / h->o.keep_alive_ms;
	h->idle_cpu = (after.cpu_s - before.cpu_s) / h->o.hold_s;
	printf("{\"step\":\"hold\",\"connections\":%u,\"seconds\":%u,\"server_rss_kib\":%llu,"
	       "\"rss_per_connection_bytes\":%.0f,\"server_cpu_s\":%.3f,"
	       "\"cpu_us_per_keep_alive\":%.2f}\n",
		h->up, h->o.hold_s, (unsigned long long)(after.rss_bytes / 1024),
		per((double)after.rss_bytes - (double)base->rss_bytes, h->up),
		after.cpu_s - before.cpu_s, per((after.cpu_s - before.cpu_s) * 1e6, exchanges));
	fflush(stdout);
}

static void step_probe(struct holder *h)
{
	if (h->o.has_target && h->o.probe_s > 0) {
		bench_probe(&h->side, &h->o.target, h->o.probe_s, h->o.pid, h->up, h->idle_cpu);
	}
}

static void leave(struct holder *h)
{
	h->leaving = true;
	(void)uv_timer_stop(&h->timer); /* never fails */
	for (unsigned i = 0; i < h->started; i++) {
		if (h->held[i].conn != NULL) {
			mt_conn_close(h->held[i].conn, MT_APP_NONE, "");
		}
		if (i % 500 == 0) { /* in pieces that the server's socket takes */
			(void)uv_run(&h->side.loop, UV_RUN_NOWAIT);
		}
	}
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
	step_probe(h);
}

static void step_tunnels(struct holder *h, const struct bench_usage *base)
{
	struct bench_usage before = bench_usage(h->o.pid);
	uint64_t begin = uv_hrtime();

	if (h->o.tunnels && h->o.has_target) {
		carry_more(h);
		(void)run_until(h, "tunnels", all_carried, h->o.limit_s); /* told by what is said */
		wait_s(h, "settle", h->o.settle_s);
		say_step(h, "tunnels", base, &before, (double)(uv_hrtime() - begin) / 1e9);
	}
}

static void on_line(uv_poll_t *poll, int status, int events)
{
	struct holder *h = poll->data;

	(void)status;
	(void)events;
	h->told = true;
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
	(void)uv_poll_start(&poll, UV_READABLE, on_line);   /* has a callback: cannot fail */
	(void)run_until(h, "wait", was_told, h->o.limit_s); /* goes on either way */
	uv_close((uv_handle_t *)&poll, NULL);
	(void)uv_run(&h->side.loop, UV_RUN_NOWAIT); /* `poll` ends here */
}

static void run_steps(struct holder *h)
{
	struct bench_usage base = bench_usage(h->o.pid), before;
	uint64_t begin;

	say_step(h, "start", &base, &base, 0);
	step_probe(h);
	(void)uv_timer_start(&h->timer, on_timer, 1, 1); /* has a callback: cannot fail */
	for (unsigned i = 0; i < h->o.counts; i++) {
		step_count(h, &base, h->o.count[i]);
	}
	step_tunnels(h, &base);
	step_wait(h);
	before = bench_usage(h->o.pid);
	begin = uv_hrtime();
	leave(h);
	(void)run_until(h, "leave", all_gone, 60); /* told by what is said */
	wait_s(h, "settle", h->o.settle_s);
	say_step(h, "leave", &base, &before, (double)(uv_hrtime() - begin) / 1e9);
}

/* ---- set-up ---- */

static void load_profile(struct holder *h)
{
	char text[MT_PROFILE_MAX + 2];
	struct mt_profile profile;
	struct mt_tls_client_config config = {.host = profile.host};
	char addr[300];
	const char *what = "";
	FILE *file = fopen(h->o.profile, "re");
	size_t n;
	int err;

	if (file == NULL) {
		bench_die(h->o.profile, -errno);
	}
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	(void)fclose(file); /* was only read */
	err = mt_profile_parse(&profile, text, NULL, &what);
	if (err != 0) {
		bench_die(what, err);
	}
	config.has_key = profile.has_key;
	memcpy(config.key, profile.key, sizeof(config.key));
	config.pin_count = profile.pin_count;
	memcpy(config.pins, profile.pins, sizeof(config.pins));
	err = mt_tls_client_new(&h->tls, &config);
	if (err != 0) {
		bench_die("credentials", err);
	}
	(void)snprintf(addr, sizeof(addr), strchr(profile.host, ':') ? "[%s]:%u" : "%s:%u",
		profile.host, profile.port); /* fits: the host has at most 255 bytes */
	err = mt_addr_parse(&h->server, addr);
	if (err != 0) {
		bench_die("the profile's host is no address", err);
	}
	mt_profile_deinit(&profile);
}

static void open_side(struct holder *h)
{
	const struct mt_udp_options options = {.connect_ok = true};
	struct mt_endpoint_config config = {
		.counters = &h->side.counters,
		.events = {.on_established = on_established, .on_end = on_end, .user = h},
		.limits = {.max_connections = UINT32_MAX,
			.max_streams = 100,
			.idle_timeout_ns = 120 * SECOND_NS,
			.max_stream_window = 256u << 10,
			.max_conn_window = 1u << 20,
			.max_udp_payload = MT_UDP_PAYLOAD_CEILING,
			.congestion_control = MT_CC_BBR},
		.worker_count = 1,
	};
	struct mt_addr bind_to;
	int err = uv_loop_init(&h->side.loop);

	h->side.mem = mt_mem_new();
	config.mem = h->side.mem;
	err = err == 0 ? mt_driver_new(&h->side.driver, &h->side.loop, &config) : err;
	err = err == 0 ? mt_addr_parse(&bind_to,
				 h->server.sa.sa_family == AF_INET6 ? "[::1]:0" : "127.0.0.1:0")
		       : err;
	for (unsigned i = 0; err == 0 && i < h->o.sockets; i++) {
		err = mt_driver_open_socket(h->side.driver, &bind_to, &options, &h->sockets[i]);
	}
	if (err != 0) {
		bench_die("sockets", err);
	}
	h->side.path = (struct mt_path){
		.local = h->sockets[0]->local, .remote = h->server, .socket = h->sockets[0]};
	h->side.tls = h->tls;
	(void)uv_timer_init(&h->side.loop, &h->timer); /* never fails */
	h->timer.data = h;
}

int main(int argc, char **argv)
{
	static struct holder h;

	holder_options_parse(&h.o, argc, argv);
	load_profile(&h);
	open_side(&h);
	h.held = calloc(h.o.count[h.o.counts - 1] + 1, sizeof(*h.held));
	if (h.held == NULL) {
		bench_die("connections", -ENOMEM);
	}
	run_steps(&h);
	mt_driver_free(h.side.driver);
	uv_close((uv_handle_t *)&h.timer, NULL);
	(void)uv_run(&h.side.loop, UV_RUN_DEFAULT);
	mt_tls_client_unref(h.tls);
	mt_mem_free(h.side.mem);
	free(h.held);
	return 0;
}
