#include "proto/io/splice.h"

#include "proto/io/tls_impl.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_BYTES   (1024u * 1024) /* a direction, before other sockets get their share */
#define FILL_BYTES   (512u * 1024)  /* of plain TCP at once */
#define FILL_RECORDS 16             /* of TLS: mostly less than the pipe can hold */
#define CONTROLS_MAX 16             /* between payload: no honest peer has more to say */

enum direction {
	OPEN,
	ENDING, /* all is moved, the end itself is still to be said */
	ENDED,
	STOPPED, /* the client does not want it any more */
};

/* One direction. */
struct way {
	enum direction state;
	struct mt_pipe *pipe; /* NULL while nothing is in it */
	bool eof;
	bool can_in; /* what the edge-triggered poller has told and no call has disproved */
	bool can_out;
	bool waits;   /* for a limit to let more through */
	size_t moved; /* in this turn */
};

struct mt_splice {
	struct mt_poll_item item; /* of the target; first */
	struct mt_splice_config cfg;
	struct mt_pump_result result;
	struct mt_tls_stream *tls;
	struct way up;   /* target to client */
	struct way down; /* client to target */
	bool hung_up;
	bool starting;
	bool over;
	struct mt_pacer_item paced;
};

bool mt_splice_suits(const struct mt_stream *s)
{
	const struct mt_tls_socket *socket = mt_tls_stream_socket(s);

	return socket != NULL && socket->ktls == MT_KTLS_ON && socket->established &&
	       socket->fault == MT_TLS_FAULT_NONE && !mt_stream_is_detached(s);
}

static void close_target_by_reset(struct mt_splice *p)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* Fails for no socket of ours. */
	(void)setsockopt(p->item.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	mt_poller_close(p->cfg.pump.poller, &p->item);
}

static void put_pipe(struct mt_splice *p, struct way *w)
{
	if (w->pipe != NULL) {
		mt_pipes_put(p->cfg.pipes, w->pipe);
		w->pipe = NULL;
	}
}

static void let_go(struct mt_splice *p, uint64_t app_code)
{
	put_pipe(p, &p->up);
	put_pipe(p, &p->down);
	mt_pacer_cancel(&p->paced);
	p->tls->on_raw = NULL;
	mt_stream_release(p->cfg.pump.stream, app_code);
	p->over = true;
}

/* Ends both directions at once. */
static void cut(struct mt_splice *p, int err, uint64_t app_code)
{
	enum mt_tls_fault fault = p->tls->sock.fault;

	p->result.err = err;
	close_target_by_reset(p);
	if (fault == MT_TLS_FAULT_PROTOCOL || fault == MT_TLS_FAULT_REKEY ||
		fault == MT_TLS_FAULT_RECORDS) {
		mt_tls_stream_close(p->tls, false); /* our alert is still to arrive */
	}
	let_go(p, app_code);
}

/* The client's socket has failed. Behind the client's own end its bytes are whole. */
static void fail_tls(struct mt_splice *p)
{
	p->result.app_code = MT_APP_CANCELLED;
	if (p->tls->sock.fin_received) {
		p->up.state = STOPPED;
		put_pipe(p, &p->up);
		mt_tls_stream_close(p->tls, true);
	} else {
		cut(p, MT_E_RESET, MT_APP_CANCELLED);
	}
}

static void fail_target(struct mt_splice *p, int err)
{
	cut(p, err, MT_APP_TARGET_RESET);
}

/* See pump.c. */
static size_t take_tokens(
	struct mt_splice *p, const struct mt_buckets *buckets, struct way *w, size_t want)
{
	size_t quantum = mt_buckets_quantum(buckets);
	size_t granted = 0;

	if (w->moved < quantum && !w->waits) {
		want = want < quantum - w->moved ? want : quantum - w->moved;
		granted = mt_buckets_take(buckets, want, uv_hrtime());
	}
	if (granted == 0) {
		w->waits = true;
		mt_pacer_wait(p->cfg.pump.pacer, &p->paced, w->moved > 0);
	}
	return granted;
}

