#include "daemon/appliance.h"

#include "daemon/certs.h"
#include "daemon/http.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/observe.h"
#include "daemon/publish.h"
#include "daemon/verbs_stored.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CERTS_MS       (3600u * 1000) /* between looks at the certificate's dates */
#define CERTS_AGAIN_MS 60000u         /* after a renewal that failed */

static unsigned wanted_workers(const struct mt_appliance *a)
{
	int64_t wanted = mt_settings_int(&a->settings, MT_SET_SERVER_WORKERS);
	cpu_set_t set;

	if (wanted == 0) {
		wanted = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	}
	return wanted < 1 ? 1 : wanted > MT_WORKERS_MAX ? MT_WORKERS_MAX : (unsigned)wanted;
}

static void run_drained(struct mt_message_node *node, void *receiver)
{
	struct mt_appliance *a = ((struct mt_drained *)node)->appliance;

	(void)receiver;
	if (++a->drained_count < a->worker_count) {
		return;
	}
	a->facts.state = MT_STATE_DRAINED;
	mt_appliance_post_facts(a);
	mt_log(MT_LOG_INFO, "drained");
	mt_events_add(&a->events, "drained", json_object());
	if (a->on_drained != NULL) {
		a->on_drained(a->on_drained_user);
	}
}

static void on_worker_drained(void *user, unsigned worker)
{
	struct mt_appliance *a = user;
	struct mt_drained *d = &a->drained[worker];

	if (!atomic_exchange(&d->said, true)) {
		mt_inbox_post(&a->inbox, &d->node);
	}
}

static void on_worker_event(void *user, const struct mt_worker_event *event)
{
	struct mt_appliance *a = user;

	mt_events_post(&a->events, event);
}

static int start_workers(struct mt_appliance *a, struct mt_listen *listen)
{
	unsigned count = (unsigned)listen->workers;
	unsigned ids[MT_SETTING_ADDRS_MAX];
	unsigned made = 0;
	int rv = 0;

	mt_listeners_begin(a, listen, ids);
	for (; made < count; made++) {
		struct mt_worker_config config = {.index = made,
			.count = count,
			.tag = a->tag,
			.snapshot = a->snapshot,
			.sockets = &listen->sockets[made * listen->addr_count],
			.listeners = ids,
			.socket_count = listen->addr_count,
			.counters = &a->counters[made],
			.places = &a->places,
			.qlogs = &a->qlogs,
			.events = {.on_drained = on_worker_drained,
				.on_event = on_worker_event,
				.user = a}};

		memcpy(config.secret, a->secret, sizeof(config.secret));
		a->drained[made].node.run = run_drained;
		a->drained[made].appliance = a;
		rv = mt_worker_new(&a->workers[made], &config);
		mt_wipe(config.secret, sizeof(config.secret));
		if (rv != 0) {
			goto out;
		}
		mt_listen_release(listen, made);
	}
	for (unsigned i = 0; i < count; i++) {
		rv = mt_worker_start(a->workers[i], a->workers);
		if (rv != 0) {
			goto out;
		}
	}
	a->worker_count = count;
out:
	for (unsigned i = 0; rv != 0 && i < made; i++) {
		mt_worker_stop(a->workers[i]);
		a->workers[i] = NULL;
	}
	if (rv != 0) {
		a->listeners.count = 0;
	}
	return rv;
}

static void listening(struct mt_appliance *a, const struct mt_listen *listen)
{
	char text[MT_ADDR_TEXT_MAX];

	a->facts.state = MT_STATE_RUNNING;
	a->facts.problem[0] = '\0';
	a->facts.next[0] = '\0';
	a->facts.workers = a->worker_count;
	mt_listeners_post(a);
	(void)snprintf(
		a->facts.notice, sizeof(a->facts.notice), "%s", listen->notice); /* same size */
	for (size_t i = 0; i < listen->addr_count; i++) {
		mt_log(MT_LOG_INFO, "listening", MT_LOG_TEXT("protocol", "quic"),
			MT_LOG_TEXT(
				"address", mt_addr_format(&listen->addrs[i], text, sizeof(text))),
			MT_LOG_NUMBER("workers", a->worker_count));
		mt_events_add(&a->events, "listening",
			json_pack("{s:s, s:s}", "protocol", "quic", "address", text));
	}
	if (listen->notice[0] != '\0') {
		mt_log(MT_LOG_WARN, "address_left_out", MT_LOG_TEXT("reason", listen->notice));
	}
}

