#include "daemon/worker_impl.h"

#include "daemon/tls_front.h"

static uint64_t next_serial(void *user)
{
	return mt_endpoint_take_serial(mt_worker_endpoint(user));
}

static void on_session(void *user, struct mt_session *s)
{
	struct mt_worker *w = user;

	mt_worker_watch_sessions(w);
	if (w->stopping) {
		mt_session_close_now(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
		return;
	}
	mt_worker_tell_session(w, s, "connected", "", "");
	/* The snapshot may have changed since the handshake asked. */
	mt_session_recheck(s, MT_RECHECK_OTHERS);
}

static void on_session_end(void *user, struct mt_session *s)
{
	mt_worker_tell_session(user, s, "disconnected", s->close_reason, "");
}

int mt_worker_open_tls(struct mt_worker *w)
{
	const struct mt_tls_front_config config = {
		.env = &w->env,
		.loop = &w->loop,
		.sessions = &w->sessions,
		.next_serial = next_serial,
		.on_session = on_session,
		.on_session_end = on_session_end,
		.on_refused = mt_worker_on_refused,
		.user = w,
	};
	int rv = mt_tls_front_new(&w->tls, &config);

	if (rv == 0) {
		mt_worker_set_tls_limits(w);
	}
	return rv;
}

void mt_worker_set_tls_limits(struct mt_worker *w)
{
	struct mt_endpoint_limits quic;
	struct mt_tls_limits limits;

	mt_worker_limits(&quic, w->env.snapshot, w->count);
	limits = (struct mt_tls_limits){
		/* Each worker has its part of them, rounded up. */
		.max_connections = (quic.max_connections + w->count - 1) / w->count,
		.max_new_per_sec = quic.max_new_per_sec,
		.max_streams = (unsigned)quic.max_streams,
	};
	mt_tls_front_set_limits(w->tls, &limits);
}

int mt_worker_add_tls_listener(struct mt_worker *w, unsigned listener, int fd)
{
	return mt_tls_front_add_listener(w->tls, listener, fd);
}

void mt_worker_close_tls_listener(struct mt_worker *w, unsigned listener)
{
	mt_tls_front_close_listener(w->tls, listener);
}
