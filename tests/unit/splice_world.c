#include "tests/unit/splice_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct world_kernel world_kernel;

ssize_t __wrap_splice(int from, loff_t *from_off, int to, loff_t *to_off, size_t len, unsigned how);
ssize_t __real_splice(int from, loff_t *from_off, int to, loff_t *to_off, size_t len, unsigned how);
ssize_t __wrap_mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type);
ssize_t __real_mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type);
int __wrap_mt_ktls_send_alert(int fd, uint8_t level, uint8_t description);

static bool control_is_next(int fd)
{
	int waiting = 0;

	assert_int_equal(ioctl(fd, FIONREAD, &waiting), 0);
	return fd == world_kernel.client && world_kernel.type != 0 && waiting == 0;
}

ssize_t __wrap_splice(int from, loff_t *from_off, int to, loff_t *to_off, size_t len, unsigned how)
{
	assert_true((how & SPLICE_F_NONBLOCK) != 0 && (how & SPLICE_F_MORE) == 0);
	if (from == world_kernel.client && control_is_next(from)) {
		errno = EINVAL;
		return -1;
	}
	if (from == world_kernel.client && world_kernel.broken != 0) {
		errno = world_kernel.broken;
		return -1;
	}
	len = world_kernel.most > 0 && world_kernel.most < len ? world_kernel.most : len;
	return __real_splice(from, from_off, to, to_off, len, how);
}

ssize_t __wrap_mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type)
{
	if (!control_is_next(fd)) {
		return __real_mt_ktls_recv(fd, buf, len, type);
	}
	assert_true(len >= sizeof(world_kernel.control));
	memcpy(buf, world_kernel.control, sizeof(world_kernel.control));
	*type = world_kernel.type;
	world_kernel.type = 0;
	return sizeof(world_kernel.control);
}

int __wrap_mt_ktls_send_alert(int fd, uint8_t level, uint8_t description)
{
	assert_int_equal(fd, world_kernel.client);
	if (world_kernel.refusals > 0) {
		world_kernel.refusals--;
		return -EAGAIN;
	}
	world_kernel.sent[0] = level;
	world_kernel.sent[1] = description;
	world_kernel.sent_alerts++;
	return 0;
}

