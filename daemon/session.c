#include "daemon/session.h"

#include "daemon/access.h"
#include "daemon/relay_stream.h"
#include "daemon/tls_front.h"
#include "proto/wire/settings.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t mt_session_serial(const struct mt_session *s)
{
	return s->conn != NULL ? mt_conn_serial(s->conn) : s->serial;
}

const struct mt_addr *mt_session_remote(const struct mt_session *s)
{
	return s->conn != NULL ? mt_conn_remote(s->conn) : &s->remote;
}

static void leave_account(struct mt_session *s)
{
	unsigned slots = (s->counted ? 1 : 0) + s->extra;

	while (slots-- > 0) {
		mt_account_leave(s->account);
	}
	s->counted = false;
	s->extra = 0;
}

static bool start_closing(struct mt_session *s, enum mt_app_code code, const char *reason)
{
	if (s->closing) {
		return false;
	}
	s->closing = true;
	leave_account(s); /* its client may come back at once */
	s->close_code = (uint64_t)code;
	/* Our own short texts. */
	(void)snprintf(s->close_reason, sizeof(s->close_reason), "%s", reason);
	mt_tunnels_cancel(&s->tunnels, s->close_code);
	return true;
}

/* Over TLS later, as QUIC's connections do: whoever closes a session may go on using it. */
static void close_carrier(struct mt_session *s)
{
	if (s->conn != NULL) {
		mt_conn_close(s->conn, s->close_code, s->close_reason);
	} else {
		mt_deadline_set(&s->env->deadlines, &s->farewell, 1);
	}
}

static void on_farewell(struct mt_deadline *deadline)
{
	struct mt_session *s =
		(struct mt_session *)((char *)deadline - offsetof(struct mt_session, farewell));

	if (s->conn != NULL) {
		close_carrier(s);
		return;
	}
	(void)start_closing(s, MT_APP_NONE, MT_SESSION_UNUSED_TEXT); /* an earlier reason stands */
	mt_tls_front_end_session(s);
}

bool mt_session_has_channel(const struct mt_session *s)
{
	for (size_t i = 0; i < MT_SESSION_CHANNELS_MAX; i++) {
		if (s->channels[i].channel != NULL) {
			return true;
		}
	}
	return false;
}

void mt_session_close(struct mt_session *s, enum mt_app_code code, const char *reason)
{
	if (!start_closing(s, code, reason)) {
		return;
	}
	if (!mt_session_has_channel(s)) {
		close_carrier(s);
		return;
	}
	for (size_t i = 0; i < MT_SESSION_CHANNELS_MAX; i++) {
		if (s->channels[i].channel != NULL) {
			mt_channel_closing(s->channels[i].channel, code, reason);
		}
	}
	mt_deadline_set(&s->env->deadlines, &s->farewell, MT_SESSION_FAREWELL_MS);
}

void mt_session_close_now(struct mt_session *s, enum mt_app_code code, const char *reason)
{
	(void)start_closing(s, code, reason); /* an earlier reason stands */
	mt_deadline_cancel(&s->farewell);
	close_carrier(s);
}

static void on_channel_end(void *user)
{
	((struct mt_session_channel *)user)->channel = NULL;
}

static void on_session_end(void *user, uint32_t session)
{
	struct mt_session *s = ((struct mt_session_channel *)user)->session;

	if (s->relay != NULL) {
		mt_relay_end_session(s->relay, session);
	}
}

/* A place for one more; NULL when there are enough. */
static struct mt_session_channel *free_channel(struct mt_session *s)
{
	size_t max = s->conn != NULL ? 1 : MT_SESSION_CHANNELS_MAX;

	for (size_t i = 0; i < max; i++) {
		if (s->channels[i].channel == NULL) {
			s->channels[i].session = s;
			return &s->channels[i];
		}
	}
	return NULL;
}

static void on_channel(void *user, struct mt_stream *stream)
{
	struct mt_session *s = user;
	struct mt_session_channel *slot = free_channel(s);
	const struct mt_channel_events events = {
		.on_end = on_channel_end,
		.on_session_end = on_session_end,
		.user = slot,
	};
	int64_t max_streams =
		mt_settings_int(&s->env->snapshot->settings, MT_SET_QUIC_MAX_STREAMS_PER_CONN);

	if (slot == NULL || mt_channel_open(&slot->channel, s->env, stream, (uint32_t)max_streams,
				    s->tunnels.trace, &events) < 0) {
		mt_count(&s->env->counters->channel_errors, 1);
		mt_channel_refuse(stream);
		return;
	}
	if (s->env->draining) {
		mt_channel_notice(slot->channel, MT_NOTICE_DRAINING, MT_SESSION_DRAINING_TEXT);
	}
	mt_channel_read(slot->channel);
}

