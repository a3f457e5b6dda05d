#include "client/session.h"

#include "client/listener.h"
#include "client/netwatch.h"
#include "client/say.h"
#include "client/udp_forward.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define UDP_NEWS_MS 60000

struct session {
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	struct mt_udp_relay *udp;
	struct mt_locals *locals;
	struct mt_netwatch *netwatch;
	struct mt_listener *listeners[MT_SESSION_PROXIES_MAX + MT_SESSION_FORWARDS_MAX];
	size_t listener_count;
	struct mt_udp_forward *udp_forwards[MT_SESSION_FORWARDS_MAX];
	size_t udp_forward_count;
	enum mt_tunnel_log_form log;
	uint64_t udp_dropped; /* as it was told last */
	uv_timer_t udp_news;  /* only with a log */
	uv_signal_t signals[2];
	size_t signal_count;
	int result;
};

/* One line of data. Nobody reading it is no reason to stop the tunnel. */
static void print_line(const char *a, const char *b, const char *separator, const char *c)
{
	(void)printf("%s %s%s%s\n", a, b, separator, c);
	(void)fflush(stdout);
}

static void on_state(enum mt_uplink_state state, const char *reason, void *user)
{
	struct session *s = user;

	print_line("state", mt_uplink_state_text(state), reason[0] == '\0' ? "" : ": ", reason);
	if (state == MT_UPLINK_FAILED) {
		mt_say("%s", reason);
		s->result = MT_E_DENIED;
		uv_stop(&s->loop);
	}
}

static void on_transport(enum mt_transport transport, const char *why, void *user)
{
	(void)user;
	print_line("transport", mt_transport_text(transport), why[0] == '\0' ? "" : ": ", why);
}

static void on_datagram(const uint8_t *data, size_t len, void *user)
{
	struct session *s = user;

	mt_udp_relay_deliver(s->udp, data, len);
}

static void on_datagram_room(void *user)
{
	struct session *s = user;

	mt_udp_relay_resume(s->udp);
}

static uint64_t dropped(const struct mt_udp_relay_stats *stats)
{
	return stats->dropped_foreign + stats->dropped_malformed + stats->dropped_too_long +
	       stats->dropped_offline + stats->dropped_queue + stats->dropped_unknown;
}

/* Of the log: what became of UDP, when there was any at all, or when more was lost. */
static void tell_udp(struct session *s, bool always)
{
	const struct mt_udp_relay_stats *stats = mt_udp_relay_stats(s->udp);
	const uint64_t lost = dropped(stats);

	if (lost > s->udp_dropped || (always && stats->sent + stats->received > 0)) {
		mt_tunnel_log_udp(s->log, stats, lost > s->udp_dropped);
		s->udp_dropped = lost;
	}
}

static void on_udp_news(uv_timer_t *timer)
{
	tell_udp(timer->data, false);
}

static void on_network_change(void *user)
{
	struct session *s = user;

	mt_uplink_check_paths(s->uplink);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct session *s = handle->data;

	(void)number;
	/* A second signal ends the process at once. Both are valid: this cannot fail. */
	(void)uv_signal_stop(&s->signals[0]);
	(void)uv_signal_stop(&s->signals[1]);
	uv_stop(&s->loop);
}

static int start_signals(struct session *s)
{
	static const int numbers[2] = {SIGINT, SIGTERM};

	for (size_t i = 0; i < 2; i++) {
		int err = uv_signal_init(&s->loop, &s->signals[i]);

		if (err < 0) {
			return err;
		}
		s->signals[i].data = s;
		s->signal_count++;
		err = uv_signal_start(&s->signals[i], on_signal, numbers[i]);
		if (err < 0) {
			return err;
		}
	}
	return 0;
}

static int start_core(
	struct session *s, const struct mt_session_config *config, struct mt_profile *profile)
{
	struct mt_uplink_config uplink = {
		.loop = &s->loop,
		.profile = profile,
		.choice = config->choice,
		.persistent = true,
		.on_state = on_state,
		.on_transport = on_transport,
		.on_datagram = on_datagram,
		.on_datagram_room = on_datagram_room,
		.user = s,
	};
	struct mt_locals_config locals = {.loop = &s->loop};
	int err;

	s->mem = mt_mem_new();
	if (s->mem == NULL) {
		return -ENOMEM;
	}
	err = mt_poller_new(&s->poller, &s->loop);
	if (err < 0) {
		return err;
	}
	uplink.mem = s->mem;
	uplink.poller = s->poller;
	err = mt_uplink_new(&s->uplink, &uplink);
	if (err < 0) {
		return err;
	}
	mt_profile_deinit(profile);
	s->udp = mt_udp_relay_new(&s->loop, s->mem, s->poller, s->uplink);
	if (s->udp == NULL) {
		return -ENOMEM;
	}
	s->log = config->log;
	if (s->log != MT_TUNNEL_LOG_OFF) {
		/* Neither can fail. */
		(void)uv_timer_init(&s->loop, &s->udp_news);
		s->udp_news.data = s;
		(void)uv_timer_start(&s->udp_news, on_udp_news, UDP_NEWS_MS, UDP_NEWS_MS);
	}
	locals.mem = s->mem;
	locals.poller = s->poller;
	locals.uplink = s->uplink;
	locals.udp = s->udp;
	locals.log = config->log;
	s->locals = mt_locals_new(&locals);
	if (s->locals == NULL) {
		return -ENOMEM;
	}
	err = mt_netwatch_start(&s->netwatch, &s->loop, on_network_change, s);
	if (err < 0) {
		mt_say("warning: network changes cannot be watched (%s): they are noticed later",
			mt_strerror(err));
	}
	return start_signals(s);
}

