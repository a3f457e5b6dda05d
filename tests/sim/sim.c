#include "tests/sim/sim.h"

#include "proto/wire/request.h"
#include "store/pki.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define IP_UDP_BYTES 28

struct sim_packet {
	struct sim_packet *next;
	uint64_t at_ns;
	struct mt_addr from;
	unsigned ecn;
	size_t len;
	uint8_t data[];
};

uint64_t sim_random(struct sim *sim)
{
	sim->rng ^= sim->rng << 13;
	sim->rng ^= sim->rng >> 7;
	sim->rng ^= sim->rng << 17;
	return sim->rng;
}

static bool chance(struct sim *sim, unsigned permille)
{
	return permille > 0 && sim_random(sim) % 1000 < permille;
}

static void put_packet(struct sim *sim, struct sim_node *to, const struct mt_addr *from,
	unsigned ecn, const uint8_t *data, size_t len, uint64_t leaves_ns)
{
	struct sim_packet *p = malloc(sizeof(*p) + len), **link = &to->packets;

	assert_non_null(p);
	p->from = *from;
	p->ecn = ecn;
	p->len = len;
	memcpy(p->data, data, len);
	p->at_ns =
		leaves_ns + sim->delay_ns + (sim->jitter_ns ? sim_random(sim) % sim->jitter_ns : 0);
	if (chance(sim, sim->corrupt_permille)) {
		p->data[sim_random(sim) % len] ^= (uint8_t)(1u << (sim_random(sim) % 8));
	}
	if (to->packets && to->last->at_ns <= p->at_ns) {
		link = &to->last->next; /* thousands may be on their way */
	}
	while (*link && (*link)->at_ns <= p->at_ns) {
		link = &(*link)->next;
	}
	p->next = *link;
	*link = p;
	if (!p->next) {
		to->last = p;
	}
}

/* Queues a packet for the link; false when there is no room. */
static bool enter(struct sim_link *link, uint64_t now_ns, size_t len, uint64_t *leaves_ns)
{
	uint64_t begins_ns = link->free_at_ns > now_ns ? link->free_at_ns : now_ns;
	uint64_t size = len + IP_UDP_BYTES, waiting, bin;

	if (link->rate_bps > 0) {
		waiting = (uint64_t)((double)(begins_ns - now_ns) * (double)link->rate_bps / 8e9);
		if (waiting > 0 && waiting + size > link->queue_bytes) {
			link->overflowed++;
			return false;
		}
		bin = waiting * SIM_WAIT_BINS / (link->queue_bytes + 1);
		link->wait_bins[bin < SIM_WAIT_BINS ? bin : SIM_WAIT_BINS - 1]++;
		begins_ns += (uint64_t)((double)size * 8e9 / (double)link->rate_bps);
	}
	link->free_at_ns = begins_ns;
	link->packets++;
	link->bytes += size;
	*leaves_ns = begins_ns;
	return true;
}

uint64_t sim_link_wait_ns(const struct sim_link *link, unsigned permille)
{
	uint64_t all = 0, seen = 0;
	unsigned i;

	for (i = 0; i < SIM_WAIT_BINS; i++) {
		all += link->wait_bins[i];
	}
	for (i = 0; i < SIM_WAIT_BINS; i++) {
		seen += link->wait_bins[i];
		if (seen * 1000 >= all * permille) {
			break;
		}
	}
	if (all == 0 || link->rate_bps == 0) {
		return 0;
	}
	return (uint64_t)((double)link->queue_bytes * (i + 0.5) / SIM_WAIT_BINS * 8e9 /
			  (double)link->rate_bps);
}

