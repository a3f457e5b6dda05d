/* links: tests/sim/sim.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
/* How the ways of congestion control fare: two real endpoints in memory, a clock of their own, and
 * between them a link with a rate, a delay, a queue and losses. Nothing depends on the machine but
 * how long it takes. `congestion --help` tells the options; tests/bench/congestion.py draws.
 */
#include "tests/sim/sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLOWS_MAX     2
#define STREAMS_MAX   64
#define LIST_MAX      16
#define TICK_NS       50000u /* a timer of the driver is late by half of it, measured */
#define MI            (1024u * 1024u)
#define NS_PER_S      1000000000ull
#define QUEUE_FIXED   131072u
#define BITS_PER_MBIT 1e6

static const char usage[] =
	"usage: congestion [OPTION LIST]...\n"
	"  --cc cubic,bbr,reno        congestion control of the sending server\n"
	"  --second CC                a second connection with CC, later\n"
	"  --rate 10,100,1000,5000    Mbit/s of the link\n"
	"  --rtt 5,20,100,300         ms there and back, without queues\n"
	"  --loss 0,1,10,30           packets of 1,000 lost by chance, each way\n"
	"  --queue 0.25,1,4,128k      before the link: rate x RTT times that, or 128 KiB\n"
	"  --streams 8                of each connection\n"
	"  --stream-window 8388608    bytes; --conn-window 33554432\n"
	"  --tick 50                  us from wake-up to wake-up of either side\n"
	"  --seconds 0                of simulated time; 0: by rate and RTT\n"
	"  --seed 1\n"
	"Prints a table, one line for each combination, columns separated by tabs.\n";

struct flow {
	struct bench *bench;
	struct mt_conn *client;
	struct mt_conn *server;
	enum mt_cc cc;
	uint64_t received;
	uint64_t at_middle; /* of `received` */
	int ended;
};

struct bench {
	struct sim sim;
	struct flow flows[FLOWS_MAX];
	unsigned flow_count;
	unsigned streams;
	struct mt_stream *open[2 * FLOWS_MAX * STREAMS_MAX]; /* of both sides */
	size_t open_count;
	size_t memory_peak; /* of the server's pool */
};

struct cell {
	enum mt_cc cc;
	int second; /* enum mt_cc, or -1 */
	uint64_t rate_mbit;
	uint64_t rtt_ms;
	uint64_t loss_permille;
	double queue; /* in rate x RTT, 0: QUEUE_FIXED */
	uint64_t streams;
	uint64_t stream_window;
	uint64_t conn_window;
	uint64_t tick_us;
	uint64_t seconds;
	uint64_t seed;
};

static void fail(const char *what)
{
	fprintf(stderr, "congestion: %s\n", what);
	exit(1);
}

static void keep(struct bench *b, struct mt_stream *s)
{
	if (b->open_count == sizeof(b->open) / sizeof(b->open[0])) {
		fail("too many streams");
	}
	b->open[b->open_count++] = s;
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	struct flow *f = user;
	struct bench *b = f->bench;

	(void)err;
	for (size_t i = 0; i < b->open_count; i++) {
		if (b->open[i] == s) {
			b->open[i] = b->open[--b->open_count];
			break;
		}
	}
	mt_stream_release(s, 0);
}

/* What a busy target gives: always more than fits. */
static void fill(struct mt_stream *s, void *user)
{
	struct iovec iov[16];
	size_t n;

	(void)user;
	while ((n = mt_stream_reserve(s, iov, 16)) > 0) {
		size_t len = 0;

		for (size_t i = 0; i < n; i++) {
			len += iov[i].iov_len;
		}
		mt_stream_commit(s, len);
	}
}

static void drop(struct mt_stream *s, void *user)
{
	struct flow *f = user;
	size_t len = mt_stream_readable(s);

	mt_stream_consume(s, len);
	f->received += len;
}

