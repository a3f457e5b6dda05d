/* links: proto/io/steer.c proto/io/udp_socket.c proto/wire/addr.c */
#include "proto/io/steer.h"

#include "proto/io/udp.h"
#include "proto/quic/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAG     0x5a
#define GROUP   4
#define TIMEOUT 5000

struct group {
	struct mt_udp_socket sockets[GROUP];
	struct mt_udp_socket sender;
	unsigned count;
};

/* A real SO_REUSEPORT group with the program attached: what the kernel does with it is what counts.
 */
static void open_group(struct group *g, unsigned count)
{
	const struct mt_udp_options reuse = {.reuse_port = true};
	const struct mt_udp_options plain = {.reuse_port = false};
	struct mt_addr addr;

	g->count = count;
	assert_int_equal(mt_addr_parse(&addr, "127.0.0.1:0"), 0);
	assert_int_equal(mt_udp_open(&g->sender, &addr, &plain), 0);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(mt_udp_open(&g->sockets[i], &addr, &reuse), 0);
		addr = g->sockets[0].local;
	}
	assert_int_equal(mt_udp_steer(&g->sockets[0], (uint8_t)count, TAG), 0);
}

static void close_group(struct group *g)
{
	for (unsigned i = 0; i < g->count; i++) {
		mt_udp_close(&g->sockets[i]);
	}
	mt_udp_close(&g->sender);
}

/* Sends from `from` and says which socket of the group got it. */
static unsigned deliver_from(struct group *g, int from, const uint8_t *packet, size_t len)
{
	struct pollfd fds[GROUP];
	uint8_t buf[2048];

	assert_int_equal(
		sendto(from, packet, len, 0, &g->sockets[0].local.sa, g->sockets[0].local.len),
		(ssize_t)len);
	for (unsigned i = 0; i < g->count; i++) {
		fds[i] = (struct pollfd){.fd = g->sockets[i].fd, .events = POLLIN};
	}
	assert_int_equal(poll(fds, g->count, TIMEOUT), 1);
	for (unsigned i = 0; i < g->count; i++) {
		if (fds[i].revents != 0) {
			assert_int_equal(recv(fds[i].fd, buf, sizeof(buf), 0), (ssize_t)len);
			return i;
		}
	}
	return UINT32_MAX;
}

static unsigned deliver(struct group *g, const uint8_t *packet, size_t len)
{
	return deliver_from(g, g->sender.fd, packet, len);
}

static void short_packet(uint8_t packet[64], uint8_t worker, uint8_t tag)
{
	memset(packet, 0x11, 64);
	packet[0] = 0x40;
	packet[1] = worker;
	packet[2] = tag;
}

static void long_packet(uint8_t packet[64], uint8_t id_len, uint8_t worker, uint8_t tag)
{
	memset(packet, 0x22, 64);
	packet[0] = 0xc0;
	packet[4] = 1; /* version 1 */
	packet[5] = id_len;
	packet[6] = worker;
	packet[7] = tag;
}

static void test_steer_short_header(void **state)
{
	uint8_t packet[64];

	(void)state;
	for (unsigned count = 2; count <= GROUP; count++) {
		struct group g;

		open_group(&g, count);
		for (unsigned worker = 0; worker < count; worker++) {
			short_packet(packet, (uint8_t)worker, TAG);
			assert_int_equal(deliver(&g, packet, 64), worker);
			assert_int_equal(deliver(&g, packet, 21), worker);
		}
		close_group(&g);
	}
}

static void test_steer_long_header(void **state)
{
	struct group g;
	uint8_t packet[64];

	(void)state;
	open_group(&g, GROUP);
	for (unsigned worker = 0; worker < GROUP; worker++) {
		long_packet(packet, MT_CID_LEN, (uint8_t)worker, TAG);
		assert_int_equal(deliver(&g, packet, 64), worker);
	}
	close_group(&g);
}

