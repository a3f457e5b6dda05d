#include "daemon/appliance.h"

#include "daemon/audit.h"
#include "daemon/certs.h"
#include "daemon/http.h"
#include "daemon/log.h"
#include "daemon/observe.h"
#include "daemon/publish.h"
#include "daemon/view.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int mt_presets_check(const struct mt_preset *presets, size_t count, char *why, size_t why_cap)
{
	for (size_t i = 0; i < count; i++) {
		const struct mt_setting *s = mt_setting_find(presets[i].key);
		char canonical[MT_SETTING_VALUE_MAX];
		int rv;

		if (s == NULL) {
			const char *near = mt_setting_suggest(presets[i].key);

			(void)snprintf(why, why_cap, "there is no setting '%s'%s%s%s",
				presets[i].key, near != NULL ? "; did you mean '" : "",
				near != NULL ? near : "", near != NULL ? "'?" : "");
			return MT_E_NOT_FOUND;
		}
		rv = mt_setting_normalize(s, presets[i].value, canonical, why, why_cap);
		if (rv != 0) {
			return rv;
		}
	}
	return 0;
}

static int write_presets(struct mt_appliance *a, const struct mt_preset *presets, size_t count,
	char *why, size_t why_cap)
{
	struct mt_store_change changes[MT_SETTING_COUNT];
	struct mt_settings settings = a->settings;
	size_t n = 0;
	int rv = mt_presets_check(presets, count, why, why_cap);

	if (rv != 0 || count == 0) {
		return rv;
	}
	for (size_t i = 0; i < count && rv == 0; i++) {
		const struct mt_setting *s = mt_setting_find(presets[i].key);

		rv = mt_setting_normalize(s, presets[i].value, settings.text[s->id], why, why_cap);
	}
	if (rv == 0) {
		rv = mt_settings_check(&settings, why, why_cap);
	}
	if (rv == 0) {
		rv = mt_http_check(a->store, &settings, why, why_cap);
	}
	if (rv != 0) {
		return MT_E_RANGE;
	}
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (strcmp(settings.text[i], a->settings.text[i]) != 0) {
			changes[n++] =
				(struct mt_store_change){(enum mt_setting_id)i, settings.text[i]};
		}
	}
	rv = n > 0 ? mt_store_settings_write(a->store, changes, n) : 0;
	if (rv != 0) {
		(void)snprintf(why, why_cap, "the settings could not be stored: %s",
			mt_store_error(a->store));
		return rv;
	}
	if (n > 0) {
		mt_audit_record_own(
			a, "mytunneld --set", mt_audit_settings(&a->settings, &settings));
	}
	a->settings = settings;
	return 0;
}

static int load_state(struct mt_appliance *a, const struct mt_preset *presets, size_t count,
	char *why, size_t why_cap)
{
	int64_t generation = 0;
	bool made = false;
	int rv = mt_store_settings_load(a->store, &a->settings);

	if (rv == 0) {
		rv = mt_store_secret(a->store, "quic", a->secret);
	}
	if (rv == 0) {
		rv = mt_store_next(a->store, "generation", &generation);
	}
	if (rv != 0) {
		(void)snprintf(why, why_cap, "%s", mt_store_error(a->store));
		return rv;
	}
	a->tag = (uint8_t)generation;
	rv = write_presets(a, presets, count, why, why_cap);
	if (rv == 0) {
		rv = mt_certs_ensure(a->store,
			mt_settings_bool(&a->settings, MT_SET_TLS_AUTO_GENERATE),
			(int64_t)time(NULL), &made, why, why_cap);
	}
	if (rv == 0) {
		mt_log_configure(mt_settings_text(&a->settings, MT_SET_LOGGING_LEVEL),
			mt_settings_text(&a->settings, MT_SET_LOGGING_FORMAT));
		if (made) {
			mt_log(MT_LOG_INFO, "certificate_made");
		}
		rv = mt_publish_tls(&a->tls, a->store, &a->settings, why, why_cap);
	}
	return rv;
}

