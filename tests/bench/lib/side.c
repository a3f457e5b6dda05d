#include "tests/bench/lib/side.h"

#include "proto/quic/identity.h"
#include "proto/wire/profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ull
#define READ_NS   20000000ull /* in one turn, before timers and what is to be sent */

void bench_die(const char *what, int err)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, mt_strerror(err));
	exit(1);
}

static void load_profile(struct bench_side *side, const char *path)
{
	char text[MT_PROFILE_MAX + 2];
	struct mt_profile profile;
	struct mt_tls_client_config config = {.host = profile.host};
	char addr[300];
	const char *what = "";
	FILE *file = fopen(path, "re");
	size_t n;
	int err;

	if (file == NULL) {
		bench_die(path, -errno);
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
	err = mt_tls_client_new(&side->tls, &config);
	if (err != 0) {
		bench_die("credentials", err);
	}
	(void)snprintf(addr, sizeof(addr), strchr(profile.host, ':') ? "[%s]:%u" : "%s:%u",
		profile.host, profile.port); /* fits: the host has at most 255 bytes */
	err = mt_addr_parse(&side->server, addr);
	if (err != 0) {
		bench_die("the profile's host is no address", err);
	}
	mt_profile_deinit(&profile);
}

static void on_message(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
	size_t len, size_t segment)
{
	struct bench_side *side = user;

	mt_endpoint_receive(mt_driver_endpoint(side->driver), path, ecn, data, len, segment,
		mt_driver_now_ns(side->driver));
}

static void read_first(uv_prepare_t *prepare)
{
	struct bench_side *side = prepare->data;
	uint64_t begin = uv_hrtime();

	do {
		side->behind = false;
		for (unsigned i = 0; i < side->socket_count; i++) {
			int n = mt_udp_receive(side->rx, side->sockets[i], on_message, side);

			side->behind = side->behind || n == MT_UDP_RX_MESSAGES;
		}
	} while (side->behind && uv_hrtime() - begin < READ_NS);
}

void bench_side_open(struct bench_side *side, const struct bench_side_config *config)
{
	const struct mt_udp_options options = {
		.connect_ok = true, .buffer_bytes = config->buffer_bytes};
	struct mt_endpoint_config endpoint = {
		.counters = &side->counters,
		.events = config->events,
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
	int err;

	load_profile(side, config->profile);
	err = uv_loop_init(&side->loop);
	endpoint.mem = side->mem = mt_mem_new();
	err = err == 0 && side->mem == NULL ? -ENOMEM : err;
	err = err == 0 ? mt_driver_new(&side->driver, &side->loop, &endpoint) : err;
	err = err == 0 ? mt_addr_parse(&bind_to,
				 side->server.sa.sa_family == AF_INET6 ? "[::1]:0" : "127.0.0.1:0")
		       : err;
	for (unsigned i = 0; err == 0 && i < config->sockets; i++) {
		err = mt_driver_open_socket(side->driver, &bind_to, &options, &side->sockets[i]);
	}
	side->socket_count = config->sockets;
	side->rx = config->reads_first ? mt_udp_rx_new() : NULL;
	if (err == 0 && config->reads_first && side->rx == NULL) {
		err = -ENOMEM;
	}
	if (err != 0) {
		bench_die("sockets", err);
	}
	(void)uv_prepare_init(&side->loop, &side->prepare); /* never fails */
	side->prepare.data = side;
	if (config->reads_first) {
		/* Before the driver's, which is older. Has a callback: cannot fail. */
		(void)uv_prepare_start(&side->prepare, read_first);
	}
}

void bench_side_close(struct bench_side *side)
{
	mt_driver_free(side->driver);
	uv_close((uv_handle_t *)&side->prepare, NULL);
	(void)uv_run(&side->loop, UV_RUN_DEFAULT);
	mt_udp_rx_free(side->rx);
	mt_tls_client_unref(side->tls);
	mt_mem_free(side->mem);
}

struct mt_conn *bench_connect(struct bench_side *side, size_t n)
{
	struct mt_udp_socket *socket = side->sockets[n % side->socket_count];
	const struct mt_path path = {
		.local = socket->local, .remote = side->server, .socket = socket};
	struct mt_conn *conn = NULL;
	int err = mt_endpoint_connect(mt_driver_endpoint(side->driver), &path, side->tls,
		mt_driver_now_ns(side->driver), &conn);

	if (err != 0) {
		bench_die("connect", err);
	}
	return conn;
}
