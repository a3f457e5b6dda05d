#include "daemon/worker_impl.h"

int mt_worker_add_socket(struct mt_worker *w, unsigned listener, const struct mt_udp_socket *socket)
{
	struct mt_worker_socket *to = &w->sockets[w->socket_count];
	int rv;

	if (w->socket_count == MT_LISTENERS_MAX) {
		return MT_E_LIMIT;
	}
	rv = mt_driver_add_socket(w->driver, socket, &to->udp);
	if (rv == 0) {
		to->listener = listener;
		w->socket_count++;
	}
	return rv;
}

static struct mt_udp_socket *find(const struct mt_worker *w, unsigned listener)
{
	for (unsigned i = 0; i < w->socket_count; i++) {
		if (w->sockets[i].listener == listener) {
			return w->sockets[i].udp;
		}
	}
	return NULL;
}

void mt_worker_retire_socket(struct mt_worker *w, unsigned listener, bool retired)
{
	mt_driver_retire_socket(w->driver, find(w, listener), retired);
}

static bool uses(struct mt_worker *w, const struct mt_session *s, const struct mt_udp_socket *udp)
{
	struct mt_path path;

	return udp != NULL && s->conn != NULL && mt_conn_get_path(s->conn, &path) == 0 &&
	       mt_driver_needs_socket(w->driver, &path, udp);
}

bool mt_worker_count_some_users(struct mt_worker *w, struct mt_walk *walk,
	const unsigned *listeners, size_t count, unsigned *users)
{
	const struct mt_session *s;

	for (unsigned i = 0; i < MT_WALK_SOME && (s = mt_worker_walk_on(w, walk)) != NULL; i++) {
		for (size_t k = 0; k < count; k++) {
			users[k] += uses(w, s, find(w, listeners[k]));
		}
	}
	return mt_worker_walk_has_more(walk);
}

bool mt_worker_end_some_users(
	struct mt_worker *w, struct mt_walk *walk, const unsigned *listeners, size_t count)
{
	struct mt_session *s;
	unsigned closes = 0;

	for (unsigned i = 0; i < MT_WALK_SOME && closes < MT_WALK_CLOSES &&
			     (s = mt_worker_walk_on(w, walk)) != NULL;
		i++) {
		bool used = false;

		for (size_t k = 0; k < count && !used; k++) {
			used = uses(w, s, find(w, listeners[k]));
		}
		if (used) {
			mt_session_close(s, MT_APP_SHUTDOWN, "this address is served no longer");
			closes++;
		}
	}
	return mt_worker_walk_has_more(walk);
}

void mt_worker_close_socket(struct mt_worker *w, unsigned listener)
{
	for (unsigned i = 0; i < w->socket_count; i++) {
		if (w->sockets[i].listener == listener) {
			mt_driver_close_socket(w->driver, w->sockets[i].udp);
			w->sockets[i] = w->sockets[--w->socket_count];
			return;
		}
	}
}
