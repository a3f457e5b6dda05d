#include "proto/io/driver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BATCHES_A_TURN 4        /* of recvmmsg a socket, before the others (TCP) get their share */
#define SHARED_BATCH   4        /* messages, one batch a turn; see mt_endpoint_is_shared */
#define ROUNDS_A_TURN  8        /* of expire, dispatch, flush, likewise */
#define HANDSHAKES_NS  50000ull /* of a turn, and one more; see mt_endpoint_is_deferring */
#define NS_PER_S       1000000000ull
/* With the way out blocked the expiry stays in the past; the sockets' writability is what is waited
 * for, and the clock of all other connections goes on this coarsely.
 */
#define BLOCKED_TICK_NS 5000000ull

struct driver_socket {
	struct mt_udp_socket udp; /* what users see: first member */
	struct mt_driver *driver;
	struct driver_socket *next;
	uv_poll_t poll;
	int watching; /* UV_READABLE, UV_WRITABLE */
	bool retired;
};

struct mt_driver {
	struct mt_endpoint *endpoint;
	struct mt_udp_rx *rx;
	struct mt_udp_tx *tx;
	struct driver_socket *sockets;
	uv_loop_t *loop;
	uv_prepare_t prepare;
	uv_idle_t idle; /* active: work is left, the loop must not wait */
	uv_poll_t timer;
	int timer_fd;
	uint64_t armed_ns;   /* 0: not armed */
	uint64_t now_ns;     /* never goes back */
	uint64_t read_at_ns; /* 0: sockets are watched; else they are read then */
	bool in_turn;        /* now_ns is fresh */
	int open_handles;
};

static uint64_t refresh(struct mt_driver *d)
{
	struct timespec ts;
	uint64_t now;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail on Linux */
	now = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
	if (now > d->now_ns) {
		d->now_ns = now;
	}
	return d->now_ns;
}

uint64_t mt_driver_now_ns(struct mt_driver *d)
{
	return d->in_turn ? d->now_ns : refresh(d);
}

struct mt_endpoint *mt_driver_endpoint(struct mt_driver *d)
{
	return d->endpoint;
}

const struct mt_udp_tx_stats *mt_driver_tx_stats(const struct mt_driver *d)
{
	return mt_udp_tx_stats(d->tx);
}

/* Connections may outlive the socket that they last used: only pointers to open ones reach the
 * batches. A later socket may stand at the same place in memory, so the address must fit too.
 */
static bool is_open(const struct mt_driver *d, const struct mt_path *path)
{
	for (const struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		if (path->socket == &s->udp) {
			return s->udp.local.sa.sa_family == path->local.sa.sa_family &&
			       mt_addr_port(&s->udp.local) == mt_addr_port(&path->local) &&
			       (mt_addr_is_any(&s->udp.local) ||
				       mt_addr_equal_host(&s->udp.local, &path->local));
		}
	}
	return false;
}

/* The socket that serves `local` now: the same address before a wildcard. */
static struct mt_udp_socket *successor(struct mt_driver *d, const struct mt_addr *local)
{
	struct mt_udp_socket *found = NULL;

	for (struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		if (s->retired || s->udp.local.sa.sa_family != local->sa.sa_family ||
			mt_addr_port(&s->udp.local) != mt_addr_port(local)) {
			continue;
		}
		if (mt_addr_equal_host(&s->udp.local, local)) {
			return &s->udp;
		}
		if (s->udp.wildcard) {
			found = &s->udp;
		}
	}
	return found;
}

static uint8_t *reserve(void *user)
{
	struct mt_driver *d = user;

	return mt_udp_tx_reserve(d->tx);
}

static void commit(void *user, const struct mt_path *path, unsigned ecn, size_t len, size_t segment)
{
	struct mt_driver *d = user;
	struct mt_path known = *path;

	if (!is_open(d, &known)) {
		known.socket = successor(d, &known.local);
	}
	mt_udp_tx_commit(d->tx, &known, ecn, len, segment);
}

static void on_ahead(void *user, const uint8_t *data, size_t len)
{
	struct mt_driver *d = user;

	mt_endpoint_expect(d->endpoint, data, len);
}

static void on_message(void *user, const struct mt_path *path, unsigned ecn, const uint8_t *data,
	size_t len, size_t segment)
{
	struct mt_driver *d = user;

	mt_endpoint_receive(d->endpoint, path, ecn, data, len, segment, d->now_ns);
}