static void drop_account(struct mt_session *s)
{
	if (s->account == NULL) {
		return;
	}
	if (s->relay != NULL) {
		mt_relay_meter_set_account(mt_relay_meter(s->relay), NULL);
	}
	s->tunnels.account = NULL;
	leave_account(s);
	mt_account_unref(s->account);
	s->account = NULL;
}

/* A client that was removed and added again has another account than before; tunnels that run stay
 * with the one that they began with.
 */
static void take_account(struct mt_session *s, struct mt_account *account)
{
	if (account != s->account) {
		drop_account(s);
		s->account = mt_account_ref(account);
		s->counted = mt_account_enter(account, mt_session_remote(s));
		s->tunnels.account = account;
		if (s->relay != NULL) {
			mt_relay_meter_set_account(mt_relay_meter(s->relay), account);
		}
	}
}

/* MT_APP_NONE, or why the identity is not, or no longer, welcome. */
static enum mt_app_code take_identity(struct mt_session *s, const uint8_t *fingerprint)
{
	const struct mt_snapshot_client *client = NULL;

	if (fingerprint != NULL) {
		memcpy(s->fingerprint, fingerprint, sizeof(s->fingerprint));
		s->has_identity = true;
		client = mt_snapshot_find(s->env->snapshot, fingerprint);
	}
	if (client != NULL) {
		memcpy(s->client, client->name, sizeof(s->client));
		s->expires_at = client->expires_at;
		take_account(s, client->account);
	}
	switch (mt_access_check_identity(s->env->snapshot, fingerprint)) {
	case 0: break;
	case GNUTLS_A_CERTIFICATE_EXPIRED: return MT_APP_EXPIRED;
	case GNUTLS_A_CERTIFICATE_UNKNOWN: return MT_APP_DISABLED;
	default: return MT_APP_REVOKED;
	}
	if (s->account != NULL && mt_account_is_exhausted(s->account)) {
		return MT_APP_QUOTA;
	}
	return MT_APP_NONE;
}

/* Most sessions have nothing that time could end soon: a hundred thousand of them must cost
 * nothing. */
static void watch(struct mt_session *s, int64_t now)
{
	bool wanted =
		!s->closing &&
		(s->relay != NULL ||
			(s->expires_at != 0 && s->expires_at <= now + 2 * MT_SESSION_OBSERVE_S) ||
			(s->account != NULL && mt_account_has_quota(s->account)));

	if (wanted && !s->watched) {
		LIST_INSERT_HEAD(&s->env->watched, s, of_watched);
	} else if (!wanted && s->watched) {
		LIST_REMOVE(s, of_watched);
	}
	s->watched = wanted;
}

static bool ensure_relay(struct mt_session *s)
{
	if (s->relay != NULL) {
		return true;
	}
	if (mt_relay_new(&s->relay, s->env, s->conn, s->client) < 0) {
		mt_count(&s->env->counters->errors, 1);
		return false;
	}
	mt_relay_meter_set_account(mt_relay_meter(s->relay), s->account);
	mt_relay_meter_set_rate(mt_relay_meter(s->relay), s->rate);
	watch(s, s->connected_at);
	return true;
}

static void on_udp_stream(void *user, struct mt_stream *stream)
{
	struct mt_session *s = user;

	if (ensure_relay(s)) {
		mt_relay_accept_stream(s->relay, stream);
	} else {
		mt_stream_release(stream, MT_APP_LIMIT);
	}
}

/* Never 0, which stands for none on the wire. Without random bytes it is not unique, which costs
 * nothing but convenience. */
static uint64_t new_trace(void)
{
	uint64_t trace = 0;

	if (gnutls_rnd(GNUTLS_RND_NONCE, &trace, sizeof(trace)) != 0 || trace == 0) {
		trace = 1;
	}
	return trace;
}

static struct mt_session *new_session(struct mt_env *env)
{
	struct mt_session *s = mt_mem_calloc(env->mem, sizeof(*s));

