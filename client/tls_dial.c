#include "client/tls_dial.h"

#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whom a connection's events are for: it may outlive its attempt, and the dial. */
struct mt_tls_line {
	LIST_ENTRY(mt_tls_line) of_watch;
	struct mt_mem *mem;
	struct attempt *attempt;    /* NULL: it has won, or was given up */
	struct mt_tls_watch *watch; /* NULL until it has won */
};

struct attempt {
	struct mt_poll_item item; /* first; while it connects */
	struct mt_tls_dial *dial;
	struct mt_stream *stream; /* in its handshake */
	struct mt_tls_line *line; /* likewise */
	struct mt_addr remote;
	uint64_t started; /* order */
	enum {
		FREE,
		CONNECTING,
		SHAKING_HANDS,
	} state;
};

struct mt_tls_dial {
	struct mt_tls_dial_config config;
	struct mt_addresses addresses;
	size_t next;
	uint64_t starts;
	struct attempt attempts[MT_TLS_DIAL_ATTEMPTS_MAX];
	struct mt_reason reason; /* of the last failure */
	uint64_t deadline_ms;
	bool over;
	uv_timer_t timer;
};

static void free_line(struct mt_tls_line *line)
{
	LIST_REMOVE(line, of_watch);
	mt_mem_release(line->mem, line);
}

