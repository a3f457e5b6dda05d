/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/defer.c proto/quic/endpoint.c
 * proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c proto/quic/memory.c
 * proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c proto/quic/tls_verify.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/wire/profile.c
 * proto/wire/request.c tests/bench/lib/watch.c tests/bench/lib/holder_probe.c
 * proto/quic/order.c
 */
/* Many real clients in one process: tens of thousands of connections with client certificates over
 * a few sockets, for what a server needs to hold them. Prints a line of JSON for each step:
 *
 *   start     the server before anybody came
 *   probe     new tunnels on one connection, one after the other
 *   connect   all connections established, or refused
 *   hold      keep-alives and nothing else
 *   tunnels   each connection has carried one small tunnel
 *   probe     the same as above beside all of them
 *   leave     all of them gone again
 */
#include "tests/bench/lib/holder.h"

#include "proto/quic/identity.h"
#include "proto/wire/profile.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS   1000000000ull
#define SOCKETS_MAX 16
#define REASONS_MAX 8

struct held {
	struct holder *holder;
	struct mt_conn *conn;
	uint64_t again_ns; /* refused: when to try again */
	bool up;
	bool carried;
};

struct options {
	unsigned count;
	unsigned at_once;
	unsigned sockets;
	unsigned keep_alive_s;
	unsigned hold_s;
	unsigned probe_s;
	unsigned settle_s;
	unsigned limit_s;
	bool tunnels;
	pid_t pid;
	struct mt_addr target;
	bool has_target;
	const char *profile;
};

struct reason {
	char text[128];
	unsigned count;
};

struct holder {
	struct options o;
	struct bench_side side;
	struct mt_tls_client *tls;
	struct mt_addr server;
	struct mt_udp_socket *sockets[SOCKETS_MAX];
	struct held *held;
	unsigned started; /* index of the next one to start */
	unsigned opening;
	unsigned up;
	unsigned carried;
	unsigned carrying;
	unsigned next_carry;
	bool leaving;
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

static void start_more(struct holder *h)
{
	uint64_t now = mt_driver_now_ns(h->side.driver);

	for (; h->opening < h->o.at_once && h->started < h->o.count; h->started++) {
		start_one(h, &h->held[h->started]);
	}
	for (unsigned i = 0; h->refusals > 0 && i < h->started && h->opening < h->o.at_once; i++) {
		struct held *c = &h->held[i];

		if (c->conn == NULL && c->again_ns != 0 && c->again_ns <= now) {
			start_one(h, c);
		}
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
	mt_conn_set_keep_alive(conn, h->o.keep_alive_s * SECOND_NS);
	start_more(h);
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
		c->again_ns = mt_driver_now_ns(h->side.driver) + SECOND_NS;
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
	while (h->carrying < h->o.at_once && h->next_carry < h->o.count) {
		struct held *c = &h->held[h->next_carry++];

		if (c->up) {
			h->carrying++;
			bench_tunnel(c->conn, &h->o.target, on_carried, c);
		}
	}
}

/* ---- steps ---- */

static void on_timer(uv_timer_t *timer)
{
	start_more(timer->data);
}

static void progress(struct holder *h, const char *what)
{
	fprintf(stderr, "\r%-8s %7u of %u up, %u under way, %u refused, %u carried   ", what, h->up,
		h->o.count, h->opening, h->refusals, h->carried);
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
	return h->up == h->o.count;
}

static bool all_carried(struct holder *h)
{
	return h->carrying == 0 && h->next_carry == h->o.count;
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
	       "\"rss_per_connection_bytes\":%.0f,\"server_cpu_s\":%.3f,\"refused\":%u}\n",
		step, h->up, seconds, (unsigned long long)(now.rss_bytes / 1024),
		per((double)now.rss_bytes - (double)base->rss_bytes, h->up),
		now.cpu_s - before->cpu_s, h->refusals);
	fflush(stdout);
}

static void step_hold(struct holder *h, const struct bench_usage *base)
{
	struct bench_usage before, after;
	double exchanges;

	if (h->o.hold_s == 0) {
		return;
	}
	before = bench_usage(h->o.pid);
	wait_s(h, "hold", h->o.hold_s);
	after = bench_usage(h->o.pid);
	exchanges = (double)h->up * h->o.hold_s / h->o.keep_alive_s;
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
		bench_probe(&h->side, &h->o.target, h->o.probe_s, h->o.pid, h->up);
	}
}

static void leave(struct holder *h)
{
	h->leaving = true;
	(void)uv_timer_stop(&h->timer); /* never fails */
	for (unsigned i = 0; i < h->o.count; i++) {
		if (h->held[i].conn != NULL) {
			mt_conn_close(h->held[i].conn, MT_APP_NONE, "");
		}
		if (i % 500 == 0) { /* in pieces that the server's socket takes */
			(void)uv_run(&h->side.loop, UV_RUN_NOWAIT);
		}
	}
}