	if (s == NULL) {
		mt_count(&env->counters->errors, 1);
		return NULL;
	}
	s->rate = mt_rate_new(env->mem);
	if (s->rate == NULL) {
		mt_count(&env->counters->errors, 1);
		mt_mem_release(env->mem, s);
		return NULL;
	}
	s->env = env;
	s->connected_at = (int64_t)time(NULL);
	s->farewell.on_due = on_farewell;
	mt_tunnels_init(&s->tunnels, env, s->client, on_channel, s);
	s->tunnels.on_udp = on_udp_stream;
	s->tunnels.rate = s->rate;
	return s;
}

struct mt_session *mt_session_new(
	struct mt_env *env, struct mt_session_list *list, struct mt_conn *conn)
{
	struct mt_session *s = new_session(env);

	if (s == NULL) {
		return NULL;
	}
	s->conn = conn;
	s->tunnels.trace = new_trace(); /* over TLS each tunnel has its own */
	/* The rules may have changed since the handshake; mt_session_recheck then ends it. */
	(void)take_identity(s, mt_conn_fingerprint(conn));
	watch(s, s->connected_at);
	LIST_INSERT_HEAD(list, s, of_worker);
	env->session_count++;
	mt_conn_set_user(conn, s);
	return s;
}

struct mt_session *mt_session_new_tls(
	struct mt_env *env, struct mt_session_list *list, const struct mt_session_tls *how)
{
	struct mt_session *s = new_session(env);

	if (s == NULL) {
		return NULL;
	}
	s->front = how->front;
	s->remote = *how->remote;
	s->serial = how->serial;
	LIST_INIT(&s->visits);
	(void)take_identity(s, how->fingerprint); /* as above */
	watch(s, s->connected_at);
	LIST_INSERT_HEAD(list, s, of_worker);
	env->session_count++;
	return s;
}

static unsigned slots_for(unsigned streams, unsigned max_streams)
{
	return max_streams == 0 ? 1 : (streams + max_streams - 1) / max_streams;
}

int mt_session_enter(struct mt_session *s, unsigned max_streams)
{
	unsigned needed = slots_for(++s->visit_count, max_streams);

	if (s->closing) {
		return MT_E_CLOSED;
	}
	mt_deadline_cancel(&s->farewell);
	if (s->account == NULL) {
		return 0;
	}
	if (!s->counted) {
		s->counted = mt_account_enter(s->account, &s->remote);
	}
	while (s->counted && s->extra + 1 < needed) {
		if (!mt_account_enter(s->account, &s->remote)) {
			return MT_E_LIMIT;
		}
		s->extra++;
	}
	return s->counted ? 0 : MT_E_LIMIT;
}

void mt_session_exit(struct mt_session *s, unsigned max_streams)
{
	unsigned needed = slots_for(--s->visit_count, max_streams);

	if (s->closing) {
		return;
	}
	for (; s->extra > 0 && s->extra + 1 > needed; s->extra--) {
		mt_account_leave(s->account);
	}
	if (s->visit_count == 0) {
		leave_account(s);
		mt_deadline_set(&s->env->deadlines, &s->farewell, MT_SESSION_UNUSED_MS);
	}
}

void mt_session_accept_stream(struct mt_session *s, struct mt_stream *stream)
{
	if (s->closing) {
		mt_stream_release(stream, s->close_code);
		return;
	}
	mt_tunnels_accept(&s->tunnels, stream);
}

void mt_session_receive_datagram(struct mt_session *s, const uint8_t *data, size_t len)
{
	if (s->closing) {
		return;
	}
	if (ensure_relay(s)) {
		mt_relay_receive(s->relay, data, len);
	}
}

void mt_session_resume_relay(struct mt_session *s)
{
	if (s->relay != NULL) {
		mt_relay_resume(s->relay);
	}
}

void mt_session_recheck(struct mt_session *s, enum mt_recheck how)
{
	enum mt_app_code code;
	unsigned ended;

	if (s->closing) {
		return;
	}
	mt_rate_set(s->rate,
		mt_settings_int(&s->env->snapshot->settings, MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN));
	code = take_identity(s, s->has_identity ? s->fingerprint : NULL);
	if (code != MT_APP_NONE) {
		if (code == MT_APP_QUOTA) {
			mt_count(&s->env->counters->limit_client_quota, 1);
		}
		mt_session_close(s, code, mt_app_code_text(code));
		return;
	}
	if (s->account != NULL && !s->counted && (s->conn != NULL || s->visit_count > 0)) {
		mt_count(&s->env->counters->limit_client_connections, 1);
		mt_session_close(s, MT_APP_LIMIT, MT_SESSION_CROWDED_TEXT);
		return;
	}
	watch(s, (int64_t)time(NULL));
	ended = mt_tunnels_recheck(&s->tunnels, how);
	if (s->relay != NULL) {
		ended += mt_relay_recheck(s->relay, how);
	}
	if (ended > 0) {
		mt_session_notify(s, MT_NOTICE_POLICY, MT_SESSION_POLICY_TEXT);
	}
}

