#include "proto/wire/request.h"
#include "tests/bench/lib/holder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_BYTES 1024u
#define SAMPLES_MAX   1000000u

struct bench_probe {
	uv_loop_t *loop; /* stopped when what is waited for has come: nothing else may wake it */
	struct mt_conn *conn;
	bool connected;
	bool over;
	uint64_t until_ns;
	struct mt_addr target;
	double *samples;
	size_t count;
};

struct tunnel {
	void (*done)(void *user, double ms);
	void *user;
	uint64_t begin_ns;
	size_t left; /* bytes still to come, the status first */
	bool has_status;
};

static void on_readable(struct mt_stream *s, void *user)
{
	struct tunnel *t = user;
	struct iovec iov;

	while (mt_stream_peek(s, &iov, 1) == 1) {
		if (!t->has_status && *(uint8_t *)iov.iov_base != 0) {
			fprintf(stderr, "holder: the server answered %u\n",
				*(uint8_t *)iov.iov_base);
			exit(1);
		}
		t->has_status = true;
		t->left -= iov.iov_len < t->left ? iov.iov_len : t->left;
		mt_stream_consume(s, iov.iov_len);
	}
	if (t->left == 0) {
		mt_stream_send_fin(s);
	}
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	struct tunnel *t = user;

	if (err != 0 || t->left > 0) {
		bench_die("a tunnel", err);
	}
	mt_stream_release(s, 0);
	t->done(t->user, (double)(uv_hrtime() - t->begin_ns) / 1e6);
	free(t);
}

static const struct mt_stream_handler handler = {.on_readable = on_readable, .on_end = on_end};

void bench_tunnel(struct mt_conn *conn, const struct mt_addr *target,
	void (*done)(void *user, double ms), void *user)
{
	static const uint8_t payload[PAYLOAD_BYTES];
	struct tunnel *t = calloc(1, sizeof(*t));
	uint8_t head[MT_REQUEST_MAX];
	char host[MT_ADDR_TEXT_MAX];
	struct mt_stream *s = NULL;
	size_t len;
	int err = t == NULL ? -ENOMEM : mt_conn_open_stream(conn, &s);

	if (err != 0) {
		bench_die("a tunnel", err);
	}
	(void)mt_addr_format_host(target, host, sizeof(host));
	len = mt_request_encode(head, sizeof(head), mt_addr_port(target), host, strlen(host));
	*t = (struct tunnel){
		.done = done, .user = user, .begin_ns = uv_hrtime(), .left = PAYLOAD_BYTES + 1};
	mt_stream_set_handler(s, &handler, t);
	err = mt_stream_send(s, head, len);
	if (err == 0) {
		err = mt_stream_send(s, payload, sizeof(payload));
	}
	if (err != 0) {
		bench_die("a tunnel's request", err);
	}
}

/* ---- the probe ---- */

static void on_probed(void *user, double ms)
{
	struct bench_probe *p = user;

	if (p->count < SAMPLES_MAX) {
		p->samples[p->count++] = ms;
	}
	if (uv_hrtime() >= p->until_ns) {
		p->over = true;
		uv_stop(p->loop);
	} else {
		bench_tunnel(p->conn, &p->target, on_probed, p);
	}
}

void bench_probe_connected(struct bench_side *side)
{
	side->probe->connected = true;
	uv_stop(&side->loop);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_probe(struct bench_side *side, const struct mt_addr *target, unsigned seconds, pid_t pid,
	unsigned beside, double idle_cpu)
{
	static struct bench_probe p;
	struct bench_usage before, after;
	uint64_t begin;
	double cpu_s;
	int err = 0;

	if (p.conn == NULL) {
		p.samples = calloc(SAMPLES_MAX, sizeof(*p.samples));
		p.target = *target;
		p.loop = &side->loop;
		side->probe = &p;
		err = p.samples == NULL
			      ? -ENOMEM
			      : mt_endpoint_connect(mt_driver_endpoint(side->driver), &side->path,
					side->tls, mt_driver_now_ns(side->driver), &p.conn);
		if (err != 0) {
			bench_die("the probe's connection", err);
		}
		while (!p.connected) {
			(void)uv_run(&side->loop, UV_RUN_ONCE);
		}
		mt_conn_set_keep_alive(p.conn, 10000000000ull);
	}
	p.over = false;
	p.count = 0;
	begin = uv_hrtime();
	p.until_ns = begin + seconds * 1000000000ull;
	before = bench_usage(pid);
	bench_tunnel(p.conn, &p.target, on_probed, &p);
	while (!p.over) {
		(void)uv_run(&side->loop, UV_RUN_ONCE);
	}
	after = bench_usage(pid);
	cpu_s = after.cpu_s - before.cpu_s - idle_cpu * (double)(uv_hrtime() - begin) / 1e9;
	qsort(p.samples, p.count, sizeof(*p.samples), by_value);
	printf("{\"step\":\"probe\",\"connections\":%u,\"tunnels\":%zu,\"per_second\":%.0f,"
	       "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"server_cpu_us\":%.1f}\n",
		beside, p.count, (double)p.count / seconds, p.samples[p.count / 2],
		p.samples[p.count * 99 / 100], cpu_s * 1e6 / (double)p.count);
	fflush(stdout);
}