static void degraded(struct mt_appliance *a, const char *why, const char *next)
{
	if (a->facts.state != MT_STATE_DEGRADED || strcmp(a->facts.problem, why) != 0) {
		mt_log(MT_LOG_ERROR, "degraded", MT_LOG_TEXT("problem", why),
			MT_LOG_TEXT("next", next));
	}
	a->facts.state = MT_STATE_DEGRADED;
	(void)snprintf(a->facts.problem, sizeof(a->facts.problem), "%s",
		why); /* for people: cut when too long */
	(void)snprintf(a->facts.next, sizeof(a->facts.next), "%s", next);
}

static void try_listen(struct mt_appliance *a)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	struct mt_listen_request request = {.addrs = addrs,
		.count = mt_settings_addrs(
			&a->settings, MT_SET_SERVER_BIND_ADDR, addrs, MT_SETTING_ADDRS_MAX),
		.workers = wanted_workers(a),
		.tag = a->tag,
		.tcp_too = mt_settings_bool(&a->settings, MT_SET_TCP_ENABLED)};
	struct mt_listen listen = {.sockets = NULL};
	char why[MT_WHY_MAX];
	char next[256] = "";
	int rv = mt_listen_open(&listen, &request, why, sizeof(why), next, sizeof(next));

	if (rv == 0) {
		rv = start_workers(a, &listen);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "the workers could not be started: %s",
				mt_strerror(rv));
		}
	}
	if (rv == 0) {
		listening(a, &listen);
		mt_tls_listeners_try(a);
	} else {
		degraded(a, why, next);
	}
	mt_listen_close(&listen);
}

void mt_appliance_retry(struct mt_appliance *a)
{
	if (a->facts.state == MT_STATE_DEGRADED || a->facts.state == MT_STATE_STARTING) {
		try_listen(a);
	}
	if (a->web == NULL && a->facts.http_problem[0] != '\0') {
		mt_http_try(a);
	}
	if (a->worker_count > 0 && a->facts.tls_problem[0] != '\0') {
		mt_tls_listeners_try(a);
	}
	mt_stored_catch_up(a);
	mt_listeners_tick(a, mt_trial_active(&a->trial));
	mt_appliance_post_facts(a);
}

static void on_hosts(void *user)
{
	mt_appliance_refresh_hosts(user);
}

static void on_retry(uv_timer_t *timer)
{
	mt_appliance_retry(timer->data);
}

static void on_quota(struct mt_account *account, void *user)
{
	struct mt_appliance *a = user;
	const struct mt_snapshot_client *client =
		mt_snapshot_find(a->snapshot, account->fingerprint);

	if (client != NULL) {
		mt_log(MT_LOG_INFO, "quota_reached", MT_LOG_TEXT("client", client->name));
		mt_events_add(
			&a->events, "quota_reached", json_pack("{s:s}", "client", client->name));
	}
}

static void save_accounts(struct mt_appliance *a)
{
	int rv = mt_accounts_save(&a->accounts, a->store);

	if (rv != 0 && !a->accounts.failing) {
		mt_log(MT_LOG_ERROR, "traffic_not_saved",
			MT_LOG_TEXT("error",
				rv == -ENOMEM ? mt_strerror(rv) : mt_store_error(a->store)));
	}
	a->accounts.failing = rv != 0;
}

static void on_accounting(uv_timer_t *timer)
{
	struct mt_appliance *a = timer->data;

	mt_accounts_tick(&a->accounts, (int64_t)time(NULL), on_quota, a);
	if (++a->accounting_ticks * MT_ACCOUNTS_TICK_MS >= MT_ACCOUNTS_SAVE_MS) {
		a->accounting_ticks = 0;
		save_accounts(a);
		mt_memory_trim(&a->trim,
			mt_metric_sum_of("connections_total", a->counters, MT_WORKERS_MAX) -
				mt_metric_sum_of(
					"connections_active", a->counters, MT_WORKERS_MAX));
	}
}

static void on_observe(uv_timer_t *timer)
{
	mt_observe_tick(timer->data);
}

/* ---- certificates ---- */

static int renew_certs(void *user, bool *changed, char *why, size_t why_cap)
{
	struct mt_appliance *a = user;

	return mt_certs_ensure(a->store, mt_settings_bool(&a->settings, MT_SET_TLS_AUTO_GENERATE),
		(int64_t)time(NULL), changed, why, why_cap);
}

static int publish_certs(void *user, char *why, size_t why_cap)
{
	return mt_appliance_republish(user, true, NULL, NULL, why, why_cap);
}

static void certs_told(void *user, const char *why)
{
	struct mt_appliance *a = user;

	if (why != NULL) {
		mt_log(MT_LOG_ERROR, "certificate_renewal_failed", MT_LOG_TEXT("error", why));
		return;
	}
	mt_log(MT_LOG_INFO, "certificate_renewed");
	mt_events_add(&a->events, "certificate_renewed",
		json_pack("{s:s}", "reason", "it was about to expire"));
}

