/* links: proto/io/driver.c proto/io/poller.c proto/io/pump.c proto/io/bucket.c proto/io/pacer.c
 * proto/io/udp_socket.c proto/io/udp_rx.c proto/io/udp_tx.c proto/quic/accept.c proto/quic/cid.c
 * proto/quic/conn.c proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c
 * proto/quic/conn_write.c proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c
 * proto/quic/expiry.c proto/quic/identity.c proto/quic/mem.c proto/quic/memory.c
 * proto/quic/stream.c proto/quic/stream_kind.c proto/quic/tls.c proto/quic/tls_verify.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c store/pki.c
 * store/pki_check.c proto/quic/order.c proto/quic/room.c proto/quic/calm.c
 */
/* What the transport costs without daemon and client: two drivers on loopback, a thread each, and
 * one stream's worth of data from one to the other.
 *
 *   loopback stream|tunnel down|up [MIB]
 *
 * `stream` fills and drops the bytes in memory; `tunnel` joins the stream with TCP sockets by pumps
 * on both sides, with a thread each that writes and reads them. Prints the rate and the CPU seconds
 * per GiB of each side's thread.
 */
#include "proto/io/driver.h"
#include "proto/io/poller.h"
#include "proto/io/pump.h"
#include "proto/quic/identity.h"
#include "proto/quic/mem.h"
#include "store/pki.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND 1000000000ull

struct side {
	const char *name;
	uv_loop_t loop;
	struct mt_driver *driver;
	struct mt_poller *poller;
	struct mt_mem *mem;
	struct mt_quic_counters counters;
	struct mt_udp_socket *socket;
	struct mt_conn *conn;
	struct mt_pump *pump;
	bool sends;
	bool tunnel;
	int tcp;       /* the pump's end; -1 once taken */
	int tcp_far;   /* what the feeding or draining thread holds */
	uint64_t left; /* bytes to send, or to come */
	double cpu_s;
	bool finished;
	bool closed;
};

static void check(int err, const char *what)
{
	if (err != 0) {
		fprintf(stderr, "%s: %s\n", what, mt_strerror(err));
		exit(1);
	}
}

static double seconds(const struct timeval *tv)
{
	return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

static double thread_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
}

static void fill(struct mt_stream *s, void *user)
{
	struct side *side = user;
	struct iovec iov[16];
	size_t n;

	while (side->sends && side->left > 0 && (n = mt_stream_reserve(s, iov, 16)) > 0) {
		size_t len = 0;

		for (size_t i = 0; i < n; i++) {
			len += iov[i].iov_len;
		}
		len = len < side->left ? len : side->left;
		mt_stream_commit(s, len);
		side->left -= len;
	}
	if (side->left == 0 && side->sends) {
		mt_stream_send_fin(s);
	}
}

static void finish(struct side *side)
{
	side->finished = true;
	uv_stop(&side->loop);
}

static void drop(struct mt_stream *s, void *user)
{
	struct side *side = user;
	size_t len = mt_stream_readable(s);

	mt_stream_consume(s, len);
	if (!side->sends) {
		side->left -= len;
		if (mt_stream_fin_received(s)) {
			mt_stream_send_fin(s);
		}
	}
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	struct side *side = user;

	if (side->left > 0) {
		check(err, "stream"); /* afterwards the other side may close when it likes */
	}
	mt_stream_release(s, 0);
	finish(side);
}

static const struct mt_stream_handler handler = {
	.on_readable = drop,
	.on_writable = fill,
	.on_end = on_stream_end,
};

static void on_pump_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	(void)pump;
	check(result->err, "pump");
	finish(user);
}

static void use_stream(struct side *side, struct mt_stream *s)
{
	if (side->tunnel) {
		const struct mt_pump_config config = {.poller = side->poller,
			.stream = s,
			.fd = side->tcp,
			.on_end = on_pump_end,
			.user = side,
			.mem = side->mem};

		check(mt_pump_start(&side->pump, &config), "pump");
		return;
	}
	mt_stream_set_handler(s, &handler, side);
	fill(s, side);
	drop(s, side);
}

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct side *side = user;

	side->conn = c;
	use_stream(side, s);
}

static void on_client_established(void *user, struct mt_conn *c)
{
	struct side *side = user;
	struct mt_stream *s = NULL;

	check(mt_conn_open_stream(c, &s), "open stream");
	if (!side->sends) {
		check(mt_stream_send(s, "x", 1), "first byte"); /* or the server would not see it */
	}
	use_stream(side, s);
}

static void on_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct side *side = user;

	if (c == side->conn) {
		side->conn = NULL; /* freed when we are done here */
	}
	if (!side->finished) {
		fprintf(stderr, "%s: connection ended: %s %s\n", side->name, mt_strerror(end->err),
			end->reason);
		exit(1);
	}
	side->closed = true;
	uv_stop(&side->loop);
}

static void open_side(struct side *side, struct mt_tls_server *tls)
{
	const struct mt_udp_options options = {.connect_ok = tls == NULL};
	struct mt_endpoint_config config = {
		.counters = &side->counters,
		.events = {.on_stream = on_stream,
			.on_established = tls == NULL ? on_client_established : NULL,
			.on_end = on_end,
			.user = side},
		.limits = {.max_connections = 10,
			.max_streams = 100,
			.idle_timeout_ns = 30 * SECOND,
			.max_stream_window = 8u << 20,
			.max_conn_window = 16u << 20,
			.max_udp_payload = MT_UDP_PAYLOAD_CEILING,
			.congestion_control = MT_CC_BBR},
		.worker_count = 1,
		.tls = tls,
	};
	struct mt_addr bind_to;

	check(uv_loop_init(&side->loop), "loop");
	side->mem = mt_mem_new();
	config.mem = side->mem;
	check(mt_driver_new(&side->driver, &side->loop, &config), "driver");
	check(mt_poller_new(&side->poller, &side->loop), "poller");
	check(mt_addr_parse(&bind_to, "127.0.0.1:0"), "address");
	check(mt_driver_open_socket(side->driver, &bind_to, &options, &side->socket), "socket");
}

