#include "tests/unit/udp_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TIMEOUT 5000

struct kernel kernel;

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	bool gso = msgs[0].msg_hdr.msg_iov[0].iov_len > 1200;

	kernel.calls++;
	if (kernel.pass_calls > 0) {
		kernel.pass_calls--;
	} else if (kernel.fail_calls > 0 && (kernel.fail_fd < 0 || kernel.fail_fd == fd) &&
		   (!kernel.only_gso || gso)) {
		kernel.fail_calls--;
		errno = kernel.err;
		return -1;
	}
	if (kernel.take > 0 && count > (unsigned)kernel.take) {
		count = (unsigned)kernel.take;
	}
	return (int)syscall(SYS_sendmmsg, fd, msgs, count, flags);
}

void open_pair(struct world *w, const char *bind_a, const char *bind_b)
{
	const struct mt_udp_options options = {.reuse_port = false};
	struct mt_addr addr;

	assert_int_equal(mt_addr_parse(&addr, bind_a), 0);
	assert_int_equal(mt_udp_open(&w->a, &addr, &options), 0);
	assert_int_equal(mt_addr_parse(&addr, bind_b), 0);
	assert_int_equal(mt_udp_open(&w->b, &addr, &options), 0);
	assert_int_not_equal(mt_addr_port(&w->a.local), 0);
}

int set_up(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));

	memset(&kernel, 0, sizeof(kernel));
	kernel.fail_fd = -1;
	w->rx = mt_udp_rx_new();
	w->tx = mt_udp_tx_new();
	w->seen.data = test_malloc(GOT_MAX);
	assert_non_null(w->rx);
	assert_non_null(w->tx);
	*state = w;
	w->a.fd = w->b.fd = -1;
	return 0;
}

int tear_down(void **state)
{
	struct world *w = *state;

	mt_udp_close(&w->a);
	mt_udp_close(&w->b);
	mt_udp_close(&w->b);
	mt_udp_rx_free(w->rx);
	mt_udp_tx_free(w->tx);
	test_free(w->seen.data);
	test_free(w);
	return 0;
}

static void on_message(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
	size_t len, size_t segment)
{
	struct seen *seen = user;

	assert_true(seen->messages < SEEN_MAX && seen->len + len <= GOT_MAX);
	seen->msg[seen->messages].path = *path;
	seen->msg[seen->messages].ecn = ecn;
	seen->msg[seen->messages].len = len;
	seen->msg[seen->messages].segment = segment;
	seen->messages++;
	memcpy(seen->data + seen->len, data, len);
	seen->len += len;
}

/* Reads from `s` until `len` bytes are there. */
void receive(struct world *w, struct mt_udp_socket *s, size_t len)
{
	while (w->seen.len < len) {
		struct pollfd fd = {.fd = s->fd, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, TIMEOUT), 1);
		assert_true(mt_udp_receive(w->rx, s, on_message, &w->seen) >= 0);
	}
	assert_int_equal(w->seen.len, len);
	assert_int_equal(mt_udp_receive(w->rx, s, on_message, &w->seen), 0);
}

uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* Queues `len` bytes of the pattern from `off` on. */
void queue(struct world *w, const struct mt_path *path, unsigned ecn, size_t off, size_t len,
	size_t segment)
{
	uint8_t *room = mt_udp_tx_reserve(w->tx);

	assert_non_null(room);
	for (size_t i = 0; i < len; i++) {
		room[i] = pattern(off + i);
	}
	mt_udp_tx_commit(w->tx, path, ecn, len, segment);
}

void check_pattern(const struct world *w, size_t len)
{
	assert_int_equal(w->seen.len, len);
	for (size_t i = 0; i < len; i++) {
		if (w->seen.data[i] != pattern(i)) {
			fail_msg("byte %zu differs", i);
		}
	}
}

struct mt_path from_a_to_b(struct world *w)
{
	return (struct mt_path){.local = w->a.local, .remote = w->b.local, .socket = &w->a};
}

void round_trip(struct world *w, size_t len, size_t segment)
{
	struct mt_path path = from_a_to_b(w);

	w->seen.len = 0;
	w->seen.messages = 0;
	queue(w, &path, 0, 0, len, segment);
	assert_int_equal(mt_udp_tx_flush(w->tx), 0);
	receive(w, &w->b, len);
	check_pattern(w, len);
	for (size_t i = 0; i < w->seen.messages; i++) {
		size_t got = w->seen.msg[i].segment;

		assert_true(got == segment || (got == 0 && w->seen.msg[i].len <= segment));
		assert_true(mt_addr_equal(&w->seen.msg[i].path.remote, &w->a.local));
		assert_true(mt_addr_equal(&w->seen.msg[i].path.local, &w->b.local));
		assert_ptr_equal(w->seen.msg[i].path.socket, &w->b);
	}
}