static const struct mt_stream_handler sender = {.on_writable = fill, .on_end = on_stream_end};
static const struct mt_stream_handler receiver = {.on_readable = drop, .on_end = on_stream_end};

static void on_server_established(void *user, struct mt_conn *c)
{
	struct bench *b = user;

	b->flows[b->flow_count - 1].server = c; /* they start one after the other */
}

static void on_server_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct bench *b = user;
	struct flow *f = &b->flows[b->flows[0].server == c ? 0 : 1];

	keep(b, s);
	mt_stream_consume(s, mt_stream_readable(s));
	mt_stream_set_handler(s, &sender, f);
	fill(s, f);
}

static struct flow *flow_of(struct bench *b, const struct mt_conn *client)
{
	return &b->flows[b->flow_count > 1 && b->flows[1].client == client ? 1 : 0];
}

static void on_client_established(void *user, struct mt_conn *c)
{
	struct bench *b = user;
	struct flow *f = flow_of(b, c);

	for (unsigned i = 0; i < b->streams; i++) {
		struct mt_stream *s = NULL;

		if (mt_conn_open_stream(c, &s) != 0 || mt_stream_send(s, "x", 1) != 0) {
			fail("a stream cannot be opened");
		}
		keep(b, s);
		mt_stream_set_handler(s, &receiver, f);
	}
}

static void on_client_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	flow_of(user, c)->ended = end->err;
}

static bool sample_memory(void *user)
{
	struct bench *b = user;
	size_t used = mt_mem_used(b->sim.server.mem);

	b->memory_peak = used > b->memory_peak ? used : b->memory_peak;
	return false;
}

static void start_flow(struct bench *b, enum mt_cc cc, const struct cell *cell)
{
	struct mt_endpoint_limits limits = sim_limits();
	struct flow *f = &b->flows[b->flow_count++];

	limits.congestion_control = cc;
	mt_endpoint_set_limits(b->sim.server.ep, &limits);
	limits.congestion_control = MT_CC_CUBIC;
	limits.max_stream_window = cell->stream_window;
	limits.max_conn_window = cell->conn_window;
	mt_endpoint_set_limits(b->sim.client.ep, &limits);
	f->bench = b;
	f->cc = cc;
	f->client = sim_connect(&b->sim);
}

static uint64_t duration_ns(const struct cell *cell)
{
	uint64_t base_s = cell->rate_mbit >= 5000   ? 3
			  : cell->rate_mbit >= 1000 ? 6
			  : cell->rate_mbit >= 100  ? 10
						    : 20;
	uint64_t rtts = cell->rate_mbit >= 5000 ? 20 : cell->rate_mbit >= 1000 ? 30 : 50;
	uint64_t by_rtt_ns = rtts * cell->rtt_ms * SIM_MS;

	if (cell->seconds > 0) {
		return cell->seconds * NS_PER_S;
	}
	return by_rtt_ns > base_s * NS_PER_S ? by_rtt_ns : base_s * NS_PER_S;
}

static uint64_t queue_bytes(const struct cell *cell)
{
	double bdp = (double)cell->rate_mbit * BITS_PER_MBIT / 8 * (double)cell->rtt_ms / 1000;
	double bytes = cell->queue > 0 ? cell->queue * bdp : QUEUE_FIXED;

	return bytes < 3000 ? 3000 : (uint64_t)bytes; /* two packets at least */
}

static void print_header(void)
{
	printf("cc\tsecond\trate_mbit\trtt_ms\tloss_permille\tqueue\tstreams\tseconds\tshare\t"
	       "share_late\twait_p50_ms\twait_p95_ms\toverflow_permille\tfirst\tmemory_mib\t"
	       "ended\tcpu_s\n");
}

