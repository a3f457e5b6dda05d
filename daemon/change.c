#include "daemon/change.h"

#include "daemon/appliance.h"
#include "daemon/audit.h"
#include "daemon/control_peer.h"
#include "daemon/http.h"
#include "daemon/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define REVERT_AGAIN_MS 5000

enum kind {
	KIND_STORED,
	KIND_TRIAL,
	KIND_REVERT,
};

static bool differs(const struct mt_settings *x, const struct mt_settings *y, enum mt_setting_id id)
{
	return strcmp(x->text[id], y->text[id]) != 0;
}

bool mt_trial_active(const struct mt_trial *trial)
{
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (trial->named[i]) {
			return true;
		}
	}
	return false;
}

static int store(struct mt_appliance *a, const struct mt_settings *values, const bool *named)
{
	struct mt_store_change changes[MT_SETTING_COUNT];
	const struct mt_setting *table = mt_settings_table();
	size_t n = 0;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (named[i]) {
			bool initial = strcmp(values->text[i], table[i].initial) == 0;

			changes[n++] = (struct mt_store_change){
				table[i].id, initial ? NULL : values->text[i]};
		}
	}
	return mt_store_settings_write(a->store, changes, n);
}

static void tell(
	struct mt_appliance *a, const struct mt_settings *before, enum kind kind, uid_t uid)
{
	static const char *const events[] = {
		[KIND_STORED] = "setting_changed",
		[KIND_TRIAL] = "setting_tried",
		[KIND_REVERT] = "setting_reverted",
	};
	const struct mt_setting *table = mt_settings_table();
	char user[MT_USER_TEXT_MAX];

	(void)mt_control_user(user, uid);
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		const char *value = a->settings.text[i];
		const char *previous = before->text[i];

		if (!differs(before, &a->settings, table[i].id)) {
			continue;
		}
		mt_log(MT_LOG_INFO, events[kind], MT_LOG_TEXT("key", table[i].key),
			MT_LOG_TEXT("value", value), MT_LOG_TEXT("previous", previous),
			MT_LOG_TEXT("by", user));
		mt_events_add(&a->events, events[kind],
			json_pack("{s:s, s:s, s:s, s:s, s:I}", "key", table[i].key, "value", value,
				"previous", previous, "by", user, "uid", (json_int_t)uid));
	}
}

static bool moves_web(const struct mt_appliance *a, const struct mt_settings *next)
{
	return differs(next, &a->settings, MT_SET_METRICS_ENABLED) ||
	       differs(next, &a->settings, MT_SET_METRICS_BIND_ADDR) ||
	       (mt_web_is_secured(a->web) &&
		       differs(next, &a->settings, MT_SET_SERVER_PUBLIC_ADDR));
}

/* The same for TLS over TCP, whose addresses may follow those of QUIC. */
static int prepare_tls(struct mt_appliance *a, struct mt_tls_move *tls, const struct mt_move *move,
	const struct mt_settings *settings, char *why, size_t why_cap, char *next, size_t next_cap)
{
	if (a->worker_count == 0 ||
		(!differs(settings, &a->settings, MT_SET_SERVER_BIND_ADDR) &&
			!differs(settings, &a->settings, MT_SET_TCP_ENABLED) &&
			!differs(settings, &a->settings, MT_SET_TCP_BIND_ADDR))) {
		return 0;
	}
	return mt_tls_move_prepare(tls, a, settings, move, why, why_cap, next, next_cap);
}

/* Binds new addresses, unless the daemon does not listen anyway and tries afterwards. */
static int prepare_move(struct mt_appliance *a, struct mt_move *move,
	const struct mt_settings *settings, char *why, size_t why_cap, char *next, size_t next_cap)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	size_t count;

	if (a->worker_count == 0 || !differs(settings, &a->settings, MT_SET_SERVER_BIND_ADDR)) {
		return 0;
	}
	count = mt_settings_addrs(settings, MT_SET_SERVER_BIND_ADDR, addrs, MT_SETTING_ADDRS_MAX);
	return mt_move_prepare(move, a, addrs, count, why, why_cap, next, next_cap);
}