static void carry(struct sim_node *from, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	struct sim *sim = from->sim;
	struct sim_node *to = from == &sim->client ? &sim->server : &sim->client;
	struct mt_addr source = path->local;
	uint64_t leaves_ns = 0;

	from->bytes_out += len;
	sim->carried++;
	if (from == &sim->client) {
		mt_addr_set_port(&source, sim->nat_port);
	} else if (mt_addr_port(&path->remote) != sim->nat_port) {
		return; /* a mapping that the NAT has forgotten */
	}
	if (!enter(&from->link, sim->now_ns, len, &leaves_ns)) {
		return;
	}
	if (sim->black_hole || (sim->mtu != 0 && len > sim->mtu) ||
		chance(sim, sim->loss_permille)) {
		from->link.lost++;
		return;
	}
	put_packet(sim, to, &source, ecn, data, len, leaves_ns);
	if (chance(sim, sim->duplicate_permille)) {
		put_packet(sim, to, &source, ecn, data, len, leaves_ns);
	}
}

static uint8_t *tx_reserve(void *user)
{
	struct sim_node *node = user;

	return node->blocked ? NULL : node->buf;
}

static void tx_commit(
	void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	struct sim_node *node = user;
	size_t n;

	assert_true(segment > 0 && segment <= len && len <= MT_TX_BATCH_BYTES);
	for (size_t off = 0; off < len; off += n) {
		n = len - off < segment ? len - off : segment;
		carry(node, path, ecn, node->buf + off, n);
	}
}

struct mt_endpoint_limits sim_limits(void)
{
	return (struct mt_endpoint_limits){
		.max_connections = 1000,
		.max_streams = 100,
		.idle_timeout_ns = 30 * SIM_S,
		.max_stream_window = 8u << 20,
		.max_conn_window = 64u << 20,
		.max_udp_payload = 1452,
		.congestion_control = MT_CC_BBR,
	};
}

static void start_node(struct sim *sim, struct sim_node *node,
	const struct mt_endpoint_events *events, struct mt_tls_server *tls, uint8_t tag)
{
	struct mt_endpoint_config cfg = {
		.counters = &node->counters,
		.events = *events,
		.limits = sim_limits(),
		.tx = {.reserve = tx_reserve, .commit = tx_commit, .user = node},
		.worker_count = 1,
		.tag = tag,
		.tls = tls,
	};

	node->sim = sim;
	node->mem = mt_mem_new();
	assert_non_null(node->mem);
	cfg.mem = node->mem;
	memset(cfg.secret, 7, sizeof(cfg.secret));
	assert_int_equal(mt_endpoint_new(&node->ep, &cfg), 0);
}

static void stop_node(struct sim_node *node)
{
	mt_endpoint_free(node->ep);
	assert_int_equal(mt_mem_used(node->mem), 0); /* nothing was leaked */
	mt_mem_free(node->mem);
}

static void make_credentials(struct sim *sim)
{
	char *ca = NULL, *ca_key = NULL, *chain = NULL, *key = NULL;
	struct mt_tls_server_config server = {.require_identity = true};
	struct mt_tls_client_config client = {
		.has_key = true, .host = "server.example", .pin_count = 1};
	struct mt_cert_info info;

	assert_int_equal(mt_pki_make_ca(&ca, &ca_key), 0);
	assert_int_equal(mt_pki_make_server(ca, ca_key, &chain, &key), 0);
	assert_int_equal(mt_pki_describe(chain, &info), 0);
	server.appliance_chain = chain;
	server.appliance_key = key;
	assert_int_equal(mt_tls_server_new(&sim->tls_server, &server), 0);
	assert_int_equal(mt_identity_generate(sim->client_key), 0);
	assert_int_equal(mt_identity_fingerprint(sim->client_key, sim->client_fingerprint), 0);
	memcpy(client.key, sim->client_key, MT_KEY_LEN);
	memcpy(client.pins[0], info.pin, MT_PIN_LEN);
	assert_int_equal(mt_tls_client_new(&sim->tls_client, &client), 0);
	free(ca);
	free(ca_key);
	free(chain);
	free(key);
}

