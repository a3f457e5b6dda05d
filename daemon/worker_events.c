#include "daemon/worker_impl.h"

#include "daemon/access.h"

static int authorize(void *user, const uint8_t *fingerprint)
{
	const struct mt_worker *w = user;

	return mt_access_check_identity(w->env.snapshot, fingerprint);
}

static void on_established(void *user, struct mt_conn *c)
{
	struct mt_worker *w = user;
	struct mt_session *s = mt_session_new(&w->env, &w->sessions, c);

	if (s == NULL) {
		mt_conn_close(c, MT_APP_LIMIT, "out of memory");
	} else if (w->stopping) {
		mt_session_close_now(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	} else {
		/* The snapshot may have changed since the handshake asked. */
		mt_session_recheck(s, MT_RECHECK_OTHERS);
	}
}

static void on_stream(void *user, struct mt_conn *c, struct mt_stream *stream)
{
	struct mt_session *s = mt_conn_user(c);

	(void)user;
	if (s == NULL) {
		mt_stream_release(stream, MT_APP_LIMIT);
		return;
	}
	mt_session_accept_stream(s, stream);
}

static void on_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct mt_session *s = mt_conn_user(c);

	(void)user;
	if (s != NULL) {
		mt_session_receive_datagram(s, data, len);
	}
}

static void on_datagram_room(void *user, struct mt_conn *c)
{
	struct mt_session *s = mt_conn_user(c);

	(void)user;
	if (s != NULL) {
		mt_session_resume_relay(s);
	}
}

static void on_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct mt_session *s = mt_conn_user(c);

	(void)user;
	(void)end;
	if (s != NULL) {
		mt_session_free(s);
	}
}

static void on_foreign(void *user, uint8_t worker, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	mt_worker_forward(user, worker, path, ecn, data, len);
}

void mt_worker_set_events(struct mt_worker *w, struct mt_endpoint_events *events)
{
	*events = (struct mt_endpoint_events){
		.authorize = authorize,
		.on_established = on_established,
		.on_stream = on_stream,
		.on_datagram = on_datagram,
		.on_datagram_room = on_datagram_room,
		.on_end = on_end,
		.on_foreign = on_foreign,
		.user = w,
	};
}