/* Builds from the store that the change comes with. */
static int prepare(struct mt_appliance *a, struct mt_publication *p, const struct mt_change *change,
	char *why, size_t why_cap)
{
	struct mt_store *live = a->store;
	int rv;

	if (change->restored != NULL) {
		a->store = change->restored;
	}
	rv = mt_appliance_prepare(a, p, &change->next, change->restored != NULL, why, why_cap);
	a->store = live;
	return rv;
}

static int store_change(
	struct mt_appliance *a, const struct mt_change *change, char *why, size_t why_cap)
{
	struct mt_store *failed = a->store;
	int rv = 0;

	if (change->restored != NULL) {
		/* With it, not behind it: what has been counted is not lost, whenever we end. */
		rv = mt_accounts_carry(&a->accounts, change->restored);
		failed = rv != 0 ? change->restored : a->store;
	}
	if (rv == 0) {
		rv = change->restored != NULL ? mt_store_candidate_adopt(a->store, change->restored)
					      : store(a, &change->next, change->named);
	}
	if (rv != 0) {
		/* For people: cut when too long. */
		(void)snprintf(why, why_cap, "%s",
			rv == -ENOMEM ? mt_strerror(rv) : mt_store_error(failed));
	}
	return rv;
}

/* Makes everything that can fail; the store comes last. On failure all is as before. */
static int make(struct mt_appliance *a, struct mt_publication *p, struct mt_move *move,
	struct mt_tls_move *tls, const struct mt_change *change, enum kind kind, char *why,
	size_t why_cap, char *next, size_t next_cap)
{
	char lost[MT_WHY_MAX];
	bool moves = moves_web(a, &change->next);
	int rv = mt_settings_check(&change->next, why, why_cap);

	if (rv == 0) {
		rv = prepare(a, p, change, why, why_cap);
	}
	if (rv == 0) {
		rv = prepare_move(a, move, &change->next, why, why_cap, next, next_cap);
	}
	if (rv == 0) {
		rv = prepare_tls(a, tls, move, &change->next, why, why_cap, next, next_cap);
	}
	if (rv != 0) {
		goto out;
	}
	if (moves) {
		/* A token that comes with the change opens what the change asks for. */
		rv = mt_http_swap(a, &change->next,
			change->restored != NULL ? change->restored : a->store, why, why_cap);
		if (rv != 0) {
			(void)snprintf(next, next_cap, "mytunnelctl describe metrics.bind_addr");
			goto out;
		}
	}
	if (kind == KIND_STORED) {
		rv = store_change(a, change, why, why_cap);
		if (rv != 0) {
			(void)snprintf(next, next_cap, "mytunnelctl doctor");
		}
	}
	if (rv != 0 && moves && mt_http_swap(a, &a->settings, a->store, lost, sizeof(lost)) != 0) {
		mt_log(MT_LOG_ERROR, "http_failed", MT_LOG_TEXT("problem", lost));
	}
out:
	if (rv != 0) {
		mt_tls_move_drop(tls);
		mt_move_drop(move);
		mt_publication_drop(p);
	}
	return rv;
}

/* ---- trials ---- */

static void set_timer(struct mt_trial *t, uint64_t ms);

static void end_if_empty(struct mt_trial *t)
{
	if (!mt_trial_active(t)) {
		t->until = 0;
		(void)uv_timer_stop(&t->timer); /* always succeeds */
	}
}

static void begin_trial(
	struct mt_appliance *a, const struct mt_change *change, const struct mt_settings *before)
{
	struct mt_trial *t = &a->trial;