static void print_cell(const struct bench *b, const struct cell *cell, uint64_t ns, double cpu_s)
{
	const struct sim_link *link = &b->sim.server.link;
	double capacity = (double)cell->rate_mbit * BITS_PER_MBIT / 8 * (double)ns / NS_PER_S;
	double all = 0;
	double late = 0;
	double first_late = (double)(b->flows[0].received - b->flows[0].at_middle);
	int ended = 0;
	char queue[16] = "128k";

	for (unsigned i = 0; i < b->flow_count; i++) {
		all += (double)b->flows[i].received;
		late += (double)(b->flows[i].received - b->flows[i].at_middle);
		ended = b->flows[i].ended != 0 ? b->flows[i].ended : ended;
	}
	if (cell->queue > 0) {
		snprintf(queue, sizeof(queue), "%g", cell->queue);
	}
	printf("%s\t%s\t%lu\t%lu\t%lu\t%s\t%u\t%.1f\t%.3f\t%.3f\t%.2f\t%.2f\t%.2f\t%.3f\t%.1f\t%s\t"
	       "%.2f\n",
		mt_cc_text(cell->cc), cell->second < 0 ? "-" : mt_cc_text((enum mt_cc)cell->second),
		cell->rate_mbit, cell->rtt_ms, cell->loss_permille, queue, b->streams,
		(double)ns / NS_PER_S, all / capacity, late * 2 / capacity,
		(double)sim_link_wait_ns(link, 500) / SIM_MS,
		(double)sim_link_wait_ns(link, 950) / SIM_MS,
		1000.0 * (double)link->overflowed / (double)(link->overflowed + link->packets),
		late > 0 ? first_late / late : 0, (double)b->memory_peak / MI,
		ended == 0 ? "-" : mt_strerror(ended), cpu_s);
	fflush(stdout);
}

static void run_cell(const struct cell *cell)
{
	static struct bench b;
	struct mt_endpoint_events client = {
		.on_established = on_client_established, .on_end = on_client_end, .user = &b};
	struct mt_endpoint_events server = {
		.on_established = on_server_established, .on_stream = on_server_stream, .user = &b};
	struct sim_link link = {
		.rate_bps = cell->rate_mbit * 1000000u, .queue_bytes = queue_bytes(cell)};
	uint64_t ns = duration_ns(cell);
	clock_t begin = clock();

	memset(&b, 0, sizeof(b));
	sim_init(&b.sim, cell->seed, &client, &server);
	b.streams = (unsigned)cell->streams;
	b.sim.delay_ns = cell->rtt_ms * SIM_MS / 2;
	b.sim.loss_permille = (unsigned)cell->loss_permille;
	b.sim.tick_ns = cell->tick_us * 1000;
	b.sim.server.link = b.sim.client.link = link;
	start_flow(&b, cell->cc, cell);
	sim_run(&b.sim, sample_memory, &b, ns / 4);
	if (cell->second >= 0) {
		start_flow(&b, (enum mt_cc)cell->second, cell);
	}
	sim_run(&b.sim, sample_memory, &b, ns / 4);
	for (unsigned i = 0; i < b.flow_count; i++) {
		b.flows[i].at_middle = b.flows[i].received;
	}
	sim_run(&b.sim, sample_memory, &b, ns / 2);
	print_cell(&b, cell, ns, (double)(clock() - begin) / CLOCKS_PER_SEC);
	while (b.open_count > 0) {
		mt_stream_release(b.open[--b.open_count], 0);
	}
	sim_deinit(&b.sim);
}

/* Options: each a list. */
struct lists {
	enum mt_cc cc[LIST_MAX];
	size_t cc_count;
	double numbers[10][LIST_MAX];
	size_t counts[10];
};

enum number {
	RATE,
	RTT,
	LOSS,
	QUEUE,
	STREAMS,
	STREAM_WINDOW,
	CONN_WINDOW,
	TICK,
	SECONDS,
	SEED,
	NUMBERS,
};

static enum mt_cc parse_cc(const char *text)
{
	for (int cc = MT_CC_CUBIC; cc <= MT_CC_RENO; cc++) {
		if (strcmp(text, mt_cc_text((enum mt_cc)cc)) == 0) {
			return (enum mt_cc)cc;
		}
	}
	fail("--cc takes cubic, bbr and reno");
	return MT_CC_CUBIC;
}