void sim_init(struct sim *sim, uint64_t seed, const struct mt_endpoint_events *client,
	const struct mt_endpoint_events *server)
{
	memset(sim, 0, sizeof(*sim));
	sim->now_ns = 1000 * SIM_S;
	sim->rng = seed * 0x9e3779b97f4a7c15ull + 1;
	sim->delay_ns = 10 * SIM_MS;
	sim->nat_port = 40000;
	assert_int_equal(mt_addr_parse(&sim->client.addr, "192.0.2.1:5000"), 0);
	assert_int_equal(mt_addr_parse(&sim->server.addr, "198.51.100.1:443"), 0);
	make_credentials(sim);
	start_node(sim, &sim->client, client, NULL, 0);
	start_node(sim, &sim->server, server, sim->tls_server, 1);
}

static void drop_packets(struct sim_node *node)
{
	struct sim_packet *p;

	while ((p = node->packets)) {
		node->packets = p->next;
		free(p);
	}
}

void sim_deinit(struct sim *sim)
{
	drop_packets(&sim->client);
	drop_packets(&sim->server);
	stop_node(&sim->client);
	stop_node(&sim->server);
	mt_tls_server_unref(sim->tls_server);
	mt_tls_client_unref(sim->tls_client);
}

void sim_restart_server(struct sim *sim, const struct mt_endpoint_events *server, uint8_t tag)
{
	stop_node(&sim->server);
	start_node(sim, &sim->server, server, sim->tls_server, tag);
}

struct mt_conn *sim_connect(struct sim *sim)
{
	struct mt_path path = {
		.local = sim->client.addr, .remote = sim->server.addr, .socket = sim};
	struct mt_conn *c = NULL;

	assert_int_equal(
		mt_endpoint_connect(sim->client.ep, &path, sim->tls_client, sim->now_ns, &c), 0);
	return c;
}

void sim_inject(struct sim_node *to, const struct mt_addr *from, const void *data, size_t len)
{
	struct mt_path path = {.local = to->addr, .remote = *from, .socket = to->sim};

	to->bytes_in += len;
	mt_endpoint_receive(to->ep, &path, 0, data, len, 0, to->sim->now_ns);
}

static void deliver(struct sim *sim, struct sim_node *node)
{
	struct sim_packet *p;
	struct mt_path path;

	while ((p = node->packets) && p->at_ns <= sim->now_ns) {
		node->packets = p->next;
		path = (struct mt_path){.local = node->addr, .remote = p->from, .socket = sim};
		node->bytes_in += p->len;
		mt_endpoint_receive(node->ep, &path, p->ecn, p->data, p->len, 0, sim->now_ns);
		free(p);
	}
}

static void turn(struct sim *sim, struct sim_node *node)
{
	mt_endpoint_expire(node->ep, sim->now_ns);
	mt_endpoint_dispatch(node->ep, sim->now_ns);
	(void)mt_endpoint_flush(node->ep, sim->now_ns); /* blocked only when the test says so */
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t arrival(const struct sim_node *node)
{
	return node->packets ? node->packets->at_ns : UINT64_MAX;
}

bool sim_run(struct sim *sim, bool (*done)(void *user), void *user, uint64_t limit_ns)
{
	uint64_t end_ns = sim->now_ns + limit_ns, next_ns;

	for (;;) {
		deliver(sim, &sim->client);
		deliver(sim, &sim->server);
		turn(sim, &sim->client);
		turn(sim, &sim->server);
		if (done && done(user)) {
			return true;
		}
		next_ns = earlier(
			mt_endpoint_expiry(sim->client.ep), mt_endpoint_expiry(sim->server.ep));
		next_ns = earlier(next_ns, arrival(&sim->client));
		next_ns = earlier(next_ns, arrival(&sim->server));
		if (sim->tick_ns && next_ns > sim->now_ns && next_ns != UINT64_MAX) {
			next_ns += (sim->tick_ns - next_ns % sim->tick_ns) % sim->tick_ns;
		}
		if (next_ns > end_ns) {
			sim->now_ns = end_ns;
			return false;
		}
		if (next_ns > sim->now_ns) {
			sim->now_ns = next_ns;
		}
	}
}
