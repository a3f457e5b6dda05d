#include "client/uplink_impl.h"
#include "proto/io/tls_stream.h"
#include "proto/wire/request.h"

#define FAILED_DIALS_MAX 3 /* in a row: then the control channel's word does not count */

static void go_down(struct mt_uplink *u, const struct mt_reason *reason)
{
	struct mt_uplink_tls *t = &u->tls;

	mt_channel_close(&t->channel);
	t->up = false;
	t->no_channel = false;
	t->failed = true;
	t->failed_dials = 0;
	t->reason = *reason;
	mt_chooser_tls_failed(&u->chooser, uv_now(u->config.loop));
	if (mt_uplink_is_hopeless(u)) {
		mt_uplink_fail(u, reason);
	}
}

static void go_up(struct mt_uplink *u)
{
	u->tls.up = true;
	u->tls.up_ns = mt_driver_now_ns(u->driver);
	u->tls.failed = false;
	u->tls.failed_dials = 0;
	u->tls.draining = false;
	mt_chooser_set_tls(&u->chooser, true, uv_now(u->config.loop));
}

static void on_answer(void *user, uint8_t status)
{
	struct mt_uplink *u = user;

	/* Whatever the status, the server has let us in: that it has no channel for us, or has one
	 * with somebody of the same identity behind the same address, is no reason to stay away.
	 */
	u->tls.no_channel = status != MT_STATUS_OK;
	go_up(u);
	mt_uplink_update(u);
}

/* An alert says why, or the server has said it before. */
static void explain_end(const struct mt_channel *channel, struct mt_reason *out)
{
	const struct mt_tls_socket *socket =
		channel->stream == NULL ? NULL : mt_tls_stream_socket(channel->stream);

	if (channel->closing) {
		mt_reason_from_code(out, channel->closing_code);
	} else if (socket != NULL && socket->fault != MT_TLS_FAULT_NONE) {
		mt_reason_from_tls(out, socket);
	} else {
		mt_reason_from_code(out, MT_APP_NONE);
	}
}

static void on_closed(void *user)
{
	struct mt_uplink *u = user;
	struct mt_uplink_tls *t = &u->tls;
	struct mt_reason reason;

	if (t->no_channel) {
		return;
	}
	explain_end(&t->channel, &reason);
	if (reason.permanent) {
		mt_uplink_fail(u, &reason);
		return;
	}
	go_down(u, &reason);
	if (reason.crowded) {
		t->pause_ms = uv_now(u->config.loop) + MT_UPLINK_CROWDED_MS;
	}
	mt_uplink_update(u);
}

static void on_pong(void *user, uint64_t rtt_ns)
{
	struct mt_uplink *u = user;

	if (u->config.on_pong != NULL) {
		u->config.on_pong(rtt_ns, u->config.user);
	}
}

static void on_notice(void *user, uint32_t code, const char *text, size_t text_len)
{
	struct mt_uplink *u = user;

	(void)text; /* the other side's: told in our own words */
	(void)text_len;
	mt_link_say_notice(code);
	if (code == MT_NOTICE_DRAINING) {
		u->tls.draining = true;
		/* The channel stays: it says when the server goes. */
		u->tls.up = false;
		mt_chooser_tls_failed(&u->chooser, uv_now(u->config.loop));
		mt_uplink_update(u);
	}
}

static uint64_t channel_now_ns(void *user)
{
	struct mt_uplink *u = user;

	return mt_driver_now_ns(u->driver);
}

static bool needs_channel(const struct mt_uplink *u)
{
	return u->tls.channel.stream == NULL && !u->tls.no_channel;
}

static void on_ready(void *user)
{
	struct mt_uplink *u = user;
	struct mt_channel_events events = {.on_pong = on_pong,
		.on_notice = on_notice,
		.on_answer = on_answer,
		.on_closed = on_closed,
		.user = u};
	struct mt_stream *stream;
	int err;

	u->tls.failed_dials = 0;
	if (needs_channel(u)) {
		stream = mt_tls_pool_take(u->tls.pool);
		if (stream == NULL) {
			return;
		}
		err = mt_channel_open(&u->tls.channel, stream, &events, channel_now_ns);
		(void)err; /* the channel is closed then: the next connection is for it */
	}
	mt_uplink_update(u);
}