void mt_appliance_post_facts(struct mt_appliance *a)
{
	a->facts.require_identity = a->snapshot->require_identity;
	a->facts.allow_private = a->snapshot->allow_private;
	a->facts.tls_enabled = mt_settings_bool(&a->settings, MT_SET_TCP_ENABLED);
	a->facts.memory_limit = a->snapshot->max_memory;
	a->facts.clients = 0;
	a->facts.clients_revoked = 0;
	for (size_t i = 0; i < a->snapshot->client_count; i++) {
		if (a->snapshot->clients[i].revoked) {
			a->facts.clients_revoked++;
		} else {
			a->facts.clients++;
		}
	}
	a->facts.http_count = mt_web_addrs(a->web, a->facts.http, MT_SETTING_ADDRS_MAX);
	a->facts.http_secured = mt_web_is_secured(a->web);
	a->facts.http_enabled = mt_settings_bool(&a->settings, MT_SET_METRICS_ENABLED);
	mt_board_set(&a->board, &a->facts);
}

static void read_hosts(struct mt_appliance *a)
{
	struct mt_addr *hosts = NULL;
	size_t count = 0;
	int rv = mt_hosts_read(&hosts, &count);

	if (rv != 0) {
		mt_log(MT_LOG_WARN, "host_addresses_unknown",
			MT_LOG_TEXT("error", mt_strerror(rv)));
		return;
	}
	free(a->hosts);
	a->hosts = hosts;
	a->host_count = count;
}

void mt_appliance_refresh_hosts(struct mt_appliance *a)
{
	struct mt_addr *before = a->hosts;
	size_t count = a->host_count;
	char why[MT_WHY_MAX];
	bool same;
	int rv;

	a->hosts = NULL;
	read_hosts(a);
	if (a->hosts == NULL) {
		a->hosts = before; /* unreadable now: the last picture stays */
		return;
	}
	same = count == a->host_count && before != NULL;
	for (size_t i = 0; same && i < count; i++) {
		same = mt_addr_equal(&before[i], &a->hosts[i]);
	}
	free(before);
	if (same) {
		return;
	}
	mt_log(MT_LOG_DEBUG, "host_addresses_changed", MT_LOG_NUMBER("addresses", a->host_count));
	rv = mt_appliance_republish(a, false, NULL, NULL, why, sizeof(why));
	if (rv != 0) {
		a->behind = true; /* the addresses themselves are no news the next time */
		mt_log(MT_LOG_ERROR, "publish_failed", MT_LOG_TEXT("error", why));
	}
}

static int init_handles(struct mt_appliance *a)
{
	int rv = mt_inbox_init(&a->inbox, a->loop);

	if (rv == 0) {
		rv = uv_timer_init(a->loop, &a->retry); /* timers do not fail to initialise */
	}
	if (rv == 0) {
		rv = uv_timer_init(a->loop, &a->accounting);
	}
	if (rv == 0) {
		rv = uv_timer_init(a->loop, &a->observing);
	}
	a->rounds.inbox = &a->inbox;
	mt_events_init(&a->events, a->loop, &a->inbox);
	mt_trace_desk_init(&a->trace_desk, a->loop, &a->qlogs);
	mt_trial_init(&a->trial, a->loop, a);
	a->retry.data = a;
	a->accounting.data = a;
	a->observing.data = a;
	return rv;
}