/* What comes to a retired socket belongs to the one that serves its address now, if any. */
static void on_late_message(void *user, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len, size_t segment)
{
	struct mt_driver *d = user;
	struct mt_path now = *path;
	struct mt_udp_socket *s = successor(d, &path->local);

	if (s != NULL) {
		now.socket = s;
	} else {
		now.retired = true;
	}
	on_message(d, &now, ecn, data, len, segment);
}

/* Whether nothing is left. */
static bool receive(struct driver_socket *s)
{
	struct mt_driver *d = s->driver;
	bool shared = mt_endpoint_is_shared(d->endpoint);
	int most = shared ? SHARED_BATCH : MT_UDP_RX_MESSAGES;

	mt_udp_rx_set_most(d->rx, (unsigned)most);
	for (int i = 0; i < (shared ? 1 : BATCHES_A_TURN); i++) {
		int n;

		refresh(d);
		d->in_turn = true;
		n = mt_udp_receive(d->rx, &s->udp, s->retired ? on_late_message : on_message, d);
		d->in_turn = false;
		/* An error here is one that an ICMP message left on the socket: reading it took it
		 * away. */
		if (n >= 0 && n < most) {
			return true;
		}
	}
	return false;
}

static void on_socket(uv_poll_t *handle, int status, int events);

static void watch(struct driver_socket *s)
{
	int events =
		(s->driver->read_at_ns == 0 ? UV_READABLE : 0) | (s->udp.blocked ? UV_WRITABLE : 0);

	if (s->watching != events) {
		int err = events != 0 ? uv_poll_start(&s->poll, events, on_socket)
				      : uv_poll_stop(&s->poll);

		assert(err == 0); /* only for a closing handle it fails */
		(void)err;
		s->watching = events;
	}
}

static void on_socket(uv_poll_t *handle, int status, int events)
{
	struct driver_socket *s = handle->data;

	/* Writable: the flush of this turn goes on where it was blocked. An error status (EPOLLERR
	 * with nothing readable) stops nothing: the next receive fetches it.
	 */
	if (status != 0 || (events & UV_READABLE) != 0) {
		(void)receive(s); /* what is left wakes the loop again */
	}
	if (status != 0) {
		s->watching = 0; /* libuv stops polling then */
		watch(s);
	}
}

/* Wakes the loop at `at_ns`. A timer armed for earlier is left alone: the expiry mostly moves on
 * with every packet, and one early wake-up costs less than a system call each time.
 */
