#include "proto/io/pump.h"

#include "proto/quic/mem.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_PIECES_FIRST 4  /* of MT_CHUNK_BYTES */
#define READ_PIECES       16 /* once reads come back full */
#define WRITE_PIECES      64
#define TURN_BYTES        (256 * 1024) /* a direction, before other sockets get their share */

/* A direction ends by FIN, or the peer does not want it any more; any other end is the end of both.
 */
enum direction {
	OPEN,
	ENDED,
	STOPPED,
};

struct mt_pump {
	struct mt_poll_item item;
	struct mt_pump_config cfg;
	struct mt_pump_result result;
	enum direction up;   /* socket to stream */
	enum direction down; /* stream to socket; never STOPPED */
	/* What the edge-triggered poller has told and no read or write has disproved. */
	bool can_read;
	bool can_write;
	bool eof_near; /* a short read is not the last one */
	bool hung_up;
	bool full_reads;
	bool starting;
	bool over;                  /* stream and socket are gone, on_end is due */
	struct mt_pacer_item paced; /* waits for a limit to let more through */
	bool up_waits;
	bool down_waits;
};

static void on_readable(struct mt_stream *s, void *user);
static void on_writable(struct mt_stream *s, void *user);
static void on_reset(struct mt_stream *s, uint64_t app_code, void *user);
static void on_stop(struct mt_stream *s, uint64_t app_code, void *user);
static void on_stream_end(struct mt_stream *s, int err, void *user);

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_reset = on_reset,
	.on_stop = on_stop,
	.on_end = on_stream_end,
};

static void close_by_reset(struct mt_pump *p)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* Fails for no socket of ours; a socket of another family than TCP has no reset anyway. */
	(void)setsockopt(p->item.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	mt_poller_close(p->cfg.poller, &p->item);
}

/* Ends both directions at once; the peer learns `app_code` for those that were still open. */
static void cut(struct mt_pump *p, int err, uint64_t app_code)
{
	p->result.err = err;
	close_by_reset(p);
	mt_stream_release(p->cfg.stream, app_code);
	mt_pacer_cancel(&p->paced);
	p->over = true;
}

static size_t iov_bytes(const struct iovec *iov, size_t n)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		sum += iov[i].iov_len;
	}
	return sum;
}

/* Shortens `iov` to `len` bytes; returns its pieces. */
static size_t iov_cut(struct iovec *iov, size_t n, size_t len)
{
	for (size_t i = 0; i < n; i++) {
		if (iov[i].iov_len >= len) {
			iov[i].iov_len = len;
			return i + 1;
		}
		len -= iov[i].iov_len;
	}
	return n;
}

/* How many of `want` bytes a direction may move now. With 0 it waits for its turn: what happens
 * until then does not let it jump the queue.
 */
static size_t take_tokens(
	struct mt_pump *p, const struct mt_buckets *buckets, bool *waits, size_t want, size_t moved)
{
	size_t quantum = mt_buckets_quantum(buckets);
	size_t granted = 0;

	if (moved < quantum && !*waits) {
		want = want < quantum - moved ? want : quantum - moved;
		granted = mt_buckets_take(buckets, want, uv_hrtime());
	}
	if (granted == 0) {
		*waits = true;
		mt_pacer_wait(p->cfg.pacer, &p->paced, moved > 0);
	}
	return granted;
}