int mt_appliance_new(struct mt_appliance **out, uv_loop_t *loop, const char *state_dir,
	const struct mt_preset *presets, size_t count, char *why, size_t why_cap)
{
	struct mt_appliance *a = calloc(1, sizeof(*a));
	struct timespec now;
	int rv = -ENOMEM;

	(void)snprintf(why, why_cap, "out of memory");
	if (a == NULL) {
		return rv;
	}
	mt_qlogs_init(&a->qlogs);
	a->loop = loop;
	a->counters = aligned_alloc(
		alignof(struct mt_worker_counters), MT_WORKERS_MAX * sizeof(*a->counters));
	if (a->counters == NULL) {
		goto out;
	}
	memset(a->counters, 0, MT_WORKERS_MAX * sizeof(*a->counters));
	rv = mt_board_init(&a->board, a->counters);
	if (rv != 0) {
		goto out;
	}
	a->history = mt_history_new();
	if (a->history == NULL) {
		rv = -ENOMEM;
		goto out;
	}
	a->board.history = a->history;
	rv = mt_store_open(&a->store, state_dir, why, why_cap);
	if (rv != 0) {
		goto out;
	}
	rv = load_state(a, presets, count, why, why_cap);
	if (rv != 0) {
		goto out;
	}
	read_hosts(a);
	rv = mt_publish_snapshot(&a->snapshot, a->store, &a->accounts, &a->settings, a->tls,
		a->hosts, a->host_count);
	if (rv == 0) {
		rv = mt_publish_rules(&a->snapshot->rules, a->store, NULL);
	}
	if (rv != 0) {
		(void)snprintf(why, why_cap, "the clients and rules could not be loaded: %s",
			mt_store_error(a->store));
		goto out;
	}
	mt_accounts_commit(&a->accounts);
	rv = init_handles(a);
	if (rv != 0) {
		(void)snprintf(why, why_cap, "the event loop: %s", mt_strerror(rv));
		goto out;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	a->facts.started_mono_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	a->facts.started_at = (int64_t)time(NULL);
	mt_observe_certs(a);
	a->hub = mt_hub_new(MT_VERSION, a->facts.started_at);
	if (a->hub == NULL) {
		rv = -ENOMEM;
		goto out;
	}
	a->events.hub = a->hub;
	mt_pictures_init(&a->pictures, a);
	a->sources = (struct mt_view_sources){.board = &a->board, .pictures = &a->pictures};
	mt_view_init(&a->view, &a->sources);
	mt_appliance_post_facts(a);
	*out = a;
	a = NULL;
out:
	mt_appliance_free(a);
	return rv;
}

void mt_appliance_free(struct mt_appliance *a)
{
	if (a == NULL) {
		return;
	}
	mt_events_free(&a->events);
	mt_qlogs_deinit(&a->qlogs);
	mt_upload_free(a->upload);
	mt_store_close(a->store);
	mt_lookup_free(a->lookup);
	mt_snapshot_unref(a->snapshot);
	mt_accounts_deinit(&a->accounts);
	mt_tls_server_unref(a->tls);
	mt_wipe(a->secret, sizeof(a->secret));
	if (a->board.counters != NULL) {
		mt_board_deinit(&a->board);
	}
	mt_history_free(a->history);
	mt_hub_free(a->hub);
	free(a->hosts);
	free(a->counters);
	free(a);
}

int mt_appliance_prepare(struct mt_appliance *a, struct mt_publication *p,
	const struct mt_settings *settings, bool renew_tls, char *why, size_t why_cap)
{
	struct mt_publication next = {.settings = *settings};
	bool same_identity_rule = mt_settings_bool(settings, MT_SET_ACCESS_REQUIRE_IDENTITY) ==
				  mt_settings_bool(&a->settings, MT_SET_ACCESS_REQUIRE_IDENTITY);
	int rv = 0;

	if (!renew_tls && same_identity_rule) {
		next.tls = mt_tls_server_ref(a->tls);
	} else {
		rv = mt_publish_tls(&next.tls, a->store, settings, why, why_cap);
	}
	if (rv == 0) {
		rv = mt_publish_snapshot(&next.snapshot, a->store, &a->accounts, settings, next.tls,
			a->hosts, a->host_count);
		if (rv == 0) {
			rv = mt_publish_rules(&next.snapshot->rules, a->store, a->snapshot->rules);
		}
		if (rv != 0) {
			(void)snprintf(why, why_cap, "the change could not be built: %s",
				rv == MT_E_STORE || rv == MT_E_CORRUPT ? mt_store_error(a->store)
								       : mt_strerror(rv));
		}
	}
	if (rv != 0) {
		mt_publication_drop(&next);
		return rv;
	}
	*p = next;
	return 0;
}

void mt_publication_drop(struct mt_publication *p)
{
	mt_snapshot_unref(p->snapshot);
	mt_tls_server_unref(p->tls);
	p->snapshot = NULL;
	p->tls = NULL;
}

/* One snapshot on its way to the workers. */
struct delivery {
	struct mt_snapshot *snapshot;
	void (*done)(void *user, bool cancelled);
	void *user;
	bool has_begun[MT_WORKERS_MAX];
	struct mt_recheck_walk rechecks[MT_WORKERS_MAX];
};

static bool deliver(struct mt_worker *w, unsigned index, void *user)
{
	struct delivery *d = user;

	if (!d->has_begun[index]) {
		d->has_begun[index] = true;
		mt_worker_set_snapshot(w, d->snapshot, &d->rechecks[index]);
	}
	return mt_worker_recheck_some(w, &d->rechecks[index]);
}

static void delivered(void *user, bool cancelled)
{
	struct delivery *d = user;

	if (d->done != NULL) {
		d->done(d->user, cancelled);
	}
	mt_snapshot_unref(d->snapshot);
	free(d);
}

int mt_appliance_commit(struct mt_appliance *a, struct mt_publication *p,
	void (*done)(void *user, bool cancelled), void *user)
{
	static const struct mt_round_ops ops = {.work_some = deliver, .done = delivered};
	struct delivery *d = calloc(1, sizeof(*d));
	bool other_certs = p->tls != a->tls;
	int rv = -ENOMEM;

	if (mt_settings_bool(&p->settings, MT_SET_TLS_AUTO_GENERATE) &&
		!mt_settings_bool(&a->settings, MT_SET_TLS_AUTO_GENERATE)) {
		mt_renewal_soon(&a->renewal);
	}
	mt_accounts_commit(&a->accounts);
	mt_snapshot_unref(a->snapshot);
	mt_tls_server_unref(a->tls);
	a->settings = p->settings;
	a->snapshot = p->snapshot;
	a->tls = p->tls;
	p->snapshot = NULL;
	p->tls = NULL;
	mt_log_configure(mt_settings_text(&a->settings, MT_SET_LOGGING_LEVEL),
		mt_settings_text(&a->settings, MT_SET_LOGGING_FORMAT));
	if (other_certs) {
		mt_observe_certs(a);
		mt_http_renew(a);
	}
	mt_appliance_post_facts(a);
	if (d == NULL) {
		a->behind = true;
		return rv;
	}
	d->snapshot = mt_snapshot_ref(a->snapshot);
	d->done = done;
	d->user = user;
	rv = mt_appliance_ask(a, -1, &ops, d);
	if (rv != 0) {
		a->behind = true;
		mt_snapshot_unref(d->snapshot);
		free(d);
	}
	return rv;
}

int mt_appliance_republish(struct mt_appliance *a, bool renew_tls,
	void (*done)(void *user, bool cancelled), void *user, char *why, size_t why_cap)
{
	struct mt_publication p;
	int rv = mt_appliance_prepare(a, &p, &a->settings, renew_tls, why, why_cap);

	if (rv == 0) {
		rv = mt_appliance_commit(a, &p, done, user);
		if (rv != 0) {
			(void)snprintf(
				why, why_cap, "the workers could not be told: %s", mt_strerror(rv));
		}
	}
	return rv;
}

int mt_appliance_ask(struct mt_appliance *a, int only, const struct mt_round_ops *ops, void *user)
{
	if (only >= 0) {
		return (unsigned)only < a->worker_count ? mt_round_start(&a->rounds, a->workers,
								  (unsigned)only, 1, ops, user)
							: MT_E_NOT_FOUND;
	}
	return mt_round_start(&a->rounds, a->workers, 0, a->worker_count, ops, user);
}