static void arm(struct mt_driver *d, uint64_t at_ns)
{
	struct itimerspec when = {.it_interval = {0, 0}};

	if (at_ns == UINT64_MAX || (d->armed_ns != 0 && d->armed_ns <= at_ns)) {
		return;
	}
	when.it_value.tv_sec = (time_t)(at_ns / NS_PER_S);
	when.it_value.tv_nsec = (long)(at_ns % NS_PER_S);
	if (timerfd_settime(d->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0) {
		d->armed_ns = at_ns;
	}
}

static void on_timer(uv_poll_t *handle, int status, int events)
{
	struct mt_driver *d = handle->data;
	uint64_t ticks;

	(void)status;
	(void)events;
	/* Only the turn that it starts counts; EAGAIN when it was armed anew in between. */
	if (read(d->timer_fd, &ticks, sizeof(ticks)) == (ssize_t)sizeof(ticks)) {
		d->armed_ns = 0;
	}
}

static void on_idle(uv_idle_t *handle)
{
	(void)handle; /* its being active is all that matters */
}

/* What costs most is not begun when HANDSHAKES_NS have passed. */
static void expire(struct mt_driver *d)
{
	uint64_t began = d->now_ns;
	bool more = mt_endpoint_is_deferring(d->endpoint);

	mt_endpoint_expire(d->endpoint, d->now_ns);
	if (!more) {
		return;
	}
	while (more && refresh(d) - began < HANDSHAKES_NS) {
		more = mt_endpoint_run_deferred(d->endpoint);
	}
	mt_endpoint_rest(d->endpoint, refresh(d) - began, d->now_ns);
}

/* Expiries, events, packets: until nothing is due now, or others wait for a look at their sockets.
 * Returns true when the way out is blocked: a socket's writability then starts the next turn.
 */
static bool run_rounds(struct mt_driver *d, uint64_t *expiry_ns)
{
	bool blocked = false;
	bool had_room;

	for (int i = 0; i < ROUNDS_A_TURN && !blocked; i++) {
		refresh(d);
		d->in_turn = true;
		expire(d);
		mt_endpoint_dispatch(d->endpoint, d->now_ns);
		had_room = mt_endpoint_flush(d->endpoint, d->now_ns);
		d->in_turn = false;
		blocked = mt_udp_tx_flush(d->tx) != 0;
		/* The endpoint does not count what it could not write as due. When the socket has
		 * taken everything after all, nothing but the next round would write it.
		 */
		*expiry_ns = had_room || blocked ? mt_endpoint_expiry(d->endpoint) : 0;
		if (*expiry_ns > refresh(d) || mt_endpoint_is_deferring(d->endpoint) ||
			mt_endpoint_is_conversing(d->endpoint)) {
			break; /* with handshakes or little exchanges waiting: sockets first */
		}
	}
	return blocked;
}

/* While the endpoint lets it, what comes in gathers in the sockets, and is received at a time of
 * our own: nobody waits for it, and a batch costs less than its packets one by one.
 */
static bool receive_gathered(struct mt_driver *d)
{
	bool drained = true;

	if (d->read_at_ns == 0 || refresh(d) < d->read_at_ns) {
		return true;
	}
	d->read_at_ns = 0;
	for (struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		drained = receive(s) && drained;
	}
	return drained;
}

static void on_prepare(uv_prepare_t *handle)
{
	struct mt_driver *d = handle->data;
	uint64_t expiry_ns = UINT64_MAX;
	bool drained = receive_gathered(d);
	bool blocked = run_rounds(d, &expiry_ns);
	uint64_t patience_ns = mt_endpoint_patience(d->endpoint);
	bool again = false;

	if (patience_ns == 0) {
		d->read_at_ns = 0;
	} else if (d->read_at_ns == 0) {
		d->read_at_ns = d->now_ns + (drained ? patience_ns : 0);
	}
	for (struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		watch(s);
	}
	if (blocked) {
		uint64_t tick = d->now_ns + BLOCKED_TICK_NS;

		arm(d, expiry_ns > tick ? expiry_ns : tick);
	} else if (expiry_ns <= d->now_ns) {
		again = true;
	} else {
		arm(d, expiry_ns);
	}
	if (d->read_at_ns != 0) {
		arm(d, d->read_at_ns);
	}
	if (again) {
		(void)uv_idle_start(&d->idle, on_idle); /* cannot fail with a callback */
	} else {
		(void)uv_idle_stop(&d->idle);
	}
}

static void release(struct mt_driver *d)
{
	if (--d->open_handles == 0) {
		free(d);
	}
}

static void on_handle_closed(uv_handle_t *handle)
{
	release(handle->data);
}

static void on_socket_closed(uv_handle_t *handle)
{
	struct driver_socket *s = handle->data;
	struct mt_driver *d = s->driver;

	free(s);
	release(d);
}

static void close_handles(struct mt_driver *d)
{
	uv_close((uv_handle_t *)&d->prepare, on_handle_closed);
	uv_close((uv_handle_t *)&d->idle, on_handle_closed);
	uv_close((uv_handle_t *)&d->timer, on_handle_closed);
	close(d->timer_fd);
}

static int open_handles(struct mt_driver *d)
{
	int err;

	d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (d->timer_fd < 0) {
		return -errno;
	}
	err = uv_poll_init(d->loop, &d->timer, d->timer_fd);
	if (err != 0) {
		close(d->timer_fd);
		return err;
	}
	/* From here on nothing can fail. */
	d->timer.data = d;
	(void)uv_prepare_init(d->loop, &d->prepare);
	d->prepare.data = d;
	(void)uv_idle_init(d->loop, &d->idle);
	d->idle.data = d;
	d->open_handles = 3;
	(void)uv_poll_start(&d->timer, UV_READABLE, on_timer);
	(void)uv_prepare_start(&d->prepare, on_prepare);
	return 0;
}

int mt_driver_new(struct mt_driver **out, uv_loop_t *loop, struct mt_endpoint_config *config)
{
	struct mt_driver *d = calloc(1, sizeof(*d));
	int err = -ENOMEM;

	if (d == NULL) {
		return -ENOMEM;
	}
	d->loop = loop;
	d->rx = mt_udp_rx_new();
	d->tx = mt_udp_tx_new();
	if (d->rx == NULL || d->tx == NULL) {
		goto out;
	}
	mt_udp_rx_set_ahead(d->rx, on_ahead, d);
	config->tx = (struct mt_tx){.reserve = reserve, .commit = commit, .user = d};
	err = mt_endpoint_new(&d->endpoint, config);
	if (err != 0) {
		goto out;
	}
	err = open_handles(d);
	if (err != 0) {
		goto out;
	}
	*out = d;
	return 0;
out:
	if (d->endpoint != NULL) {
		mt_endpoint_free(d->endpoint);
	}
	mt_udp_tx_free(d->tx);
	mt_udp_rx_free(d->rx);
	free(d);
	return err;
}

void mt_driver_free(struct mt_driver *d)
{
	bool out;

	if (d == NULL) {
		return;
	}
	out = mt_endpoint_flush(d->endpoint, refresh(d)) && mt_udp_tx_flush(d->tx) == 0;
	(void)out; /* the last words: what cannot leave now is a loss like any other */
	mt_endpoint_free(d->endpoint);
	while (d->sockets != NULL) {
		mt_driver_close_socket(d, &d->sockets->udp);
	}
	mt_udp_tx_free(d->tx);
	mt_udp_rx_free(d->rx);
	close_handles(d);
}

int mt_driver_open_socket(struct mt_driver *d, const struct mt_addr *bind_to,
	const struct mt_udp_options *options, struct mt_udp_socket **out)
{
	struct mt_udp_socket s;
	int err = mt_udp_open(&s, bind_to, options);

	if (err != 0) {
		return err;
	}
	err = mt_driver_add_socket(d, &s, out);
	if (err != 0) {
		mt_udp_close(&s);
	}
	return err;
}

int mt_driver_add_socket(
	struct mt_driver *d, const struct mt_udp_socket *socket, struct mt_udp_socket **out)
{
	struct driver_socket *s = calloc(1, sizeof(*s));
	int err;

	if (s == NULL) {
		return -ENOMEM;
	}
	s->udp = *socket;
	s->driver = d;
	err = uv_poll_init(d->loop, &s->poll, s->udp.fd);
	if (err != 0) {
		free(s);
		return err;
	}
	s->poll.data = s;
	d->open_handles++;
	s->next = d->sockets;
	d->sockets = s;
	watch(s);
	*out = &s->udp;
	return 0;
}

void mt_driver_close_socket(struct mt_driver *d, struct mt_udp_socket *socket)
{
	for (struct driver_socket **at = &d->sockets; *at != NULL; at = &(*at)->next) {
		struct driver_socket *s = *at;

		if (&s->udp == socket) {
			*at = s->next;
			mt_udp_tx_forget(d->tx, socket);
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
			mt_udp_close(socket);
			return;
		}
	}
}

void mt_driver_retire_socket(struct mt_driver *d, struct mt_udp_socket *socket, bool retired)
{
	for (struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		if (&s->udp == socket) {
			s->retired = retired;
		}
	}
}

bool mt_driver_needs_socket(
	struct mt_driver *d, const struct mt_path *path, const struct mt_udp_socket *s)
{
	return path->socket == s && successor(d, &path->local) == NULL;
}

/* Our socket for packets that came to `local` by another worker's: the same address before a
 * wildcard. */
static struct mt_udp_socket *own_socket(struct mt_driver *d, const struct mt_addr *local)
{
	struct mt_udp_socket *found = NULL;

	for (struct driver_socket *s = d->sockets; s != NULL; s = s->next) {
		if (s->udp.local.sa.sa_family != local->sa.sa_family ||
			mt_addr_port(&s->udp.local) != mt_addr_port(local)) {
			continue;
		}
		if (mt_addr_equal_host(&s->udp.local, local)) {
			return &s->udp;
		}
		if (found == NULL || mt_addr_is_any(&s->udp.local)) {
			found = &s->udp;
		}
	}
	return found;
}

void mt_driver_inject(struct mt_driver *d, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	struct mt_path own = *path;

	own.socket = successor(d, &path->local);
	if (own.socket == NULL) {
		own.socket = own_socket(d, &path->local);
	}
	mt_endpoint_receive(d->endpoint, &own, ecn, data, len, 0, mt_driver_now_ns(d));
}
