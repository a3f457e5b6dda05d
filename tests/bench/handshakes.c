/* links: proto/io/driver.c proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c
 * proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c
 * proto/quic/conn_callbacks.c proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c
 * proto/quic/endpoint.c proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c
 * proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c
 * proto/quic/tls_verify.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/err.c proto/wire/profile.c proto/wire/request.c tests/bench/lib/watch.c
 * proto/quic/order.c
 * proto/quic/calm.c
 */
/* Connections that are made with a client's certificate and closed at once, so many at a time:
 *
 *   handshakes PROFILE SERVER_PID AT_ONCE WARM_SECONDS SECONDS
 *
 * Prints a line of JSON like that of `load`; the client's CPU is this program's own.
 */
#include "proto/io/driver.h"
#include "proto/quic/identity.h"
#include "proto/quic/mem.h"
#include "proto/wire/profile.h"
#include "proto/wire/request.h"
#include "tests/bench/lib/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS   1000000000ull
#define AT_ONCE_MAX 1024u
#define SAMPLES_MAX 1000000u
#define LEAVE_NS    (2 * SECOND_NS)
#define PATIENCE_NS (20 * SECOND_NS)

struct run {
	uv_loop_t loop;
	uv_timer_t tick; /* lets the loop turn when nothing comes */
	struct mt_driver *driver;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_tls_client *tls;
	struct mt_path path;
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

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "handshakes: %s: %s\n", what, mt_strerror(err));
	exit(1);
}

static void start_one(struct run *r)
{
	struct attempt *a = calloc(1, sizeof(*a));
	struct mt_conn *conn = NULL;
	int err = -ENOMEM;

	if (a != NULL) {
		a->begin_ns = uv_hrtime();
		err = mt_endpoint_connect(mt_driver_endpoint(r->driver), &r->path, r->tls,
			mt_driver_now_ns(r->driver), &conn);
	}
	if (err != 0) {
		die("connect", err);
	}
	mt_conn_set_user(conn, a);
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

static void load_profile(struct run *r, const char *path, struct mt_addr *server)
{
	char text[MT_PROFILE_MAX + 2], addr[300];
	struct mt_profile profile;
	struct mt_tls_client_config config = {.host = profile.host};
	const char *what = "";
	FILE *file = fopen(path, "re");
	size_t n;
	int err;

	if (file == NULL) {
		die(path, -errno);
	}
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	(void)fclose(file); /* was only read */
	err = mt_profile_parse(&profile, text, NULL, &what);
	if (err != 0) {
		die(what, err);
	}
	config.has_key = profile.has_key;
	memcpy(config.key, profile.key, sizeof(config.key));
	config.pin_count = profile.pin_count;
	memcpy(config.pins, profile.pins, sizeof(config.pins));
	err = mt_tls_client_new(&r->tls, &config);
	if (err == 0) {
		(void)snprintf(addr, sizeof(addr), "%s:%u", profile.host, profile.port); /* fits */
		err = mt_addr_parse(server, addr);
	}
	if (err != 0) {
		die("the profile", err);
	}
	mt_profile_deinit(&profile);
}

static void open_run(struct run *r, const char *profile)
{
	const struct mt_udp_options options = {.connect_ok = false};
	struct mt_endpoint_config config = {
		.counters = &r->counters,
		.events = {.on_established = on_established, .on_end = on_end, .user = r},
		.limits = {.max_connections = UINT32_MAX,
			.max_streams = 100,
			.idle_timeout_ns = 30 * SECOND_NS,
			.max_stream_window = 256u << 10,
			.max_conn_window = 1u << 20,
			.max_udp_payload = MT_UDP_PAYLOAD_CEILING,
			.congestion_control = MT_CC_CUBIC},
		.worker_count = 1,
	};
	struct mt_udp_socket *socket = NULL;
	struct mt_addr server, bind_to;
	int err;

	load_profile(r, profile, &server);
	err = uv_loop_init(&r->loop);
	r->mem = mt_mem_new();
	config.mem = r->mem;
	err = err == 0 ? mt_driver_new(&r->driver, &r->loop, &config) : err;
	err = err == 0 ? mt_addr_parse(&bind_to, "127.0.0.1:0") : err;
	err = err == 0 ? mt_driver_open_socket(r->driver, &bind_to, &options, &socket) : err;
	r->samples_us = calloc(SAMPLES_MAX, sizeof(*r->samples_us));
	if (err != 0 || r->samples_us == NULL) {
		die("sockets", err != 0 ? err : -ENOMEM);
	}
	r->path = (struct mt_path){.local = socket->local, .remote = server, .socket = socket};
	(void)uv_timer_init(&r->loop, &r->tick);         /* never fails */
	(void)uv_timer_start(&r->tick, on_tick, 10, 10); /* has a callback: cannot fail */
}

/* And until `least` have been made, however busy the machine is. */
static void run_until(struct run *r, uint64_t end_ns, uint64_t least)
{
	while (uv_hrtime() < end_ns || (r->made < least && uv_hrtime() < end_ns + PATIENCE_NS)) {
		while (r->open < r->at_once) {
			start_one(r);
		}
		(void)uv_run(&r->loop, UV_RUN_ONCE);
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
		(void)uv_run(&r.loop, UV_RUN_ONCE);
	}
	mt_driver_free(r.driver);
	uv_close((uv_handle_t *)&r.tick, NULL);
	(void)uv_run(&r.loop, UV_RUN_DEFAULT);
	mt_tls_client_unref(r.tls);
	mt_mem_free(r.mem);
	free(r.samples_us);
	return 0;
}