void mt_appliance_start(struct mt_appliance *a)
{
	int rv = mt_hosts_watch_start(&a->watch, a->loop, on_hosts, a);

	a->watching = true;
	if (!mt_settings_bool(&a->settings, MT_SET_ACCESS_REQUIRE_IDENTITY)) {
		mt_log(MT_LOG_WARN, "open_to_everybody",
			MT_LOG_TEXT("setting", "access.require_identity"));
	}
	if (rv != 0) {
		mt_log(MT_LOG_WARN, "host_addresses_not_watched",
			MT_LOG_TEXT("error", mt_strerror(rv)));
	}
	try_listen(a);
	mt_http_try(a);
	mt_observe_tick(a);
	mt_appliance_post_facts(a);
	a->renewal = (struct mt_renewal){.renew = renew_certs,
		.publish = publish_certs,
		.told = certs_told,
		.user = a,
		.every_ms = CERTS_MS,
		.again_ms = CERTS_AGAIN_MS};
	mt_renewal_start(&a->renewal, a->loop);
	/* These fail only for closing handles. */
	(void)uv_timer_start(&a->retry, on_retry, MT_RETRY_MS, MT_RETRY_MS);
	(void)uv_timer_start(&a->observing, on_observe, MT_OBSERVE_MS, MT_OBSERVE_MS);
	(void)uv_timer_start(
		&a->accounting, on_accounting, MT_ACCOUNTS_TICK_MS, MT_ACCOUNTS_TICK_MS);
}

void mt_appliance_stop(struct mt_appliance *a)
{
	mt_web_stop(a->web); /* before the inbox is closed, which HTTP threads post to */
	a->web = NULL;
	for (unsigned i = 0; i < a->worker_count; i++) {
		mt_worker_stop(a->workers[i]);
		a->workers[i] = NULL;
	}
	a->worker_count = 0;
	mt_inbox_close(&a->inbox);
	mt_rounds_cancel(&a->rounds);
	mt_events_close(&a->events);
	mt_trace_desk_close(&a->trace_desk);
	mt_lookup_stop(a->lookup);
	if (a->watching) {
		mt_hosts_watch_stop(&a->watch);
	}
	uv_close((uv_handle_t *)&a->retry, NULL);
	mt_renewal_stop(&a->renewal);
	uv_close((uv_handle_t *)&a->accounting, NULL);
	uv_close((uv_handle_t *)&a->observing, NULL);
	save_accounts(a); /* the workers have ended: these are the last numbers */
	mt_trial_end(a);
	mt_store_close(a->store);
	a->store = NULL;
}

struct drain {
	struct mt_walk of[MT_WORKERS_MAX];
};

static bool drain_worker(struct mt_worker *w, unsigned index, void *user)
{
	struct drain *d = user;

	return mt_worker_drain_some(w, &d->of[index]);
}

static void drain_told(void *user, bool cancelled)
{
	(void)cancelled; /* the workers report by themselves when they are done */
	free(user);
}

static int tell_workers(struct mt_appliance *a)
{
	static const struct mt_round_ops ops = {.work_some = drain_worker, .done = drain_told};
	struct drain *d = calloc(1, sizeof(*d));
	int rv = d != NULL ? mt_appliance_ask(a, -1, &ops, d) : -ENOMEM;

	if (rv != 0) {
		free(d);
	}
	return rv;
}

void mt_appliance_drain(struct mt_appliance *a, void (*on_drained)(void *user), void *user)
{
	bool first = a->facts.state != MT_STATE_DRAINING && a->facts.state != MT_STATE_DRAINED;
	bool empty = a->worker_count == 0 || a->facts.state == MT_STATE_DRAINED;
	int rv;

	if (on_drained != NULL) {
		a->on_drained = on_drained;
		a->on_drained_user = user;
	}
	if (first && !empty) {
		a->facts.state = MT_STATE_DRAINING;
		mt_log(MT_LOG_INFO, "draining");
		mt_events_add(&a->events, "draining", json_object());
		rv = tell_workers(a);
		if (rv != 0) {
			mt_log(MT_LOG_ERROR, "drain_failed", MT_LOG_TEXT("error", mt_strerror(rv)));
			empty = true; /* nobody will report */
		}
	} else if (first) {
		a->facts.state = MT_STATE_DRAINED;
	}
	mt_appliance_post_facts(a);
	if (empty && on_drained != NULL) {
		on_drained(user);
	}
}