static void make_pair(int *near, int *far)
{
	const int small = 16384;
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	*far = socket(AF_INET, SOCK_STREAM, 0);
	/* So that both ends are full again and again. */
	assert_int_equal(setsockopt(*far, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(connect(*far, (struct sockaddr *)&addr, len), 0);
	*near = accept(listener, NULL, NULL);
	assert_true(*near >= 0);
	assert_int_equal(setsockopt(*near, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(fcntl(*near, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(*far, F_SETFL, O_NONBLOCK), 0);
	(void)close(listener);
}

static void on_gone(const struct mt_tls_socket *socket, void *user)
{
	struct world *w = user;

	w->gone = true;
	w->fault = socket->fault;
}

static void on_end(struct mt_splice *splice, const struct mt_pump_result *result, void *user)
{
	struct world *w = user;

	assert_ptr_equal(splice, w->splice);
	assert_false(w->over);
	w->over = true;
	w->result = *result;
}

void world_open(struct world *w)
{
	const struct mt_tls_stream_events events = {.on_gone = on_gone, .user = w};

	memset(w, 0, sizeof(*w));
	memset(&world_kernel, 0, sizeof(world_kernel));
	assert_int_equal(uv_loop_init(&w->loop), 0);
	w->mem = mt_mem_new();
	w->pipes = mt_pipes_new(&w->pipes_missing);
	assert_int_equal(mt_poller_new(&w->poller, &w->loop), 0);
	assert_int_equal(mt_pacer_new(&w->pacer, &w->loop), 0);
	assert_int_equal(mt_tls_loop_new(&w->tls, &w->loop, w->poller, w->mem), 0);
	make_pair(&world_kernel.client, &w->client);
	make_pair(&w->target_near, &w->target);
	w->s = mt_tls_stream_new(w->tls, &events);
	assert_non_null(w->s);
	w->s->sock.fd = world_kernel.client;
	w->s->sock.alert = -1;
	w->s->sock.ktls = MT_KTLS_ON;
	w->s->sock.established = true;
	w->s->open = true;
	w->s->can_read = true;
	w->s->can_write = true;
	assert_int_equal(
		mt_poller_add(w->poller, &w->s->item, world_kernel.client, mt_tls_stream_on_ready),
		0);
	assert_true(mt_splice_suits(&w->s->base));
}

void world_join(struct world *w)
{
	const struct mt_splice_config config = {.pump = {.poller = w->poller,
							.stream = &w->s->base,
							.fd = w->target_near,
							.user = w,
							.pacer = w->pacer,
							.mem = w->mem},
		.pipes = w->pipes,
		.on_end = on_end};

	assert_int_equal(mt_splice_start(&w->splice, &config), 0);
	assert_false(w->over); /* never from within */
}

void world_start(struct world *w)
{
	world_open(w);
	world_join(w);
}

void world_until(struct world *w, const bool *flag)
{
	for (unsigned turns = 0; !*flag; turns++) {
		assert_true(turns < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_NOWAIT);
	}
}

void world_turns(struct world *w, unsigned count)
{
	while (count-- > 0) {
		(void)uv_run(&w->loop, UV_RUN_NOWAIT);
	}
}

void world_close(struct world *w)
{
	assert_int_equal(mt_pipes_in_use(w->pipes), 0);
	mt_pipes_free(w->pipes);
	mt_tls_loop_free(w->tls);
	mt_poller_free(w->poller);
	mt_pacer_free(w->pacer);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	assert_int_equal(mt_mem_used(w->mem), 0);
	mt_mem_free(w->mem);
	(void)close(w->client);
	(void)close(w->target);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 11 + i / 253);
}

size_t world_put(int fd, size_t at, size_t end)
{
	uint8_t block[8192];
	size_t len = end - at < sizeof(block) ? end - at : sizeof(block);
	ssize_t n;

	for (size_t i = 0; i < len; i++) {
		block[i] = pattern(at + i);
	}
	n = len > 0 ? send(fd, block, len, MSG_NOSIGNAL) : 0;
	assert_true(n >= 0 || errno == EAGAIN);
	return n > 0 ? (size_t)n : 0;
}

size_t world_take(int fd, size_t at)
{
	uint8_t block[8192];
	ssize_t n = recv(fd, block, sizeof(block), 0);

	assert_true(n > 0 || (n < 0 && errno == EAGAIN));
	for (ssize_t i = 0; i < n; i++) {
		assert_int_equal(block[i], pattern(at + (size_t)i));
	}
	return n > 0 ? (size_t)n : 0;
}

void world_exchange(struct world *w, size_t size)
{
	size_t up_put = 0, up = 0, down_put = 0, down = 0;

	for (unsigned n = 0; up < size || down < size; n++) {
		assert_true(n < TURNS_MAX);
		up_put += world_put(w->target, up_put, size);
		down_put += world_put(w->client, down_put, size);
		(void)uv_run(&w->loop, UV_RUN_NOWAIT);
		if (up < size) {
			up += world_take(w->client, up);
		}
		if (down < size) {
			down += world_take(w->target, down);
		}
	}
}

/* 0 at the end, -1 when nothing is there, else an errno. */
static int end_of(int fd)
{
	uint8_t byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	assert_true(n <= 0);
	return n == 0 ? 0 : errno == EAGAIN ? -1 : errno;
}

void world_expect_end(struct world *w, int fd, int want)
{
	int end = -1;

	for (unsigned n = 0; end < 0; n++) {
		assert_true(n < TURNS_MAX);
		(void)uv_run(&w->loop, UV_RUN_NOWAIT);
		end = end_of(fd);
	}
	assert_int_equal(end, want);
}

void world_say_close_notify(const struct world *w)
{
	world_kernel.type = MT_RECORD_ALERT;
	world_kernel.control[0] = 1;
	world_kernel.control[1] = GNUTLS_A_CLOSE_NOTIFY;
	assert_int_equal(shutdown(w->client, SHUT_WR), 0);
}

void world_reset(int *fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(*fd);
	*fd = -1;
}