void mt_session_tick(struct mt_session *s, int64_t now)
{
	if (s->relay != NULL) {
		mt_relay_meter_report(mt_relay_meter(s->relay));
	}
	if (s->closing || s->account == NULL) {
		return;
	}
	if (s->expires_at != 0 && now >= s->expires_at) {
		mt_session_close(s, MT_APP_EXPIRED, mt_app_code_text(MT_APP_EXPIRED));
	} else if (mt_account_is_exhausted(s->account)) {
		mt_count(&s->env->counters->limit_client_quota, 1);
		mt_session_close(s, MT_APP_QUOTA, mt_app_code_text(MT_APP_QUOTA));
	}
}

void mt_session_observe(struct mt_session *s, int64_t now)
{
	struct mt_conn_info info;
	uint64_t rtt_ns;

	watch(s, now);
	if (s->closing) {
		return;
	}
	if (s->conn != NULL) {
		mt_conn_get_info(s->conn, &info);
		rtt_ns = info.smoothed_rtt_ns;
	} else {
		rtt_ns = (uint64_t)(mt_tls_front_rtt_ms(s) * 1e6);
		if (rtt_ns == 0) { /* none of its connections knows */
			return;
		}
	}
	mt_histogram_observe(&s->env->counters->rtt, &mt_histogram_times, rtt_ns);
}

void mt_session_notify(struct mt_session *s, enum mt_notice code, const char *text)
{
	for (size_t i = 0; i < MT_SESSION_CHANNELS_MAX && !s->closing; i++) {
		if (s->channels[i].channel != NULL) {
			mt_channel_notice(s->channels[i].channel, code, text);
		}
	}
}

void mt_session_get_row(struct mt_session *s, struct mt_connection_row *row, unsigned worker)
{
	struct mt_conn_info info;

	*row = (struct mt_connection_row){
		.worker = worker, .connected_at = s->connected_at, .peer = *mt_session_remote(s)};
	(void)snprintf(row->id, sizeof(row->id), "%u-%" PRIu64, worker & 0xff,
		mt_session_serial(s)); /* 3 + 1 + 20 digits at most */
	memcpy(row->client, s->client, sizeof(row->client));
	if (s->conn != NULL) {
		mt_conn_get_info(s->conn, &info);
		row->congestion_control = info.congestion_control;
		row->trace = s->tunnels.trace;
		row->rtt_ms = (double)info.smoothed_rtt_ns / 1e6;
		row->streams = info.streams;
	} else {
		row->is_tls = true;
		row->rtt_ms = mt_tls_front_rtt_ms(s);
		row->streams = s->visit_count;
	}
	mt_tunnels_bytes(&s->tunnels, &row->bytes_received, &row->bytes_sent);
	if (s->relay != NULL) {
		row->udp_flows = mt_relay_flows(s->relay);
		row->bytes_received += mt_relay_bytes_received(s->relay);
		row->bytes_sent += mt_relay_bytes_sent(s->relay);
	}
}

void mt_session_free(struct mt_session *s)
{
	struct mt_env *env = s->env;
	struct mt_walk *walk;

	mt_deadline_cancel(&s->farewell);
	mt_tunnels_abandon(&s->tunnels);
	drop_account(s);
	mt_relay_free(s->relay);
	mt_rate_unref(s->rate);
	for (size_t i = 0; i < MT_SESSION_CHANNELS_MAX; i++) {
		mt_channel_free(s->channels[i].channel, MT_APP_NONE);
	}
	if (s->conn != NULL) {
		mt_conn_set_user(s->conn, NULL);
	}
	if (s->watched) {
		LIST_REMOVE(s, of_watched);
	}
	if (env->observed == s) {
		env->observed = LIST_NEXT(s, of_worker);
	}
	LIST_FOREACH(walk, &env->walks, link)
	{
		if (walk->next == s) {
			walk->next = LIST_NEXT(s, of_worker);
		}
	}
	env->session_count--;
	LIST_REMOVE(s, of_worker);
	mt_mem_release(env->mem, s);
}