static ssize_t splice_some(int from, int to, size_t len)
{
	ssize_t n;

	do {
		n = splice(from, NULL, to, NULL, len, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Without a descriptor for a pipe the bytes stay where they are until there is one: other tunnels
 * give theirs back whenever they are empty. */
static bool ensure_pipe(struct mt_splice *p, struct way *w)
{
	int rv = w->pipe != NULL ? 0 : mt_pipes_get(p->cfg.pipes, &w->pipe);

	if (rv < 0) {
		w->waits = true;
		mt_pacer_wait(p->cfg.pump.pacer, &p->paced, false);
	}
	return rv == 0;
}

/* Into the empty pipe of `w` from `fd`; bytes, 0 at the end, or a negative errno. */
static ssize_t fill_once(
	struct mt_splice *p, struct way *w, int fd, size_t want, const struct mt_buckets *buckets)
{
	const bool limited = mt_buckets_are_limited(buckets);
	ssize_t n;

	if (limited) {
		want = take_tokens(p, buckets, w, want);
		if (want == 0) {
			return -EAGAIN;
		}
	}
	n = splice_some(fd, w->pipe->write_fd, want);
	if (limited) {
		mt_buckets_return(buckets, n > 0 ? want - (size_t)n : want);
	}
	if (n > 0) {
		w->pipe->held += (size_t)n;
		w->moved += (size_t)n;
	}
	return n;
}

static void fill_up(struct mt_splice *p)
{
	struct way *w = &p->up;
	ssize_t n;

	if (!ensure_pipe(p, w)) {
		return;
	}
	n = fill_once(p, w, p->item.fd, FILL_BYTES, &p->cfg.pump.to_stream);
	if (n > 0) {
		if (p->result.bytes_to_stream == 0 && p->cfg.pump.on_first_byte != NULL) {
			p->cfg.pump.on_first_byte(p->cfg.pump.user);
		}
	} else if (n == 0) {
		w->eof = true;
	} else if (n != -EAGAIN) {
		fail_target(p, (int)n);
	} else if (!w->waits) {
		w->can_in = false;
	}
}

/* A record that splice does not take. */
static void take_control(struct mt_splice *p)
{
	int rv = mt_tls_socket_take_control(&p->tls->sock);

	if (rv == 0) {
		p->down.eof = true;
	} else if (rv != MT_E_AGAIN) {
		fail_tls(p);
	}
}

static void fill_down(struct mt_splice *p)
{
	struct way *w = &p->down;
	unsigned records = 0;
	unsigned controls = 0;

	if (!ensure_pipe(p, w)) {
		return;
	}
	while (records < FILL_RECORDS && !w->eof && !p->over) {
		ssize_t n =
			fill_once(p, w, p->tls->sock.fd, MT_TLS_RECORD_MAX, &p->cfg.pump.to_socket);

		if (n > 0) {
			records++;
		} else if (n == -EINVAL && controls++ < CONTROLS_MAX) {
			take_control(p);
		} else if (n == 0) {
			(void)mt_tls_socket_fail(&p->tls->sock, -ECONNRESET); /* latched */
			fail_tls(p);
			return;
		} else if (n != -EAGAIN) {
			(void)mt_tls_socket_fail(&p->tls->sock, (int)n); /* latched */
			fail_tls(p);
			return;
		} else {
			/* Behind something, it may be the pipe that is full: how much fits depends
			 * on the system, and on how the bytes arrived. */
			w->can_in = w->waits || records > 0;
			break;
		}
	}
	if (!p->over && records > 0 && mt_tls_socket_count_records(&p->tls->sock, records, 0) < 0) {
		fail_tls(p);
	}
}

/* Out of the pipe; what was sent is counted. */
static ssize_t drain_once(struct way *w, int fd)
{
	ssize_t n = splice_some(w->pipe->read_fd, fd, w->pipe->held);

	if (n > 0) {
		w->pipe->held -= (size_t)n;
	} else if (n == -EAGAIN) {
		w->can_out = false;
	}
	return n;
}

static void drain_up(struct mt_splice *p)
{
	struct way *w = &p->up;

	while (w->can_out && w->pipe != NULL && w->pipe->held > 0) {
		ssize_t n = drain_once(w, p->tls->sock.fd);

		if (n > 0) {
			p->result.bytes_to_stream += (uint64_t)n;
			if (mt_tls_socket_count_records(
				    &p->tls->sock, 0, (uint64_t)n / MT_TLS_RECORD_MAX + 1) < 0) {
				fail_tls(p);
				return;
			}
		} else if (n != -EAGAIN) {
			(void)mt_tls_socket_fail(&p->tls->sock, n == 0 ? -EPIPE : (int)n);
			fail_tls(p);
			return;
		}
	}
}

static void drain_down(struct mt_splice *p)
{
	struct way *w = &p->down;

	while (w->can_out && w->pipe != NULL && w->pipe->held > 0) {
		ssize_t n = drain_once(w, p->item.fd);

		if (n > 0) {
			p->result.bytes_to_socket += (uint64_t)n;
		} else if (n != -EAGAIN) {
			fail_target(p, n == 0 ? -EPIPE : (int)n);
			return;
		}
	}
}

static bool is_empty(const struct way *w)
{
	return w->pipe == NULL || w->pipe->held == 0;
}

static void say_end_to_client(struct mt_splice *p)
{
	int rv = mt_tls_socket_send_fin(&p->tls->sock);

	if (rv == 0) {
		p->tls->tx_fin = true;
		p->up.state = ENDED;
	} else if (rv == MT_E_AGAIN) {
		p->up.can_out = false;
	} else {
		fail_tls(p);
	}
}

static void move_up(struct mt_splice *p)
{
	struct way *w = &p->up;

	/* The status byte goes first. */
	if (p->tls->tx_bytes > 0) {
		p->tls->can_write = w->can_out;
		mt_tls_stream_flush(p->tls);
		w->can_out = p->tls->can_write;
		if (p->tls->dead) {
			fail_tls(p);
		}
	}
	while (!p->over && w->state == OPEN && p->tls->tx_bytes == 0) {
		drain_up(p);
		if (p->over || w->state != OPEN || !is_empty(w) || w->eof) {
			break;
		}
		if (!w->can_in || w->waits) {
			break;
		}
		if (w->moved >= TURN_BYTES) {
			mt_poller_defer(p->cfg.pump.poller, &p->item, MT_POLL_IN);
			break;
		}
		fill_up(p);
	}
	if (!p->over && w->state == OPEN && w->eof && is_empty(w) && p->tls->tx_bytes == 0) {
		w->state = ENDING;
	}
	if (!p->over && w->state == ENDING && w->can_out) {
		say_end_to_client(p);
	}
}

/* What had been read before the sockets were joined, piece by piece. */
static void write_early(struct mt_splice *p)
{
	const struct mt_buckets *buckets = &p->cfg.pump.to_socket;
	const bool limited = mt_buckets_are_limited(buckets);
	struct mt_stream *s = p->cfg.pump.stream;
	struct iovec iov;

	while (p->down.can_out && !p->down.waits && !p->over && mt_stream_peek(s, &iov, 1) == 1) {
		size_t want =
			limited ? take_tokens(p, buckets, &p->down, iov.iov_len) : iov.iov_len;
		ssize_t put;

		if (want == 0) {
			return; /* on_turn goes on */
		}
		put = send(p->item.fd, iov.iov_base, want, MSG_NOSIGNAL);
		if (limited) {
			mt_buckets_return(buckets, put > 0 ? want - (size_t)put : want);
		}
		if (put >= 0) {
			p->down.moved += (size_t)put;
			p->result.bytes_to_socket += (uint64_t)put;
			mt_stream_consume(s, (size_t)put);
		} else if (errno == EAGAIN) {
			p->down.can_out = false;
		} else if (errno != EINTR) {
			fail_target(p, -errno);
		}
	}
	if (!p->over && mt_stream_readable(s) == 0 && p->tls->sock.fin_received) {
		p->down.eof = true;
	}
}

static void move_down(struct mt_splice *p)
{
	struct way *w = &p->down;

	write_early(p);
	while (!p->over && w->state == OPEN && mt_stream_readable(p->cfg.pump.stream) == 0) {
		drain_down(p);
		if (p->over || !is_empty(w) || w->eof) {
			break;
		}
		if (!w->can_in || w->waits || p->tls->dead) {
			break;
		}
		if (w->moved >= TURN_BYTES) {
			mt_poller_defer(p->cfg.pump.poller, &p->item, MT_POLL_OUT);
			break;
		}
		fill_down(p);
	}
	if (!p->over && w->state == OPEN && w->eof && is_empty(w) &&
		mt_stream_readable(p->cfg.pump.stream) == 0) {
		w->state = ENDED;
		if (shutdown(p->item.fd, SHUT_WR) != 0) {
			fail_target(p, -errno);
		}
	}
}

/* A socket has died while nothing was left to read from it and nothing there to write. */
static int pending_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? -err : -errno;
}

static void check_hang_up(struct mt_splice *p)
{
	int err;

	if (!p->over && p->hung_up && p->up.eof && p->down.state == OPEN) {
		err = pending_error(p->item.fd);
		fail_target(p, err == 0 ? -EPIPE : err);
	}
}

static void close_stopped(struct mt_splice *p)
{
	int pending = 0;

	if (ioctl(p->item.fd, SIOCOUTQ, &pending) == 0 && pending > 1) { /* a FIN counts 1 */
		mt_poller_close(p->cfg.pump.poller, &p->item);
	} else {
		close_target_by_reset(p);
	}
}

static void check_end(struct mt_splice *p)
{
	if (p->over || p->up.state == OPEN || p->up.state == ENDING || p->down.state == OPEN) {
		return;
	}
	if (p->up.state == STOPPED) {
		p->result.err = MT_E_RESET;
		close_stopped(p);
	} else {
		mt_poller_close(p->cfg.pump.poller, &p->item);
	}
	let_go(p, MT_APP_NONE);
}

static void tell_end(struct mt_splice *p)
{
	struct mt_mem *mem = p->cfg.pump.mem;

	if (p->cfg.on_end != NULL) {
		p->cfg.on_end(p, &p->result, p->cfg.pump.user);
	}
	mt_mem_release(mem, p);
}

static void on_deferred_end(struct mt_poll_item *item, unsigned events)
{
	(void)events;
	tell_end((struct mt_splice *)item);
}

/* The last thing that every way in does: `p` may be gone afterwards. */
static void run(struct mt_splice *p)
{
	p->up.moved = 0;
	p->down.moved = 0;
	move_up(p);
	move_down(p);
	check_hang_up(p);
	check_end(p);
	if (!p->over) {
		if (is_empty(&p->up)) {
			put_pipe(p, &p->up);
		}
		if (is_empty(&p->down)) {
			put_pipe(p, &p->down);
		}
	} else if (p->starting) {
		mt_poller_init_item(&p->item, on_deferred_end);
		mt_poller_defer(p->cfg.pump.poller, &p->item, 0);
	} else {
		tell_end(p);
	}
}

static void on_turn(struct mt_pacer_item *item)
{
	struct mt_splice *p =
		(struct mt_splice *)((char *)item - offsetof(struct mt_splice, paced));

	p->up.waits = false;
	p->down.waits = false;
	run(p);
}

static void on_target(struct mt_poll_item *item, unsigned events)
{
	struct mt_splice *p = (struct mt_splice *)item;

	p->up.can_in = p->up.can_in || (events & MT_POLL_IN) != 0;
	p->down.can_out = p->down.can_out || (events & MT_POLL_OUT) != 0;
	p->hung_up = p->hung_up || (events & MT_POLL_HUP) != 0;
	run(p);
}

static void on_tls(void *user, unsigned events)
{
	struct mt_splice *p = user;
	int err;

	p->down.can_in = p->down.can_in || (events & MT_POLL_IN) != 0;
	p->up.can_out = p->up.can_out || (events & MT_POLL_OUT) != 0;
	if (p->tls->sock.fault != MT_TLS_FAULT_NONE && !p->tls->dead) {
		fail_tls(p);
	} else if ((events & MT_POLL_HUP) != 0 && p->tls->sock.fin_received && !p->tls->dead) {
		err = pending_error(p->tls->sock.fd);
		if (err != 0) {
			(void)mt_tls_socket_fail(&p->tls->sock, err); /* latched */
			fail_tls(p);
		}
	}
	run(p);
}

int mt_splice_start(struct mt_splice **out, const struct mt_splice_config *config)
{
	struct mt_splice *p = mt_mem_calloc(config->pump.mem, sizeof(*p));
	int rv;

	_Static_assert(
		offsetof(struct mt_splice, item) == 0, "the item is what the poller returns");
	if (p == NULL) {
		return -ENOMEM;
	}
	p->cfg = *config;
	p->tls = mt_tls_stream_of(config->pump.stream);
	rv = mt_poller_add(config->pump.poller, &p->item, config->pump.fd, on_target);
	if (rv != 0) {
		mt_mem_release(config->pump.mem, p);
		return rv;
	}
	mt_stream_set_handler(config->pump.stream, NULL, NULL);
	p->tls->on_raw = on_tls;
	p->tls->raw_user = p;
	p->down.can_in = true;
	p->down.can_out = true;
	p->up.can_out = true;
	p->starting = true;
	p->paced.on_turn = on_turn;
	*out = p;
	run(p);
	p->starting = false;
	return 0;
}

void mt_splice_cancel(struct mt_splice *p, uint64_t app_code)
{
	if (p->over) {
		mt_poller_remove(p->cfg.pump.poller, &p->item); /* its end had not been told yet */
	} else {
		close_target_by_reset(p);
		let_go(p, app_code);
	}
	mt_mem_release(p->cfg.pump.mem, p);
}

uint64_t mt_splice_bytes_to_stream(const struct mt_splice *p)
{
	return p->result.bytes_to_stream;
}

uint64_t mt_splice_bytes_to_socket(const struct mt_splice *p)
{
	return p->result.bytes_to_socket;
}