static void *run_side(void *arg)
{
	struct side *side = arg;
	const struct mt_udp_tx_stats *stats = mt_driver_tx_stats(side->driver);

	while (!side->closed) {
		uv_run(&side->loop, UV_RUN_ONCE);
		if (side->finished && side->conn != NULL && side->sends) {
			mt_conn_close(side->conn, 0, "done");
		}
	}
	side->cpu_s = thread_cpu();
	printf("%-6s tx calls %lu messages %lu blocked %lu dropped %lu fallbacks %lu\n", side->name,
		stats->calls, stats->messages, stats->blocked, stats->dropped,
		stats->gso_fallbacks);
	mt_driver_free(side->driver);
	mt_poller_free(side->poller);
	uv_run(&side->loop, UV_RUN_DEFAULT);
	return NULL;
}

static void open_tcp(struct side *side)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&addr, len) != 0 || listen(listener, 1) != 0 ||
		getsockname(listener, (struct sockaddr *)&addr, &len) != 0) {
		check(-1, "listen");
	}
	side->tcp = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(side->tcp, (struct sockaddr *)&addr, len) != 0 ||
		fcntl(side->tcp, F_SETFL, O_NONBLOCK) != 0) {
		check(-1, "connect");
	}
	side->tcp_far = accept(listener, NULL, NULL);
	close(listener);
}

/* The application behind a tunnel: writes or reads everything, then ends its side. */
static void *run_far(void *arg)
{
	static const size_t piece = 256 * 1024;
	struct side *side = arg;
	uint8_t *buf = calloc(1, piece);
	ssize_t n;

	while (side->sends && side->left > 0) {
		n = send(side->tcp_far, buf, side->left < piece ? side->left : piece, MSG_NOSIGNAL);
		if (n < 0) {
			check(-1, "send");
		}
		side->left -= (uint64_t)n;
	}
	if (side->sends) {
		shutdown(side->tcp_far, SHUT_WR);
	}
	while ((n = recv(side->tcp_far, buf, piece, 0)) > 0) {
		side->left -= (uint64_t)n;
	}
	close(side->tcp_far); /* ends the other direction, too */
	free(buf);
	return NULL;
}

static void make_credentials(struct mt_tls_server **server, struct mt_tls_client **client)
{
	char *ca = NULL, *ca_key = NULL, *chain = NULL, *key = NULL;
	struct mt_tls_server_config sc = {.require_identity = false};
	struct mt_tls_client_config cc = {.host = "localhost", .pin_count = 1};
	struct mt_cert_info info;

	check(mt_pki_make_ca(&ca, &ca_key), "authority");
	check(mt_pki_make_server(ca, ca_key, &chain, &key), "certificate");
	check(mt_pki_describe(chain, &info), "certificate");
	sc.appliance_chain = chain;
	sc.appliance_key = key;
	memcpy(cc.pins[0], info.pin, MT_PIN_LEN);
	check(mt_tls_server_new(server, &sc), "server credentials");
	check(mt_tls_client_new(client, &cc), "client credentials");
	free(ca);
	free(ca_key);
	free(chain);
	free(key);
}

int main(int argc, char **argv)
{
	static struct side server = {.name = "server"}, client = {.name = "client"};
	uint64_t bytes = (argc > 3 ? strtoull(argv[3], NULL, 10) : 1024) << 20;
	struct mt_tls_server *tls_server = NULL;
	struct mt_tls_client *tls_client = NULL;
	pthread_t threads[4];
	uint64_t begin, end;
	struct mt_path path;
	size_t count = 0;
	double gib = (double)bytes / (double)(1u << 30);

	if (argc < 3) {
		fprintf(stderr, "usage: %s stream|tunnel down|up [MIB]\n", argv[0]);
		return 2;
	}
	server.tunnel = client.tunnel = strcmp(argv[1], "tunnel") == 0;
	server.sends = strcmp(argv[2], "down") == 0;
	client.sends = !server.sends;
	server.left = client.left = bytes;
	make_credentials(&tls_server, &tls_client);
	open_side(&server, tls_server);
	open_side(&client, NULL);
	path = (struct mt_path){.local = client.socket->local,
		.remote = server.socket->local,
		.socket = client.socket};
	begin = mt_driver_now_ns(client.driver);
	check(mt_endpoint_connect(
		      mt_driver_endpoint(client.driver), &path, tls_client, begin, &client.conn),
		"connect");
	if (server.tunnel) {
		open_tcp(&server);
		open_tcp(&client);
		pthread_create(&threads[count++], NULL, run_far, &server);
		pthread_create(&threads[count++], NULL, run_far, &client);
	}
	pthread_create(&threads[count++], NULL, run_side, &server);
	pthread_create(&threads[count++], NULL, run_side, &client);
	while (count > 0) {
		pthread_join(threads[--count], NULL);
	}
	end = uv_hrtime();
	printf("%s %s: %.2f Gbit/s, CPU s/GiB: server %.2f, client %.2f\n", argv[1], argv[2],
		(double)bytes * 8 / (double)(end - begin), server.cpu_s / gib, client.cpu_s / gib);
	mt_tls_server_unref(tls_server);
	mt_tls_client_unref(tls_client);
	return 0;
}
