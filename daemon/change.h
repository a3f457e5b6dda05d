/* A change of settings, all or none: everything that can fail comes first (checking, building,
 * binding), then the store, then the workers. A change on trial is in force at once but not stored:
 * unless it is confirmed in time it goes back by itself, and a daemon that ends meanwhile starts
 * with the old values. Control thread.
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define MT_TRIAL_MIN_S 5
#define MT_TRIAL_MAX_S 3600

struct mt_appliance;
struct mt_store;

struct mt_change {
	struct mt_settings next; /* the whole set */
	bool named[MT_SETTING_COUNT];
	unsigned trial_s; /* 0: for good */
	uid_t uid;        /* who asked */
	/* A restore: clients, rules and certificates too come from here, and it replaces the live
	 * database; all keys are named. NULL: settings alone. Borrowed. */
	struct mt_store *restored;
};

/* What is in force, but neither stored nor confirmed. */
struct mt_trial {
	bool named[MT_SETTING_COUNT]; /* none: no trial is under way */
	struct mt_settings before;
	uid_t uid;
	int64_t until; /* Unix seconds */
	uv_timer_t timer;
};

void mt_trial_init(struct mt_trial *trial, uv_loop_t *loop, struct mt_appliance *a);
/* The daemon ends: what is on trial goes back by that, and is recorded; closes the timer. */
void mt_trial_end(struct mt_appliance *a);
bool mt_trial_active(const struct mt_trial *trial);

/* On success `done` (which frees `user`) is called once every worker works by it. On failure `why`
 * is the whole sentence for people, `next` what to do, and `done` is not called.
 */
int mt_change_apply(struct mt_appliance *a, const struct mt_change *change,
	void (*done)(void *user, bool cancelled), void *user, char *why, size_t why_cap, char *next,
	size_t next_cap) MT_MUST_CHECK;
/* Stores what is on trial. MT_E_NOT_FOUND when nothing is. */
int mt_trial_confirm(struct mt_appliance *a, uid_t uid, char *why, size_t why_cap) MT_MUST_CHECK;