static ssize_t read_some(struct mt_pump *p, const struct iovec *iov, size_t n)
{
	ssize_t got;

	do {
		got = readv(p->item.fd, iov, (int)n);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

/* Socket to stream, until one of them has enough. */
static void move_up(struct mt_pump *p)
{
	const bool limited = mt_buckets_are_limited(&p->cfg.to_stream);
	struct iovec iov[READ_PIECES];
	size_t moved = 0;

	while (p->can_read && !p->over && p->up == OPEN) {
		size_t n, want;
		ssize_t got;

		if (limited && p->up_waits) {
			return; /* on_turn goes on */
		}

		if (moved >= TURN_BYTES) {
			mt_poller_defer(p->cfg.poller, &p->item, MT_POLL_IN);
			return;
		}
		n = mt_stream_reserve(
			p->cfg.stream, iov, p->full_reads ? READ_PIECES : READ_PIECES_FIRST);
		if (n == 0) {
			if (mt_stream_send_space(p->cfg.stream) > 0) {
				cut(p, -ENOMEM, MT_APP_LIMIT);
			}
			return; /* on_writable goes on */
		}
		want = iov_bytes(iov, n);
		if (limited) {
			want = take_tokens(p, &p->cfg.to_stream, &p->up_waits, want, moved);
			if (want == 0) {
				mt_stream_commit(p->cfg.stream, 0);
				return;
			}
			n = iov_cut(iov, n, want);
		}
		got = read_some(p, iov, n);
		mt_stream_commit(p->cfg.stream, got > 0 ? (size_t)got : 0);
		if (limited) {
			mt_buckets_return(&p->cfg.to_stream, got > 0 ? want - (size_t)got : want);
		}
		if (got == 0) {
			p->up = ENDED;
			mt_stream_send_fin(p->cfg.stream);
		} else if (got > 0) {
			moved += (size_t)got;
			if (p->result.bytes_to_stream == 0 && p->cfg.on_first_byte != NULL) {
				p->cfg.on_first_byte(p->cfg.user);
			}
			p->result.bytes_to_stream += (uint64_t)got;
			p->full_reads = (size_t)got == want;
			p->can_read = p->full_reads || p->eof_near;
		} else if (got == -EAGAIN) {
			p->can_read = false;
		} else {
			cut(p, (int)got, MT_APP_TARGET_RESET);
		}
	}
}

static ssize_t write_some(struct mt_pump *p, struct iovec *iov, size_t n)
{
	const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t put;

	do {
		put = sendmsg(p->item.fd, &msg, MSG_NOSIGNAL);
	} while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

/* Stream to socket. An error ends both directions: once it has been told, the socket might pretend
 * a clean end of what it was still to be read from.
 */
static void move_down(struct mt_pump *p)
{
	const bool limited = mt_buckets_are_limited(&p->cfg.to_socket);
	struct iovec iov[WRITE_PIECES];
	size_t moved = 0;

	while (p->can_write && !p->over && p->down == OPEN &&
		mt_stream_readable(p->cfg.stream) > 0) {
		size_t n, want;
		ssize_t put;

		if (moved >= TURN_BYTES) {
			mt_poller_defer(p->cfg.poller, &p->item, MT_POLL_OUT);
			return;
		}
		n = mt_stream_peek(p->cfg.stream, iov, WRITE_PIECES);
		want = iov_bytes(iov, n);
		if (limited) {
			want = take_tokens(p, &p->cfg.to_socket, &p->down_waits, want, moved);
			if (want == 0) {
				break; /* on_turn goes on */
			}
			n = iov_cut(iov, n, want);
		}
		put = write_some(p, iov, n);
		if (limited) {
			mt_buckets_return(&p->cfg.to_socket, put > 0 ? want - (size_t)put : want);
		}
		if (put >= 0) {
			moved += (size_t)put;
			p->result.bytes_to_socket += (uint64_t)put;
			p->can_write = (size_t)put == want;
			mt_stream_consume(p->cfg.stream, (size_t)put);
		} else if (put == -EAGAIN) {
			p->can_write = false;
		} else {
			cut(p, (int)put, MT_APP_TARGET_RESET);
		}
	}
	if (!p->over && p->down == OPEN && mt_stream_fin_received(p->cfg.stream) &&
		mt_stream_readable(p->cfg.stream) == 0) {
		p->down = ENDED;
		/* Where nothing is left to be read, the close that follows sends the FIN; not for a
		 * socket that has hung up: then this tells. */
		if ((p->up != ENDED || p->hung_up) && shutdown(p->item.fd, SHUT_WR) != 0) {
			cut(p, -errno, MT_APP_TARGET_RESET);
		}
	}
}

/* The socket has died while nothing was left to read and nothing there to write. */
static void check_hang_up(struct mt_pump *p)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (p->over || !p->hung_up || p->up == OPEN || p->down != OPEN) {
		return;
	}
	if (getsockopt(p->item.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err == 0) {
		err = EPIPE;
	}
	cut(p, -err, MT_APP_TARGET_RESET);
}

/* The peer wanted no more of the target's bytes, and the target has been given all of the peer's. A
 * reset would take away what the kernel has not delivered yet: then a plain close does, which
 * resets when the target sends on.
 */
static void close_stopped(struct mt_pump *p)
{
	int pending = 0;

	if (ioctl(p->item.fd, SIOCOUTQ, &pending) == 0 && pending > 1) { /* a FIN counts 1 */
		mt_poller_close(p->cfg.poller, &p->item);
	} else {
		close_by_reset(p);
	}
}

static void check_end(struct mt_pump *p)
{
	if (p->over || p->up == OPEN || p->down == OPEN) {
		return;
	}
	if (p->up == STOPPED) {
		p->result.err = MT_E_RESET;
		close_stopped(p);
	} else {
		mt_poller_close(p->cfg.poller, &p->item);
	}
	mt_stream_release(p->cfg.stream, MT_APP_NONE);
	mt_pacer_cancel(&p->paced);
	p->over = true;
}

static void tell_end(struct mt_pump *p)
{
	struct mt_mem *mem = p->cfg.mem;

	if (p->cfg.on_end != NULL) {
		p->cfg.on_end(p, &p->result, p->cfg.user);
	}
	mt_mem_release(mem, p);
}

static void on_deferred_end(struct mt_poll_item *item, unsigned events)
{
	(void)events;
	tell_end((struct mt_pump *)item);
}

/* The last thing that every way in does: `p` may be gone afterwards. */
static void finish(struct mt_pump *p)
{
	if (!p->over) {
		return;
	}
	if (p->starting) {
		mt_poller_init_item(&p->item, on_deferred_end);
		mt_poller_defer(p->cfg.poller, &p->item, 0);
	} else {
		tell_end(p);
	}
}

static void run(struct mt_pump *p)
{
	move_up(p);
	move_down(p);
	check_hang_up(p);
	check_end(p);
	finish(p);
}

static void on_turn(struct mt_pacer_item *item)
{
	struct mt_pump *p = (struct mt_pump *)((char *)item - offsetof(struct mt_pump, paced));

	p->up_waits = false;
	p->down_waits = false;
	run(p);
}

static void note(struct mt_pump *p, unsigned events)
{
	p->can_read = p->can_read || (events & MT_POLL_IN) != 0;
	p->can_write = p->can_write || (events & MT_POLL_OUT) != 0;
	p->eof_near = p->eof_near || (events & MT_POLL_EOF) != 0;
	p->hung_up = p->hung_up || (events & MT_POLL_HUP) != 0;
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_pump *p = (struct mt_pump *)item;

	note(p, events);
	run(p);
}

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	run(user);
}

static void on_writable(struct mt_stream *s, void *user)
{
	(void)s;
	run(user);
}

static void on_reset(struct mt_stream *s, uint64_t app_code, void *user)
{
	struct mt_pump *p = user;

	(void)s;
	p->result.app_code = app_code;
	cut(p, MT_E_RESET, MT_APP_CANCELLED);
	finish(p);
}

static void on_stop(struct mt_stream *s, uint64_t app_code, void *user)
{
	struct mt_pump *p = user;

	(void)s;
	p->up = STOPPED;
	p->result.app_code = app_code;
	run(p);
}

/* A lost connection leaves nobody to tell how far its data got: only what had ended on both sides
 * is still true. */
static void lose(struct mt_pump *p)
{
	if (p->up != ENDED || !mt_stream_fin_received(p->cfg.stream)) {
		cut(p, MT_E_RESET, MT_APP_CANCELLED);
	}
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	struct mt_pump *p = user;

	(void)s;
	if (err != 0) {
		lose(p);
	}
	run(p);
}

int mt_pump_start(struct mt_pump **out, const struct mt_pump_config *config)
{
	struct mt_pump *p = mt_mem_calloc(config->mem, sizeof(*p));
	unsigned events = 0;
	int err;

	if (p == NULL) {
		return -ENOMEM;
	}
	_Static_assert(offsetof(struct mt_pump, item) == 0, "the item is what the poller returns");
	p->cfg = *config;
	err = mt_poller_take(config->poller, &p->item, config->fd, on_ready, &events);
	if (err != 0) {
		mt_mem_release(config->mem, p);
		return err;
	}
	mt_stream_set_handler(config->stream, &handler, p);
	note(p, events);
	p->can_write = true;
	p->starting = true;
	p->paced.on_turn = on_turn;
	if (mt_stream_is_detached(config->stream)) {
		lose(p);
	}
	*out = p;
	run(p);
	p->starting = false;
	return 0;
}

void mt_pump_cancel(struct mt_pump *p, uint64_t app_code)
{
	if (p->over) {
		mt_poller_remove(p->cfg.poller, &p->item); /* its end had not been told yet */
	} else {
		close_by_reset(p);
		mt_stream_release(p->cfg.stream, app_code);
	}
	mt_pacer_cancel(&p->paced);
	mt_mem_release(p->cfg.mem, p);
}

uint64_t mt_pump_bytes_to_stream(const struct mt_pump *p)
{
	return p->result.bytes_to_stream;
}

uint64_t mt_pump_bytes_to_socket(const struct mt_pump *p)
{
	return p->result.bytes_to_socket;
}
