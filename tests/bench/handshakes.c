/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/err.c proto/wire/profile.c proto/wire/request.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c tests/bench/lib/watch.c tests/bench/lib/side.c
 */
/* Connections that are made with a client's certificate and closed at once, so many at a time:
 *
 *   handshakes PROFILE SERVER_PID AT_ONCE WARM_SECONDS SECONDS
 *
 * Prints a line of JSON like that of `load`; the client's CPU is this program's own.
 */
#include "proto/wire/request.h"
#include "tests/bench/lib/side.h"
#include "tests/bench/lib/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECOND_NS   1000000000ull
#define AT_ONCE_MAX 1024u
#define SAMPLES_MAX 1000000u
#define LEAVE_NS    (2 * SECOND_NS)
#define PATIENCE_NS (20 * SECOND_NS)

struct run {
	struct bench_side side;
	uv_timer_t tick; /* lets the loop turn when nothing comes */
	unsigned at_once;
	unsigned open; /* connections that have not ended */
	uint64_t made;
	uint64_t failed;
	bool measured;
	float *samples_us;
	size_t sample_count;
};

struct attempt {
	uint64_t begin_ns;
	bool made;
};

static void start_one(struct run *r)
{
	struct attempt *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		bench_die("connect", -ENOMEM);
	}
	a->begin_ns = uv_hrtime();
	mt_conn_set_user(bench_connect(&r->side, 0), a);
	r->open++;
}

static void on_established(void *user, struct mt_conn *conn)
{
	struct attempt *a = mt_conn_user(conn);
	struct run *r = user;

	a->made = true;
	r->made++;
	if (r->measured && r->sample_count < SAMPLES_MAX) {
		r->samples_us[r->sample_count++] = (float)(uv_hrtime() - a->begin_ns) / 1000.0f;
	}
	mt_conn_close(conn, MT_APP_NONE, "");
}

static void on_end(void *user, struct mt_conn *conn, const struct mt_conn_end *end)
{
	struct attempt *a = mt_conn_user(conn);
	struct run *r = user;

	(void)end;
	r->failed += !a->made;
	r->open--;
	free(a);
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer;
}

static void open_run(struct run *r, const char *profile)
{
	const struct bench_side_config config = {
		.profile = profile,
		.sockets = 1,
		.events = {.on_established = on_established, .on_end = on_end, .user = r},
	};

	bench_side_open(&r->side, &config);
	r->samples_us = calloc(SAMPLES_MAX, sizeof(*r->samples_us));
	if (r->samples_us == NULL) {
		bench_die("samples", -ENOMEM);
	}
	(void)uv_timer_init(&r->side.loop, &r->tick);    /* never fails */
	(void)uv_timer_start(&r->tick, on_tick, 10, 10); /* has a callback: cannot fail */
}

/* And until `least` have been made, however busy the machine is. */
static void run_until(struct run *r, uint64_t end_ns, uint64_t least)
{
	while (uv_hrtime() < end_ns || (r->made < least && uv_hrtime() < end_ns + PATIENCE_NS)) {
		while (r->open < r->at_once) {
			start_one(r);
		}
		(void)uv_run(&r->side.loop, UV_RUN_ONCE);
	}
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void measure(struct run *r, pid_t server, double warm_s, double seconds)
{
	uint64_t begin = uv_hrtime() + (uint64_t)(warm_s * 1e9), made, end;
	struct bench_usage before, after, own_before, own_after;

	run_until(r, begin, 0);
	begin = uv_hrtime();
	before = bench_usage(server);
	own_before = bench_usage(getpid());
	made = r->made;
	r->measured = true;
	run_until(r, begin + (uint64_t)(seconds * 1e9), made + 1);
	end = uv_hrtime();
	after = bench_usage(server);
	own_after = bench_usage(getpid());
	made = r->made - made;
	printf("{\"seconds\":%.6f,\"units\":%llu,\"failed\":%llu", (double)(end - begin) / 1e9,
		(unsigned long long)made, (unsigned long long)r->failed);
	if (r->sample_count > 0) {
		qsort(r->samples_us, r->sample_count, sizeof(*r->samples_us), by_value);
		printf(",\"p50_us\":%.2f,\"p99_us\":%.2f",
			(double)r->samples_us[r->sample_count / 2],
			(double)r->samples_us[r->sample_count * 99 / 100]);
	}
	printf(",\"cpu_s\":{\"server\":%.6f,\"client\":%.6f},\"rss_kib\":{\"server\":%llu}}\n",
		after.cpu_s - before.cpu_s, own_after.cpu_s - own_before.cpu_s,
		(unsigned long long)(after.rss_bytes / 1024));
}

static double number(const char *text, double most)
{
	char *end;
	double n = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(n >= 0 && n <= most)) {
		fprintf(stderr, "handshakes: '%s' is no such number\n", text);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static struct run r;
	uint64_t until;

	if (argc != 6) {
		fputs("usage: handshakes PROFILE SERVER_PID AT_ONCE WARM_SECONDS SECONDS\n",
			stderr);
		return 2;
	}
	r.at_once = (unsigned)number(argv[3], AT_ONCE_MAX);
	open_run(&r, argv[1]);
	measure(&r, (pid_t)number(argv[2], 1 << 30), number(argv[4], 60), number(argv[5], 600));
	/* Those under way end in peace. */
	for (until = uv_hrtime() + LEAVE_NS; r.open > 0 && uv_hrtime() < until;) {
		(void)uv_run(&r.side.loop, UV_RUN_ONCE);
	}
	uv_close((uv_handle_t *)&r.tick, NULL);
	bench_side_close(&r.side);
	free(r.samples_us);
	return 0;
}
