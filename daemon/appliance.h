/* The appliance: what the control thread owns and how its parts follow the settings. Everything
 * here belongs to the control thread; workers and HTTP threads see snapshots, messages and the
 * board alone.
 */
#pragma once

#include "daemon/accounts.h"
#include "daemon/change.h"
#include "daemon/events.h"
#include "daemon/hosts.h"
#include "daemon/listeners.h"
#include "daemon/lookup.h"
#include "daemon/memory.h"
#include "daemon/pictures.h"
#include "daemon/qlogs.h"
#include "daemon/renewal.h"
#include "daemon/round.h"
#include "daemon/snapshot.h"
#include "daemon/status.h"
#include "daemon/tls_listeners.h"
#include "daemon/trace_desk.h"
#include "daemon/view.h"
#include "daemon/worker.h"
#include "proto/wire/err.h"
#include "store/store.h"
#include "web/http.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MT_WORKERS_MAX 128
#define MT_RETRY_MS    5000 /* between attempts to open what is taken */
#define MT_WHY_MAX     512  /* sentences for people */

/* A worker's word that its last tunnel has ended. */
struct mt_drained {
	struct mt_message_node node;
	struct mt_appliance *appliance;
	atomic_bool said;
};

struct mt_appliance {
	uv_loop_t *loop;
	struct mt_store *store;
	struct mt_settings settings;
	struct mt_tls_server *tls;
	struct mt_snapshot *snapshot;
	struct mt_accounts accounts;
	uint8_t secret[32];
	uint8_t tag;
	bool behind;   /* what is stored, or the host's addresses, could not be put in force yet */
	bool watching; /* the host's addresses */

	struct mt_addr *hosts;
	size_t host_count;
	struct mt_hosts_watch watch;

	struct mt_worker_counters *counters; /* MT_WORKERS_MAX of them */
	mt_counter places;                   /* taken of quic.max_connections */
	struct mt_worker *workers[MT_WORKERS_MAX];
	unsigned worker_count; /* 0 while degraded */
	struct mt_inbox inbox;
	struct mt_rounds rounds;
	struct mt_events events;
	struct mt_qlogs qlogs;
	struct mt_trace_desk trace_desk;
	struct mt_listeners listeners;
	struct mt_listeners tls_listeners;
	struct mt_trial trial;

	struct mt_lookup *lookup; /* NULL before its first use */

	struct mt_web *web;
	struct mt_hub *hub;
	struct mt_pictures pictures;
	struct mt_view_sources sources;
	struct mt_web_view view;
	struct mt_board board;
	struct mt_history *history;
	uint64_t observations;
	struct mt_facts facts; /* the control thread's own copy of what is on the board */

	uv_timer_t retry;
	struct mt_renewal renewal;
	uv_timer_t accounting;
	uv_timer_t observing;
	unsigned accounting_ticks;
	struct mt_memory_trim trim;

	struct mt_drained drained[MT_WORKERS_MAX];
	unsigned drained_count;
	void (*on_drained)(void *user); /* NULL: nobody waits */
	void *on_drained_user;

	struct mt_upload *upload; /* of a restore; NULL: none is under way */
	uint64_t upload_serial;
};

/* Wipes and frees what a restore has sent so far; NULL is allowed. */
struct mt_upload;
void mt_upload_free(struct mt_upload *u);

/* A setting to write before the start, by its text. */
struct mt_preset {
	const char *key;
	const char *value;
};

/* Checks keys and values one by one, without a store. */
int mt_presets_check(
	const struct mt_preset *presets, size_t count, char *why, size_t why_cap) MT_MUST_CHECK;

/* Opens the store, writes the presets (all or none), makes certificates where they are missing.
 * Nothing listens yet. On failure `why` holds a sentence; MT_E_RANGE means that the presets do not
 * fit the other settings.
 */
int mt_appliance_new(struct mt_appliance **out, uv_loop_t *loop, const char *state_dir,
	const struct mt_preset *presets, size_t count, char *why, size_t why_cap) MT_MUST_CHECK;
/* Opens sockets, starts workers and the HTTP endpoint. What cannot be opened leaves the appliance
 * degraded, is told by `status`, and is tried again.
 */
void mt_appliance_start(struct mt_appliance *a);
/* Stops threads, closes handles and the store. The loop must then run until it is empty, before
 * mt_appliance_free. */
void mt_appliance_stop(struct mt_appliance *a);
void mt_appliance_free(struct mt_appliance *a);

/* A change that is complete but not yet in force. */
struct mt_publication {
	struct mt_settings settings;
	struct mt_tls_server *tls;
	struct mt_snapshot *snapshot;
};
/* Builds what `settings` (copied) and the store ask for; `renew_tls` reads the certificates again.
 */
int mt_appliance_prepare(struct mt_appliance *a, struct mt_publication *p,
	const struct mt_settings *settings, bool renew_tls, char *why,
	size_t why_cap) MT_MUST_CHECK;
void mt_publication_drop(struct mt_publication *p);
/* Puts it in force and takes it: `done` is called once every worker works by it (at once without
 * workers). On -ENOMEM the control thread has it, the workers do not, and `done` is not called.
 */
int mt_appliance_commit(struct mt_appliance *a, struct mt_publication *p,
	void (*done)(void *user, bool cancelled), void *user) MT_MUST_CHECK;
/* Both in one, for changes that are in the store already. */
int mt_appliance_republish(struct mt_appliance *a, bool renew_tls,
	void (*done)(void *user, bool cancelled), void *user, char *why,
	size_t why_cap) MT_MUST_CHECK;

/* Puts what the control thread knows on the board, for everybody to read. */
void mt_appliance_post_facts(struct mt_appliance *a);
/* Reads the host's addresses again and publishes them when they have changed. */
void mt_appliance_refresh_hosts(struct mt_appliance *a);

/* Tries to listen now, when degraded. */
void mt_appliance_retry(struct mt_appliance *a);
/* Asks all workers, or one (`only` >= 0); see mt_round_start. */
int mt_appliance_ask(
	struct mt_appliance *a, int only, const struct mt_round_ops *ops, void *user) MT_MUST_CHECK;
/* Tells clients, refuses new work; `on_drained` (may be NULL) when no tunnel is left, at once
 * without workers. */
void mt_appliance_drain(struct mt_appliance *a, void (*on_drained)(void *user), void *user);