	t->before = *before;
	t->uid = change->uid;
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		t->named[i] = differs(before, &change->next, (enum mt_setting_id)i);
	}
	if (mt_trial_active(t)) {
		t->until = (int64_t)time(NULL) + change->trial_s;
		set_timer(t, (uint64_t)change->trial_s * 1000);
	}
}

/* What is stored for good is not on trial any more. */
static void note(struct mt_appliance *a, const struct mt_change *change, enum kind kind,
	const struct mt_settings *before)
{
	switch (kind) {
	case KIND_TRIAL: begin_trial(a, change, before); break;
	case KIND_REVERT: memset(a->trial.named, 0, sizeof(a->trial.named)); break;
	default:
		for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
			a->trial.named[i] = a->trial.named[i] && !change->named[i];
		}
		break;
	}
	end_if_empty(&a->trial);
	a->facts.trial_until = a->trial.until;
	mt_appliance_post_facts(a);
}

static int check_trial(const struct mt_appliance *a, const struct mt_change *change, char *why,
	size_t why_cap, char *next, size_t next_cap)
{
	const struct mt_setting *table = mt_settings_table();

	if (mt_trial_active(&a->trial)) {
		(void)snprintf(why, why_cap, "an earlier change is still on trial");
		(void)snprintf(next, next_cap, "mytunnelctl confirm");
		return MT_E_BUSY;
	}
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (change->named[i] && table[i].applies == MT_APPLIES_RESTART) {
			(void)snprintf(why, why_cap,
				"%s applies at the next start and cannot be tried with --confirm",
				table[i].key);
			return MT_E_UNSUPPORTED;
		}
	}
	return 0;
}

static int apply(struct mt_appliance *a, const struct mt_change *change, enum kind kind,
	void (*done)(void *user, bool cancelled), void *user, char *why, size_t why_cap, char *next,
	size_t next_cap)
{
	struct mt_settings before = a->settings;
	struct mt_publication p = {.snapshot = NULL};
	struct mt_move move = {.prepared = false};
	struct mt_tls_move tls = {.prepared = false};
	int moved = 0;
	int rv;

	rv = make(a, &p, &move, &tls, change, kind, why, why_cap, next, next_cap);
	if (rv != 0) {
		return rv;
	}
	if (move.prepared) {
		moved = mt_move_start(&move, a);
		mt_move_drop(&move);
	}
	if (tls.prepared) {
		int followed = mt_tls_move_start(&tls, a);

		moved = moved != 0 ? moved : followed;
		mt_tls_move_drop(&tls);
	}
	/* What is stored holds here, whatever the workers have heard: accounts and the store must
	 * speak of the same clients. */
	rv = mt_appliance_commit(a, &p, moved == 0 ? done : NULL, user);
	rv = moved != 0 ? moved : rv;
	mt_http_rename(a);
	note(a, change, kind, &before);
	tell(a, &before, kind, change->uid);
	return rv == 0 ? 0 : MT_E_AGAIN;
}

int mt_change_apply(struct mt_appliance *a, const struct mt_change *change,
	void (*done)(void *user, bool cancelled), void *user, char *why, size_t why_cap, char *next,
	size_t next_cap)
{
	char cause[MT_WHY_MAX] = "";
	int rv = 0;

	(void)snprintf(next, next_cap, "mytunnelctl describe");
	if (change->trial_s != 0) {
		rv = check_trial(a, change, cause, sizeof(cause), next, next_cap);
	}
	if (rv == 0) {
		rv = apply(a, change, change->trial_s != 0 ? KIND_TRIAL : KIND_STORED, done, user,
			cause, sizeof(cause), next, next_cap);
	}
	/* For people: cut when too long. */
	if (rv == MT_E_AGAIN) {
		(void)snprintf(why, why_cap,
			"%s, but the workers could not be told for want of memory",
			change->trial_s != 0 ? "accepted" : "stored");
		(void)snprintf(next, next_cap, "restart the daemon");
	} else if (rv != 0) {
		(void)snprintf(why, why_cap, "%.*s; nothing was changed", (int)why_cap - 32, cause);
	}
	return rv;
}

