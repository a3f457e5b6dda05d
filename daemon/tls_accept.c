#include "daemon/tls_front_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOKEN 1000u

static struct mt_worker_counters *counters_of(const struct mt_tls_front *f)
{
	return f->cfg.env->counters;
}

/* Whether the rate of new connections allows one more now. */
static bool take_token(struct mt_tls_front *f)
{
	uint64_t now = mt_deadlines_now_ms(&f->cfg.env->deadlines);
	uint64_t full = f->limits.max_new_per_sec * TOKEN;

	f->tokens += (now - f->filled_ms) * f->limits.max_new_per_sec;
	f->filled_ms = now;
	if (f->tokens > full) {
		f->tokens = full;
	}
	if (f->tokens < TOKEN) {
		return false;
	}
	f->tokens -= TOKEN;
	return true;
}

static void refuse(struct mt_tls_front *f, int fd, const struct mt_addr *remote, const char *why)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* Without a reset the client's first words would be waited for. */
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(fd);
	mt_count(&counters_of(f)->quic.connections_refused, 1);
	f->cfg.on_refused(f->cfg.user, remote, why, NULL);
}

static void admit(struct mt_tls_front *f, int fd, const struct mt_addr *remote)
{
	if (f->draining) {
		refuse(f, fd, remote, "the server is going down");
	} else if (f->visit_count >= f->limits.max_connections) {
		refuse(f, fd, remote, "quic.max_connections is reached");
	} else {
		if (mt_tls_loop_half_open(f->tls) >= MT_TLS_HALF_OPEN_MAX) {
			mt_count(&counters_of(f)->tls_half_open_dropped, 1);
			mt_tls_loop_shed(f->tls);
		}
		mt_tls_front_begin(f, fd, remote);
	}
}

static bool is_of_one_connection(int err)
{
	return err == ECONNABORTED || err == EINTR || err == EPROTO || err == ENETDOWN ||
	       err == ENOPROTOOPT || err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH ||
	       err == EOPNOTSUPP || err == ENETUNREACH;
}

/* 0, MT_E_AGAIN when nothing waits, or a negative errno. */
static int accept_one(struct mt_tls_listener *l)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	struct mt_addr remote;
	int fd = accept4(
		l->item.fd, (struct sockaddr *)&from, &from_len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		return errno == EAGAIN ? MT_E_AGAIN : is_of_one_connection(errno) ? 0 : -errno;
	}
	mt_count(&counters_of(l->front)->tls_accepted, 1);
	if (mt_addr_from_sockaddr(&remote, (const struct sockaddr *)&from, from_len) < 0) {
		(void)close(fd); /* of no family that we have opened */
		return 0;
	}
	mt_addr_unmap(&remote);
	admit(l->front, fd, &remote);
	return 0;
}

static void pause_all(struct mt_tls_front *f, uint64_t ms)
{
	if (f->again.in == NULL) {
		mt_deadline_set(&f->cfg.env->deadlines, &f->again, ms);
	}
}

static void accept_some(struct mt_tls_listener *l)
{
	struct mt_tls_front *f = l->front;

	for (unsigned n = 0; n < MT_TLS_ACCEPT_TURN; n++) {
		int rv;

		if (!take_token(f)) {
			pause_all(f, 10);
			return;
		}
		rv = accept_one(l);
		if (rv != 0) {
			f->tokens += TOKEN;
		}
		if (rv == MT_E_AGAIN) {
			return;
		}
		if (rv < 0) {
			mt_count(&counters_of(f)->errors, 1);
			pause_all(f, MT_TLS_PAUSE_MS);
			return;
		}
	}
	mt_poller_defer(f->cfg.env->poller, &l->item, MT_POLL_IN);
}

static void on_acceptable(struct mt_poll_item *item, unsigned events)
{
	struct mt_tls_listener *l = (struct mt_tls_listener *)item;

	(void)events;
	if (l->front->again.in == NULL) {
		accept_some(l);
	}
}

static void on_again(struct mt_deadline *deadline)
{
	struct mt_tls_front *f =
		(struct mt_tls_front *)((char *)deadline - offsetof(struct mt_tls_front, again));

	for (size_t i = 0; i < MT_TLS_LISTENERS_MAX; i++) {
		if (f->listeners[i].open) {
			mt_poller_defer(f->cfg.env->poller, &f->listeners[i].item, MT_POLL_IN);
		}
	}
}

void mt_tls_accept_init(struct mt_tls_front *f)
{
	f->again.on_due = on_again;
	f->filled_ms = mt_deadlines_now_ms(&f->cfg.env->deadlines);
}

static void close_listener(struct mt_tls_listener *l)
{
	mt_poller_close(l->front->cfg.env->poller, &l->item);
	l->open = false;
}

void mt_tls_accept_deinit(struct mt_tls_front *f)
{
	mt_deadline_cancel(&f->again);
	for (size_t i = 0; i < MT_TLS_LISTENERS_MAX; i++) {
		if (f->listeners[i].open) {
			close_listener(&f->listeners[i]);
		}
	}
}

int mt_tls_front_add_listener(struct mt_tls_front *f, unsigned id, int fd)
{
	struct mt_tls_listener *l = NULL;
	int rv;

	for (size_t i = 0; i < MT_TLS_LISTENERS_MAX && l == NULL; i++) {
		if (!f->listeners[i].open) {
			l = &f->listeners[i];
		}
	}
	if (l == NULL) {
		return MT_E_LIMIT;
	}
	rv = mt_poller_add(f->cfg.env->poller, &l->item, fd, on_acceptable);
	if (rv == 0) {
		l->front = f;
		l->id = id;
		l->open = true;
		mt_poller_defer(f->cfg.env->poller, &l->item, MT_POLL_IN);
	}
	return rv;
}

void mt_tls_front_close_listener(struct mt_tls_front *f, unsigned id)
{
	for (size_t i = 0; i < MT_TLS_LISTENERS_MAX; i++) {
		struct mt_tls_listener *l = &f->listeners[i];

		if (l->open && l->id == id) {
			/* Their clients have connected already. */
			for (unsigned n = 0; n < MT_TLS_HALF_OPEN_MAX && accept_one(l) == 0; n++) {
			}
			close_listener(l);
			return;
		}
	}
}
