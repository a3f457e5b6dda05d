/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/err.c proto/wire/profile.c proto/wire/request.c proto/quic/order.c proto/quic/room.c
 * proto/quic/calm.c tests/bench/lib/watch.c tests/bench/lib/side.c tests/bench/lib/tunnel.c
 * tests/bench/lib/awake.c
 */
/* Tunnels one after the other on a connection of their own for so many seconds:
 *
 *   probe PROFILE SERVER_PID TARGET SECONDS
 *
 * Prints a line of JSON: how many, their latency, the server's CPU meanwhile. A program of its own,
 * so that nothing but the server keeps it waiting: see tests/bench/hold.py. The processors are kept
 * from sleeping meanwhile.
 */
#include "proto/wire/request.h"
#include "tests/bench/lib/awake.h"
#include "tests/bench/lib/side.h"
#include "tests/bench/lib/tunnel.h"
#include "tests/bench/lib/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLES_MAX 1000000u
#define WARM        200u /* tunnels that are not measured */

struct probe {
	struct bench_side side;
	struct mt_conn *conn;
	struct mt_addr target;
	uint64_t until_ns;
	bool connected;
	bool over;
	bool closing;
	double *samples;
	size_t count;
	size_t most;
};

/* The loop may call these before it waits: what stands still then is not waited for (uv_stop). */
static void on_done(void *user, double ms)
{
	struct probe *p = user;

	if (p->count < SAMPLES_MAX) {
		p->samples[p->count++] = ms;
	}
	if (uv_hrtime() >= p->until_ns || p->count == p->most) {
		p->over = true;
		uv_stop(&p->side.loop);
	} else {
		bench_tunnel(p->conn, &p->target, on_done, p);
	}
}

static void on_established(void *user, struct mt_conn *conn)
{
	struct probe *p = user;

	(void)conn;
	p->connected = true;
	uv_stop(&p->side.loop);
}

static void on_end(void *user, struct mt_conn *conn, const struct mt_conn_end *end)
{
	struct probe *p = user;

	(void)conn;
	p->conn = NULL;
	uv_stop(&p->side.loop);
	if (!p->closing) {
		bench_die(end->reason[0] != '\0' ? end->reason : "the connection", end->err);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* As many tunnels as fit into the time, and no more than `most`. */
static void run(struct probe *p, uint64_t length_ns, size_t most)
{
	p->over = false;
	p->count = 0;
	p->most = most;
	p->until_ns = uv_hrtime() + length_ns;
	bench_tunnel(p->conn, &p->target, on_done, p);
	while (!p->over) {
		(void)uv_run(&p->side.loop, UV_RUN_ONCE);
	}
}

static void measure(struct probe *p, pid_t pid, double seconds)
{
	struct bench_usage before, after;
	uint64_t begin, end;

	run(p, UINT64_MAX / 2, WARM);
	before = bench_usage(pid);
	begin = uv_hrtime();
	run(p, (uint64_t)(seconds * 1e9), SAMPLES_MAX);
	end = uv_hrtime();
	after = bench_usage(pid);
	qsort(p->samples, p->count, sizeof(*p->samples), by_value);
	printf("{\"tunnels\":%zu,\"seconds\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
	       "\"max_ms\":%.3f,\"server_cpu_s\":%.6f}\n",
		p->count, (double)(end - begin) / 1e9, p->samples[p->count / 2],
		p->samples[p->count * 99 / 100], p->samples[p->count - 1],
		after.cpu_s - before.cpu_s);
}

static double number(const char *text, double most)
{
	char *end;
	double n = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(n >= 0 && n <= most)) {
		fprintf(stderr, "probe: '%s' is no such number\n", text);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static struct probe p;
	const struct bench_side_config config = {
		.profile = argv[1],
		.sockets = 1,
		.events = {.on_established = on_established, .on_end = on_end, .user = &p},
	};

	if (argc != 5 || mt_addr_parse(&p.target, argv[3]) != 0) {
		fputs("usage: probe PROFILE SERVER_PID IP:PORT SECONDS\n", stderr);
		return 2;
	}
	bench_stay_awake();
	bench_side_open(&p.side, &config);
	p.samples = calloc(SAMPLES_MAX, sizeof(*p.samples));
	if (p.samples == NULL) {
		bench_die("samples", -ENOMEM);
	}
	p.conn = bench_connect(&p.side, 0);
	while (!p.connected) {
		(void)uv_run(&p.side.loop, UV_RUN_ONCE);
	}
	measure(&p, (pid_t)number(argv[2], 1 << 30), number(argv[4], 600));
	bench_let_sleep();
	p.closing = true;
	mt_conn_close(p.conn, MT_APP_NONE, "");
	while (p.conn != NULL) {
		(void)uv_run(&p.side.loop, UV_RUN_ONCE);
	}
	bench_side_close(&p.side);
	free(p.samples);
	return 0;
}