static void parse_list(struct lists *l, int which, char *text)
{
	size_t n = 0;

	for (char *at = strtok(text, ","), *end; at != NULL; at = strtok(NULL, ",")) {
		if (n == LIST_MAX) {
			fail("a list is too long");
		}
		if (which < 0) {
			l->cc[n++] = parse_cc(at);
			continue;
		}
		l->numbers[which][n] = strtod(at, &end);
		if (which == QUEUE && strcmp(at, "128k") == 0) {
			l->numbers[which][n] = 0;
		} else if (end == at || *end != '\0' || l->numbers[which][n] < 0) {
			fail("that is no number");
		}
		n++;
	}
	*(which < 0 ? &l->cc_count : &l->counts[which]) = n;
}

static void run_all(const struct lists *l, int second)
{
	size_t at[NUMBERS] = {0};
	int i;

	for (;;) {
		const double(*v)[LIST_MAX] = l->numbers;

		for (size_t c = 0; c < l->cc_count; c++) {
			run_cell(&(struct cell){
				.cc = l->cc[c],
				.second = second,
				.rate_mbit = (uint64_t)v[RATE][at[RATE]],
				.rtt_ms = (uint64_t)v[RTT][at[RTT]],
				.loss_permille = (uint64_t)v[LOSS][at[LOSS]],
				.queue = v[QUEUE][at[QUEUE]],
				.streams = (uint64_t)v[STREAMS][at[STREAMS]],
				.stream_window = (uint64_t)v[STREAM_WINDOW][at[STREAM_WINDOW]],
				.conn_window = (uint64_t)v[CONN_WINDOW][at[CONN_WINDOW]],
				.tick_us = (uint64_t)v[TICK][at[TICK]],
				.seconds = (uint64_t)v[SECONDS][at[SECONDS]],
				.seed = (uint64_t)v[SEED][at[SEED]],
			});
		}
		for (i = NUMBERS - 1; i >= 0 && ++at[i] == l->counts[i]; i--) {
			at[i] = 0;
		}
		if (i < 0) {
			return;
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"rate", required_argument, NULL, RATE},
		{"rtt", required_argument, NULL, RTT},
		{"loss", required_argument, NULL, LOSS},
		{"queue", required_argument, NULL, QUEUE},
		{"streams", required_argument, NULL, STREAMS},
		{"stream-window", required_argument, NULL, STREAM_WINDOW},
		{"conn-window", required_argument, NULL, CONN_WINDOW},
		{"tick", required_argument, NULL, TICK},
		{"seconds", required_argument, NULL, SECONDS},
		{"seed", required_argument, NULL, SEED},
		{"cc", required_argument, NULL, 'c'},
		{"second", required_argument, NULL, '2'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static struct lists l = {
		.cc = {MT_CC_CUBIC, MT_CC_BBR, MT_CC_RENO},
		.cc_count = 3,
		.numbers = {{10, 100, 1000, 5000}, {5, 20, 100, 300}, {0, 1, 10, 30},
			{0.25, 1, 4, 0}, {8}, {8 * MI}, {32 * MI}, {TICK_NS / 1000}, {0}, {1}},
		.counts = {4, 4, 4, 4, 1, 1, 1, 1, 1, 1},
	};
	int second = -1;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h' || option == '?') {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
		if (option == '2') {
			second = (int)parse_cc(optarg);
		} else {
			parse_list(&l, option == 'c' ? -1 : option, optarg);
		}
	}
	for (size_t i = 0; i < l.counts[STREAMS]; i++) {
		if (l.numbers[STREAMS][i] < 1 || l.numbers[STREAMS][i] > STREAMS_MAX) {
			fail("1 to 64 streams");
		}
	}
	print_header();
	run_all(&l, second);
	return 0;
}