/* Says what is to be said about an address, and returns `err`. */
static int check_listening(const struct mt_addr *bind, int err)
{
	char text[MT_ADDR_TEXT_MAX];

	(void)mt_addr_format(bind, text, sizeof(text)); /* returns `text` */
	if (err < 0) {
		mt_say("cannot listen on %s (%s): nothing was started; choose another address",
			text, mt_strerror(err));
	} else if (!mt_addr_is_loopback(bind)) {
		mt_say("warning: %s can be reached from other machines: whoever reaches it uses "
		       "your tunnel",
			text);
	}
	return err;
}

static int listen_on(struct session *s, const struct mt_addr *bind,
	const struct mt_forward *forward, struct mt_addr *bound)
{
	int err = mt_listener_open(&s->listeners[s->listener_count], &s->loop, s->poller, s->locals,
		bind, forward, bound);

	s->listener_count += err == 0 ? 1 : 0;
	return check_listening(bind, err);
}

static int start_udp_forwards(struct session *s, struct mt_session_config *config)
{
	char text[MT_ADDR_TEXT_MAX];
	char target[300];
	struct mt_addr bound;

	for (size_t i = 0; i < config->udp_forward_count; i++) {
		const struct mt_forward *forward = &config->udp_forwards[i];
		int err = mt_udp_forward_open(
			&s->udp_forwards[s->udp_forward_count], s->udp, forward, &bound);

		s->udp_forward_count += err == 0 ? 1 : 0;
		err = check_listening(&forward->bind, err);
		if (err < 0) {
			return err;
		}
		print_line("udp-forward", mt_addr_format(&bound, text, sizeof(text)), " ",
			mt_target_format(forward->host, forward->port, target, sizeof(target)));
	}
	return 0;
}

static int start_listeners(struct session *s, struct mt_session_config *config)
{
	char text[MT_ADDR_TEXT_MAX];
	char target[300];
	struct mt_addr bound;
	int err;

	for (size_t i = 0; i < config->proxy_count; i++) {
		err = listen_on(s, &config->proxies[i].bind, NULL, &bound);
		if (err < 0) {
			return err;
		}
		(void)mt_addr_format(&bound, text, sizeof(text)); /* returns `text` */
		print_line(config->proxies[i].kind, text, "", "");
		if (config->by_default) {
			print_line("http", text, "", "");
		}
	}
	for (size_t i = 0; i < config->forward_count; i++) {
		struct mt_forward *forward = &config->forwards[i];

		err = listen_on(s, &forward->bind, forward, &bound);
		if (err < 0) {
			return err;
		}
		forward->bind = bound; /* for messages */
		print_line("forward", mt_addr_format(&bound, text, sizeof(text)), " ",
			mt_target_format(forward->host, forward->port, target, sizeof(target)));
	}
	return 0;
}

static void stop(struct session *s)
{
	while (s->listener_count > 0) {
		mt_listener_close(s->listeners[--s->listener_count]);
	}
	while (s->udp_forward_count > 0) {
		mt_udp_forward_close(s->udp_forwards[--s->udp_forward_count]);
	}
	mt_netwatch_stop(s->netwatch);
	mt_locals_free(s->locals);
	if (s->log != MT_TUNNEL_LOG_OFF) {
		tell_udp(s, true);
		uv_close((uv_handle_t *)&s->udp_news, NULL);
	}
	mt_udp_relay_free(s->udp);
	mt_uplink_free(s->uplink);
	if (s->poller != NULL) {
		mt_poller_free(s->poller);
	}
	for (size_t i = 0; i < s->signal_count; i++) {
		uv_close((uv_handle_t *)&s->signals[i], NULL);
	}
	(void)uv_run(&s->loop, UV_RUN_DEFAULT); /* until all handles are closed */
	(void)uv_loop_close(&s->loop);          /* the process ends */
	mt_mem_free(s->mem);
}

int mt_session_run(struct mt_session_config *config, struct mt_profile *profile)
{
	struct session *s = calloc(1, sizeof(*s));
	int err;

	if (s == NULL) {
		mt_say("cannot start (%s)", mt_strerror(-ENOMEM));
		return -ENOMEM;
	}
	err = uv_loop_init(&s->loop);
	if (err < 0) {
		mt_say("cannot start (%s)", mt_strerror(err));
		free(s);
		return err;
	}
	err = start_core(s, config, profile);
	if (err < 0) {
		mt_say("cannot start (%s)", mt_strerror(err));
		goto out;
	}
	err = start_listeners(s, config);
	if (err == 0) {
		err = start_udp_forwards(s, config);
	}
	if (err < 0) {
		goto out;
	}
	print_line("state", mt_uplink_state_text(MT_UPLINK_CONNECTING), "", "");
	(void)uv_run(&s->loop, UV_RUN_DEFAULT); /* stopped by uv_stop */
	err = s->result;
out:
	stop(s);
	free(s);
	return err;
}