/* Ids of clients: spread over all, and the same one wherever the packet comes from. */
static void test_steer_foreign_ids_hash(void **state)
{
	const struct mt_udp_options plain = {.reuse_port = false};
	struct group g;
	struct mt_udp_socket other;
	struct mt_addr addr;
	unsigned hits[GROUP] = {0};
	uint8_t packet[64];

	(void)state;
	open_group(&g, GROUP);
	assert_int_equal(mt_addr_parse(&addr, "127.0.0.1:0"), 0);
	assert_int_equal(mt_udp_open(&other, &addr, &plain), 0);
	for (unsigned i = 0; i < 64; i++) {
		unsigned at;

		long_packet(packet, i % 2 == 0 ? 8 : 18, 7, TAG);
		packet[9] = (uint8_t)(i * 37);
		at = deliver(&g, packet, 64);
		assert_int_equal(deliver_from(&g, other.fd, packet, 64), at);
		hits[at]++;
		/* our length, but not our tag: an Initial whose random id has it by chance */
		packet[5] = MT_CID_LEN;
		packet[7] = TAG + 1;
		at = deliver(&g, packet, 64);
		assert_int_equal(deliver_from(&g, other.fd, packet, 64), at);
		/* a connection of an earlier process */
		short_packet(packet, (uint8_t)i, TAG + 1);
		at = deliver(&g, packet, 64);
		assert_int_equal(deliver_from(&g, other.fd, packet, 64), at);
	}
	for (unsigned i = 0; i < GROUP; i++) {
		assert_true(hits[i] > 0);
	}
	mt_udp_close(&other);
	close_group(&g);
}

/* Neither a worker that does not exist nor junk may vanish, or all land on worker 0. */
static void test_steer_out_of_range_falls_back(void **state)
{
	struct group g;
	unsigned hits[GROUP] = {0};
	uint8_t packet[64];

	(void)state;
	open_group(&g, GROUP);
	for (unsigned i = 0; i < 64; i++) {
		const struct mt_udp_options plain = {.reuse_port = false};
		struct mt_udp_socket from;
		struct mt_addr addr;
		size_t len = i % 21;

		assert_int_equal(mt_addr_parse(&addr, "127.0.0.1:0"), 0);
		assert_int_equal(mt_udp_open(&from, &addr, &plain), 0);
		short_packet(packet, 0, TAG);
		hits[deliver_from(&g, from.fd, packet, len)]++;
		short_packet(packet, GROUP + 5, TAG);
		hits[deliver_from(&g, from.fd, packet, 64)]++;
		mt_udp_close(&from);
	}
	for (unsigned i = 0; i < GROUP; i++) {
		assert_true(hits[i] > 0);
	}
	close_group(&g);
}

static void test_steer_replaced_program(void **state)
{
	struct group g;
	uint8_t packet[64];

	(void)state;
	open_group(&g, 2);
	assert_int_equal(mt_udp_steer(&g.sockets[0], 2, TAG + 1), 0);
	short_packet(packet, 1, TAG + 1);
	assert_int_equal(deliver(&g, packet, 64), 1);
	short_packet(packet, 0, TAG + 1);
	assert_int_equal(deliver(&g, packet, 64), 0);
	close_group(&g);
}

/* Without the kernel: all jumps lead forward to an instruction, and every path ends in a return. */
static void test_steer_program_is_closed(void **state)
{
	struct sock_filter prog[MT_STEER_MAX];
	size_t n = mt_steer_program(prog, 0, TAG);

	(void)state;
	assert_in_range(n, 1, MT_STEER_MAX);
	assert_int_equal(BPF_CLASS(prog[n - 1].code), BPF_RET);
	for (size_t i = 0; i < n; i++) {
		if (BPF_CLASS(prog[i].code) == BPF_JMP) {
			assert_true(i + 1 + prog[i].jt < n);
			assert_true(i + 1 + prog[i].jf < n);
		}
		if (BPF_CLASS(prog[i].code) == BPF_ALU) {
			assert_int_not_equal(prog[i].k, 0); /* no division by 0 workers */
		}
		if (BPF_CLASS(prog[i].code) == BPF_LD && BPF_MODE(prog[i].code) == BPF_ABS) {
			assert_true(prog[i].k + 4 <= 21);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steer_short_header),
		cmocka_unit_test(test_steer_long_header),
		cmocka_unit_test(test_steer_foreign_ids_hash),
		cmocka_unit_test(test_steer_out_of_range_falls_back),
		cmocka_unit_test(test_steer_replaced_program),
		cmocka_unit_test(test_steer_program_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