int mt_trial_confirm(struct mt_appliance *a, uid_t uid, char *why, size_t why_cap)
{
	char user[MT_USER_TEXT_MAX];
	int rv;

	if (!mt_trial_active(&a->trial)) {
		(void)snprintf(why, why_cap,
			"nothing waits to be confirmed: no change is on trial, or it has gone back "
			"already");
		return MT_E_NOT_FOUND;
	}
	rv = store(a, &a->settings, a->trial.named);
	if (rv != 0) {
		(void)snprintf(why, why_cap, "%s; the change stays on trial",
			mt_store_error(a->store)); /* for people: cut when too long */
		return rv;
	}
	memset(a->trial.named, 0, sizeof(a->trial.named));
	end_if_empty(&a->trial);
	a->facts.trial_until = 0;
	mt_appliance_post_facts(a);
	(void)mt_control_user(user, uid);
	mt_log(MT_LOG_INFO, "settings_confirmed", MT_LOG_TEXT("by", user));
	mt_events_add(&a->events, "settings_confirmed",
		json_pack("{s:s, s:I}", "by", user, "uid", (json_int_t)uid));
	return 0;
}

static void reverted(void *user, bool cancelled)
{
	(void)user; /* nobody waits */
	(void)cancelled;
}

/* {"changes": {KEY: [OLD, NEW]}}, as the audit trail has it. NULL without memory. */
static json_t *changes_json(const struct mt_settings *before, const struct mt_change *change)
{
	json_t *changes = json_object();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (change->named[i] &&
			json_object_set_new(changes, mt_settings_table()[i].key,
				json_pack("[s, s]", before->text[i], change->next.text[i])) != 0) {
			json_decref(changes);
			return NULL;
		}
	}
	return json_pack("{s:o}", "changes", changes);
}

static void on_over(uv_timer_t *timer)
{
	struct mt_appliance *a = timer->data;
	struct mt_settings before = a->settings;
	struct mt_change change = {.next = before, .uid = a->trial.uid};
	char why[MT_WHY_MAX] = "";
	char next[MT_WHY_MAX] = "";
	int rv;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (a->trial.named[i]) {
			memcpy(change.next.text[i], a->trial.before.text[i],
				sizeof(change.next.text[i]));
			change.named[i] = true;
		}
	}
	rv = apply(a, &change, KIND_REVERT, reverted, NULL, why, sizeof(why), next, sizeof(next));
	if (rv == 0 || rv == MT_E_AGAIN) {
		mt_audit_record_own(a, "revert", changes_json(&before, &change));
	}
	if (rv != 0) {
		mt_log(MT_LOG_ERROR, "revert_failed", MT_LOG_TEXT("error", why),
			MT_LOG_TEXT("next", "restart the daemon: it starts with the old values"));
		if (rv != MT_E_AGAIN) {
			set_timer(&a->trial, REVERT_AGAIN_MS);
		}
	}
}

static void set_timer(struct mt_trial *t, uint64_t ms)
{
	(void)uv_timer_start(&t->timer, on_over, ms, 0); /* fails only for a closing handle */
}

void mt_trial_end(struct mt_appliance *a)
{
	struct mt_change change = {.next = a->trial.before};

	if (mt_trial_active(&a->trial)) {
		memcpy(change.named, a->trial.named, sizeof(change.named));
		mt_audit_record_own(a, "revert", changes_json(&a->settings, &change));
		memset(a->trial.named, 0, sizeof(a->trial.named));
	}
	uv_close((uv_handle_t *)&a->trial.timer, NULL);
}

void mt_trial_init(struct mt_trial *trial, uv_loop_t *loop, struct mt_appliance *a)
{
	(void)uv_timer_init(loop, &trial->timer); /* cannot fail */
	trial->timer.data = a;
}
