#include "daemon/observe.h"

#include "daemon/appliance.h"
#include "daemon/process.h"
#include "daemon/stats.h"
#include "proto/wire/encode.h"
#include "store/pki.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOW_TICKS 10 /* what costs a file or a walk over all clients */

void mt_observe_certs(struct mt_appliance *a)
{
	static const struct {
		const char *name;
		enum mt_store_cert which;
	} kinds[] = {{"authority", MT_CERT_CA}, {"appliance", MT_CERT_SERVER},
		{"imported", MT_CERT_IMPORTED}};
	struct mt_cert_info info;

	a->facts.cert_count = 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char *chain = NULL;
		char *key = NULL;

		if (mt_store_cert_get(a->store, kinds[i].which, &chain, &key) == 0 &&
			mt_pki_describe(chain, &info) == 0) {
			a->facts.certs[a->facts.cert_count++] =
				(struct mt_cert_fact){kinds[i].name, info.not_after};
		}
		free(chain);
		if (key != NULL) {
			mt_wipe(key, strlen(key));
			free(key);
		}
	}
}

static int by_payload(const void *x, const void *y)
{
	const struct mt_client_series *a = x;
	const struct mt_client_series *b = y;
	uint64_t left = a->bytes_received + a->bytes_sent;
	uint64_t right = b->bytes_received + b->bytes_sent;

	return left == right ? strcmp(a->name, b->name) : (left < right) - (left > right);
}

static void observe_clients(struct mt_appliance *a)
{
	size_t cap = (size_t)mt_settings_int(&a->settings, MT_SET_METRICS_PER_CLIENT);
	size_t count = a->snapshot->client_count;
	struct mt_client_series *all = NULL;
	size_t n = 0;

	if (cap > 0 && count > 0) {
		all = calloc(count, sizeof(*all));
	}
	for (size_t i = 0; all != NULL && i < count; i++) {
		const struct mt_snapshot_client *client = &a->snapshot->clients[i];
		struct mt_client_series *s = &all[n];

		if (client->revoked) {
			continue;
		}
		memcpy(s->name, client->name, sizeof(s->name));
		s->connections = atomic_load(&client->account->connections);
		s->bytes_received = atomic_load(&client->account->bytes_received);
		s->bytes_sent = atomic_load(&client->account->bytes_sent);
		n++;
	}
	if (n > 0) {
		qsort(all, n, sizeof(*all), by_payload);
	}
	mt_board_set_clients(&a->board, all, n < cap ? n : cap);
}

static void observe_sums(struct mt_appliance *a)
{
	struct mt_sums sums;
	struct mt_process process;
	struct timespec now;

	mt_stats_sums(&sums, &a->facts, a->counters);
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for these clocks */
	sums.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	sums.at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	mt_process_read_quickly(&process);
	sums.cpu_ns = process.cpu_ns;
	sums.memory_bytes = process.resident_bytes;
	mt_history_feed(a->history, &sums);
}

static void tell_present(struct mt_appliance *a)
{
	json_t *now;

	if (mt_hub_readers(a->hub) == 0) {
		return;
	}
	now = mt_history_now_json(a->history);
	if (json_is_object(now)) {
		mt_hub_tick(a->hub, json_dumps(now, JSON_COMPACT | JSON_REAL_PRECISION(9)));
	}
	json_decref(now);
}

void mt_observe_tick(struct mt_appliance *a)
{
	if (a->observations++ % SLOW_TICKS == 0) {
		a->facts.database_bytes = mt_store_bytes(a->store);
		observe_clients(a);
	}
	for (unsigned i = 0; i < a->worker_count; i++) {
		a->facts.busy_ns[i] = mt_worker_busy_ns(a->workers[i]);
	}
	a->facts.events_dropped = mt_events_dropped(&a->events);
	mt_board_set(&a->board, &a->facts);
	observe_sums(a);
	mt_hub_expire(a->hub);
	tell_present(a);
}
