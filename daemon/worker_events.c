#include "daemon/worker_impl.h"

#include "daemon/access.h"
#include "daemon/access_log.h"
#include "daemon/log.h"
#include "proto/wire/probes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int authorize(void *user, const uint8_t *fingerprint)
{
	const struct mt_worker *w = user;

	return mt_access_check_identity(w->env.snapshot, fingerprint);
}

#define REFUSALS_PER_S 20 /* told by one worker; of the rest only how many */

static void tell(struct mt_worker *w, const struct mt_worker_event *event)
{
	if (w->events.on_event != NULL) {
		w->events.on_event(w->events.user, event);
	}
}

void mt_worker_tell_session(struct mt_worker *w, const struct mt_session *s, const char *event,
	const char *reason, const char *detail)
{
	struct mt_worker_event e = {.event = event, .peer = *mt_session_remote(s)};

	mt_access_log_connection(
		&w->env, event, s->tunnels.trace, s->client, &e.peer, reason, detail);
	(void)snprintf(e.id, sizeof(e.id), "%u-%" PRIu64, w->index & 0xff,
		mt_session_serial(s)); /* 3 + 1 + 20 digits at most */
	memcpy(e.client, s->client, sizeof(e.client));
	/* For people: cut when too long. */
	(void)snprintf(e.reason, sizeof(e.reason), "%s", reason);
	(void)snprintf(e.detail, sizeof(e.detail), "%s", detail);
	tell(w, &e);
}

static enum mt_identity_refusal refusal(
	const struct mt_worker *w, const uint8_t *fingerprint, char *name)
{
	const struct mt_snapshot_client *client;

	if (fingerprint == NULL) {
		return MT_IDENTITY_MISSING;
	}
	client = mt_snapshot_find(w->env.snapshot, fingerprint);
	if (client == NULL) {
		return MT_IDENTITY_UNKNOWN;
	}
	memcpy(name, client->name, sizeof(client->name));
	if (client->revoked) {
		return MT_IDENTITY_REVOKED;
	}
	return client->disabled ? MT_IDENTITY_DISABLED : MT_IDENTITY_EXPIRED;
}

void mt_worker_on_refused(
	void *user, const struct mt_addr *remote, const char *why, const uint8_t *fingerprint)
{
	struct mt_worker *w = user;
	static const char *const texts[MT_IDENTITY_REFUSALS] = {
		[MT_IDENTITY_MISSING] = "no client certificate",
		[MT_IDENTITY_UNKNOWN] = "unknown identity",
		[MT_IDENTITY_REVOKED] = "revoked",
		[MT_IDENTITY_DISABLED] = "disabled",
		[MT_IDENTITY_EXPIRED] = "expired",
	};
	struct mt_worker_event e = {.event = "refused", .peer = *remote};
	char peer[MT_ADDR_TEXT_MAX];
	uint64_t second = uv_now(&w->loop) / 1000;

	/* Without a sentence of the endpoint's it is the identity. */
	if (why == NULL) {
		enum mt_identity_refusal which = refusal(w, fingerprint, e.client);

		mt_count(&w->env.counters->identity_refusals[which], 1);
		why = texts[which];
	}
	mt_log(MT_LOG_INFO, "refused", MT_LOG_TEXT("client", e.client),
		MT_LOG_TEXT("peer", mt_addr_format(remote, peer, sizeof(peer))),
		MT_LOG_TEXT("reason", why));
	/* A flood must not wash everything else out of the ring. */
	if (w->refused_second != second) {
		w->refused_second = second;
		w->refused_told = 0;
	}
	if (w->refused_told == REFUSALS_PER_S) {
		w->refused_untold++;
		return;
	}
	w->refused_told++;
	(void)snprintf(e.reason, sizeof(e.reason), "%s", why); /* for people: cut when too long */
	if (w->refused_untold > 0) {
		(void)snprintf(e.detail, sizeof(e.detail), "and %u more before",
			w->refused_untold); /* always fits */
		w->refused_untold = 0;
	}
	tell(w, &e);
}

static const char *end_reason(const struct mt_conn_end *end)
{
	if (end->err == MT_E_TIMEOUT) {
		return "idle timeout";
	}
	if (end->err == MT_E_RESET) {
		return "stateless reset";
	}
	if (end->by_peer) {
		return "closed by the client";
	}
	return "protocol error";
}

static bool wants_qlog(void *user)
{
	const struct mt_worker *w = user;

	return mt_qlogs_wanted(w->qlogs);
}

static bool on_qlog(void *user, struct mt_conn *c, const struct mt_qlog_part *part)
{
	struct mt_worker *w = user;
	const struct mt_session *s = mt_conn_user(c);

	return s != NULL && mt_qlogs_put(w->qlogs, s->qlog, s->tunnels.trace, part);
}

/* Now that the client is known. */
static void keep_qlog(struct mt_worker *w, struct mt_session *s)
{
	if (mt_conn_has_qlog(s->conn)) {
		s->qlog = mt_qlogs_find(w->qlogs, s->client);
		if (s->qlog != 0) {
			mt_conn_keep_qlog(s->conn);
		}
	}
}

static void on_established(void *user, struct mt_conn *c)
{
	struct mt_worker *w = user;
	struct mt_session *s = mt_session_new(&w->env, &w->sessions, c);

	mt_histogram_observe(
		&w->env.counters->handshakes, &mt_histogram_times, mt_conn_handshake_ns(c));
	mt_worker_watch_sessions(w);
	if (s == NULL) {
		mt_conn_close(c, MT_APP_LIMIT, "out of memory");
	} else if (w->stopping) {
		mt_session_close_now(s, MT_APP_SHUTDOWN, mt_app_code_text(MT_APP_SHUTDOWN));
	} else {
		MT_PROBE4(handshake_done, mt_conn_serial(c), s->tunnels.trace, s->client,
			&mt_conn_remote(c)->sa);
		mt_worker_tell_session(w, s, "connected", "", "");
		keep_qlog(w, s);
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

	if (s != NULL) {
		const char *reason = s->closing ? s->close_reason : end_reason(end);

		MT_PROBE4(connection_close, mt_conn_serial(c), s->tunnels.trace, s->client, reason);
		mt_worker_tell_session(
			user, s, "disconnected", reason, end->by_peer ? end->reason : "");
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
		.on_refused = mt_worker_on_refused,
		.on_established = on_established,
		.on_stream = on_stream,
		.on_datagram = on_datagram,
		.on_datagram_room = on_datagram_room,
		.on_end = on_end,
		.on_foreign = on_foreign,
		.wants_qlog = wants_qlog,
		.on_qlog = on_qlog,
		.user = w,
	};
}