static void on_failed(const struct mt_reason *reason, void *user)
{
	struct mt_uplink *u = user;
	struct mt_uplink_tls *t = &u->tls;

	/* Whoever answers on TCP may be somebody else, who has no say about QUIC. */
	if (reason->permanent && u->config.choice == MT_CHOICE_TLS) {
		mt_uplink_fail(u, reason);
		return;
	}
	t->pause_ms = uv_now(u->config.loop) + MT_CHOOSER_RETRY_MS;
	if (!t->up || ++t->failed_dials >= FAILED_DIALS_MAX) {
		go_down(u, reason);
	}
	mt_uplink_update(u);
}

static void on_word(const struct mt_reason *reason, void *user)
{
	struct mt_uplink *u = user;

	if (reason->permanent) {
		mt_uplink_fail(u, reason);
	} else {
		u->tls.reason = *reason;
	}
}

int mt_uplink_tls_new(struct mt_uplink *u)
{
	struct mt_tls_pool_config config = {
		.loop = u->config.loop,
		.poller = u->config.poller,
		.mem = u->config.mem,
		.tls = u->credentials,
		.host = u->host,
		.port = u->port,
		.on_ready = on_ready,
		.on_failed = on_failed,
		.on_word = on_word,
		.user = u,
	};

	return u->config.choice == MT_CHOICE_QUIC ? 0 : mt_tls_pool_new(&u->tls.pool, &config);
}

void mt_uplink_tls_stop(struct mt_uplink *u)
{
	if (u->tls.pool == NULL) {
		return;
	}
	mt_channel_close(&u->tls.channel);
	mt_tls_pool_clear(u->tls.pool);
	u->tls.up = false;
	u->tls.no_channel = false;
	mt_chooser_set_tls(&u->chooser, false, uv_now(u->config.loop));
}

bool mt_uplink_tls_make_room(struct mt_uplink *u)
{
	struct mt_uplink_tls *t = &u->tls;
	uint64_t now = uv_now(u->config.loop);

	if (t->pool == NULL || u->config.choice != MT_CHOICE_AUTO) {
		return false;
	}
	if (!t->up) {
		return now < t->pause_ms && now < t->room_ms; /* it may have come a moment early */
	}
	if (now < t->room_ms ||
		mt_tls_pool_taken(t->pool) > (t->channel.stream != NULL ? 1u : 0u)) {
		return false;
	}
	mt_uplink_tls_stop(u);
	t->pause_ms = now + MT_UPLINK_ROOM_MS;
	t->room_ms = now + MT_UPLINK_ROOM_AGAIN_MS;
	u->retry_ms = now;
	return true;
}

void mt_uplink_tls_free(struct mt_uplink *u)
{
	mt_uplink_tls_stop(u);
	mt_tls_pool_free(u->tls.pool);
	u->tls.pool = NULL;
}

struct mt_stream *mt_uplink_tls_take(struct mt_uplink *u)
{
	struct mt_stream *stream = mt_tls_pool_take(u->tls.pool);

	if (stream != NULL) {
		u->tls.used_ms = uv_now(u->config.loop);
	}
	return stream;
}

/* How many connections should be ready: those who wait need one each; and while requests come, some
 * are opened ahead of them. Until the server has let us in there are few: it may refuse.
 */
static size_t wanted(const struct mt_uplink *u)
{
	const struct mt_uplink_tls *t = &u->tls;
	size_t count = needs_channel(u) ? 1 : 0;

	if (!t->up) {
		return count + (u->waiting_count > 0 ? MT_UPLINK_SPARES : 0);
	}
	if (u->transport != MT_TRANSPORT_TLS) {
		return count;
	}
	if (t->used_ms != 0 && uv_now(u->config.loop) - t->used_ms < MT_UPLINK_SPARES_MS) {
		count += MT_UPLINK_SPARES;
	}
	return count + u->waiting_count;
}

void mt_uplink_tls_update(struct mt_uplink *u)
{
	struct mt_uplink_tls *t = &u->tls;
	uint64_t now = uv_now(u->config.loop);

	if (t->pool == NULL) {
		return;
	}
	if (!mt_chooser_wants_tls(&u->chooser, now)) {
		mt_uplink_tls_stop(u);
		return;
	}
	mt_tls_pool_tick(t->pool);
	if (now >= t->pause_ms && mt_chooser_may_try_tls(&u->chooser, now)) {
		mt_tls_pool_want(t->pool, wanted(u));
	}
}