static void run_steps(struct holder *h)
{
	struct bench_usage base = bench_usage(h->o.pid), before;
	uint64_t begin;

	say_step(h, "start", &base, &base, 0);
	step_probe(h);
	before = bench_usage(h->o.pid);
	begin = uv_hrtime();
	start_more(h);
	(void)uv_timer_start(&h->timer, on_timer, 100, 100); /* has a callback: cannot fail */
	if (!run_until(h, "connect", all_up, h->o.limit_s)) {
		fprintf(stderr, "\nholder: not all are up after %u s\n", h->o.limit_s);
	}
	say_step(h, "connect", &base, &before, (double)(uv_hrtime() - begin) / 1e9);
	for (size_t i = 0; i < REASONS_MAX && h->reasons[i].count > 0; i++) {
		fprintf(stderr, "refused %u times: %s\n", h->reasons[i].count, h->reasons[i].text);
	}
	wait_s(h, "settle", h->o.settle_s);
	step_hold(h, &base);
	step_probe(h);
	if (h->o.tunnels && h->o.has_target) {
		before = bench_usage(h->o.pid);
		begin = uv_hrtime();
		carry_more(h);
		(void)run_until(h, "tunnels", all_carried, h->o.limit_s); /* told by what is said */
		wait_s(h, "settle", h->o.settle_s);
		say_step(h, "tunnels", &base, &before, (double)(uv_hrtime() - begin) / 1e9);
	}
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
			.max_udp_payload = 1452,
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

static unsigned number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n > 10000000) {
		fprintf(stderr, "holder: '%s' is no number\n", text);
		exit(2);
	}
	return (unsigned)n;
}

static void usage(FILE *to)
{
	fputs("usage: holder [OPTION]... PROFILE\n"
	      "  --count N        connections to hold (10000)\n"
	      "  --at-once N      handshakes, and tunnels, under way at a time (64)\n"
	      "  --sockets N      UDP sockets to use (4)\n"
	      "  --keep-alive S   seconds between keep-alives (15)\n"
	      "  --hold S         seconds to hold them (30)\n"
	      "  --settle S       seconds to wait before memory is looked at (5)\n"
	      "  --target IP:PORT an echo server: probes, and with --tunnels one tunnel each\n"
	      "  --probe S        seconds of each probe (5)\n"
	      "  --tunnels        let each connection carry one tunnel\n"
	      "  --pid PID        the server's, for its memory and CPU\n"
	      "  --limit S        give up connecting after so long (600)\n"
	      "example: holder --count 10000 --pid $(pidof mytunneld) laptop.uri\n",
		to);
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {{"count", 1, NULL, 'c'}, {"at-once", 1, NULL, 'a'},
		{"sockets", 1, NULL, 's'}, {"keep-alive", 1, NULL, 'k'}, {"hold", 1, NULL, 'h'},
		{"settle", 1, NULL, 'w'}, {"target", 1, NULL, 't'}, {"probe", 1, NULL, 'p'},
		{"tunnels", 0, NULL, 'T'}, {"pid", 1, NULL, 'P'}, {"limit", 1, NULL, 'l'},
		{"help", 0, NULL, 'H'}, {NULL, 0, NULL, 0}};
	int c;

	*o = (struct options){.count = 10000,
		.at_once = 64,
		.sockets = 4,
		.keep_alive_s = 15,
		.hold_s = 30,
		.settle_s = 5,
		.probe_s = 5,
		.limit_s = 600};
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'c': o->count = number(optarg); break;
		case 'a': o->at_once = number(optarg); break;
		case 's': o->sockets = number(optarg); break;
		case 'k': o->keep_alive_s = number(optarg); break;
		case 'h': o->hold_s = number(optarg); break;
		case 'w': o->settle_s = number(optarg); break;
		case 'p': o->probe_s = number(optarg); break;
		case 'l': o->limit_s = number(optarg); break;
		case 'T': o->tunnels = true; break;
		case 'P': o->pid = (pid_t)number(optarg); break;
		case 't':
			o->has_target = mt_addr_parse(&o->target, optarg) == 0;
			if (!o->has_target) {
				fprintf(stderr, "holder: '%s' is no IP:PORT\n", optarg);
				exit(2);
			}
			break;
		case 'H': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (optind + 1 != argc || o->sockets == 0 || o->sockets > SOCKETS_MAX || o->at_once == 0 ||
		o->keep_alive_s == 0) {
		usage(stderr);
		exit(2);
	}
	o->profile = argv[optind];
}

int main(int argc, char **argv)
{
	static struct holder h;

	parse(&h.o, argc, argv);
	load_profile(&h);
	open_side(&h);
	h.held = calloc(h.o.count + 1, sizeof(*h.held));
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