void mt_tls_watch_deinit(struct mt_tls_watch *watch)
{
	while (!LIST_EMPTY(&watch->lines)) {
		free_line(LIST_FIRST(&watch->lines));
	}
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void drop_attempt(struct attempt *a)
{
	if (a->state == CONNECTING) {
		mt_poller_close(a->dial->config.poller, &a->item);
	} else if (a->state == SHAKING_HANDS) {
		a->line->attempt = NULL;
		mt_stream_release(a->stream, MT_APP_NONE);
	}
	a->state = FREE;
}

static void stop(struct mt_tls_dial *d)
{
	d->over = true;
	for (size_t i = 0; i < MT_TLS_DIAL_ATTEMPTS_MAX; i++) {
		drop_attempt(&d->attempts[i]);
	}
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

static void fail(struct mt_tls_dial *d)
{
	stop(d);
	d->config.on_done(d, NULL, NULL, &d->reason, d->config.user);
}

static bool is_racing(const struct mt_tls_dial *d)
{
	for (size_t i = 0; i < MT_TLS_DIAL_ATTEMPTS_MAX; i++) {
		if (d->attempts[i].state != FREE) {
			return true;
		}
	}
	return false;
}

static void start_next(struct mt_tls_dial *d);

/* An attempt is over, `d->reason` says why. */
static void go_on(struct mt_tls_dial *d)
{
	if (d->reason.permanent || (!is_racing(d) && d->next >= d->addresses.count)) {
		fail(d);
	} else if (d->next < d->addresses.count) {
		start_next(d);
	}
}

static void on_established(struct mt_stream *s, void *user)
{
	struct mt_tls_line *line = user;
	struct attempt *a = line->attempt;
	struct mt_tls_dial *d;
	struct mt_addr remote;

	if (a == NULL) {
		return;
	}
	d = a->dial;
	remote = a->remote;
	line->attempt = NULL;
	line->watch = d->config.watch;
	a->state = FREE;
	stop(d);
	d->config.on_done(d, s, &remote, NULL, d->config.user);
}

static void on_failed(const struct mt_tls_socket *socket, void *user)
{
	struct mt_tls_line *line = user;
	struct attempt *a = line->attempt;

	if (a != NULL) {
		line->attempt = NULL;
		a->state = FREE;
		mt_reason_from_tls(&a->dial->reason, socket);
		go_on(a->dial);
	}
}

static void on_gone(const struct mt_tls_socket *socket, void *user)
{
	struct mt_tls_line *line = user;

	if (line->watch != NULL) {
		line->watch->on_gone(line->watch, socket);
	}
	free_line(line);
}

static void begin_handshake(struct attempt *a)
{
	struct mt_tls_dial *d = a->dial;
	const int fd = a->item.fd;
	struct mt_tls_line *line = mt_mem_calloc(d->config.mem, sizeof(*line));
	struct mt_tls_stream_events events = {.on_established = on_established,
		.on_failed = on_failed,
		.on_gone = on_gone,
		.user = line};
	int err = -ENOMEM;

	mt_poller_remove(d->config.poller, &a->item);
	if (line != NULL) {
		line->mem = d->config.mem;
		line->attempt = a;
		LIST_INSERT_HEAD(&d->config.watch->lines, line, of_watch);
		err = mt_tls_stream_connect(
			&a->stream, d->config.connections, fd, d->config.tls, &events);
	}
	if (err < 0) {
		(void)close(fd); /* nothing was written */
		if (line != NULL) {
			free_line(line);
		}
		a->state = FREE;
		mt_reason_from_error(&d->reason, "no TLS connection can be opened", err);
		go_on(d);
		return;
	}
	a->line = line;
	a->state = SHAKING_HANDS;
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct attempt *a = (struct attempt *)item;
	int err = 0;
	socklen_t len = sizeof(err);

	if ((events & (MT_POLL_OUT | MT_POLL_HUP)) == 0) {
		return;
	}
	if (getsockopt(item->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
		err = errno;
	}
	if (err == 0 && (events & MT_POLL_HUP) != 0 && (events & MT_POLL_OUT) == 0) {
		err = ECONNRESET;
	}
	if (err != 0) {
		drop_attempt(a);
		mt_reason_from_error(
			&a->dial->reason, "the server cannot be reached over TCP", -err);
		go_on(a->dial);
		return;
	}
	begin_handshake(a);
}

static int open_socket(const struct mt_addr *remote)
{
	int fd = socket(remote->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, &remote->sa, remote->len) < 0 && errno != EINPROGRESS) {
		err = -errno;
		(void)close(fd); /* nothing was written */
		return err;
	}
	return fd;
}

/* A free place; the oldest attempt gives way when there is none. */
static struct attempt *take_place(struct mt_tls_dial *d)
{
	struct attempt *oldest = &d->attempts[0];

	for (size_t i = 0; i < MT_TLS_DIAL_ATTEMPTS_MAX; i++) {
		if (d->attempts[i].state == FREE) {
			return &d->attempts[i];
		}
		if (d->attempts[i].started < oldest->started) {
			oldest = &d->attempts[i];
		}
	}
	drop_attempt(oldest);
	return oldest;
}

static int start_attempt(struct mt_tls_dial *d, const struct mt_addr *remote)
{
	struct attempt *a;
	int fd = open_socket(remote);
	int err;

	if (fd < 0) {
		return fd;
	}
	a = take_place(d);
	*a = (struct attempt){.dial = d, .remote = *remote, .started = d->starts++};
	err = mt_poller_add(d->config.poller, &a->item, fd, on_ready);
	if (err < 0) {
		(void)close(fd); /* nothing was written */
		return err;
	}
	a->state = CONNECTING;
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct mt_tls_dial *d = timer->data;

	if (uv_now(d->config.loop) >= d->deadline_ms) {
		fail(d);
		return;
	}
	start_next(d);
}

static void start_next(struct mt_tls_dial *d)
{
	uint64_t now = uv_now(d->config.loop);
	uint64_t wait = MT_TLS_DIAL_STAGGER_MS;
	int err = -ENETUNREACH;

	if (d->next >= d->addresses.count) {
		return;
	}
	while (d->next < d->addresses.count && err < 0) {
		err = start_attempt(d, &d->addresses.list[d->next++]);
	}
	if (err < 0) {
		mt_reason_from_error(&d->reason, "the server cannot be reached over TCP", err);
		if (!is_racing(d)) {
			fail(d);
			return;
		}
	}
	if (d->next >= d->addresses.count) {
		wait = d->deadline_ms > now ? d->deadline_ms - now : 0;
	}
	/* Cannot fail: the timer is initialised and has a callback. */
	(void)uv_timer_start(&d->timer, on_timer, wait, 0);
}

int mt_tls_dial_start(struct mt_tls_dial **out, const struct mt_tls_dial_config *config)
{
	struct mt_tls_dial *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		return -ENOMEM;
	}
	d->config = *config;
	d->config.addresses = NULL;
	d->addresses = *config->addresses;
	(void)snprintf(
		d->reason.text, sizeof(d->reason.text), "the server does not answer over TCP");
	d->deadline_ms = uv_now(config->loop) + MT_TLS_DIAL_TIMEOUT_MS;
	(void)uv_timer_init(config->loop, &d->timer); /* always 0 */
	d->timer.data = d;
	(void)uv_timer_start(&d->timer, on_timer, 0, 0); /* a callback is given: always 0 */
	*out = d;
	return 0;
}

void mt_tls_dial_cancel(struct mt_tls_dial *dial)
{
	if (!dial->over) {
		stop(dial);
	}
}
