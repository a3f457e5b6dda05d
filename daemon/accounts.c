#include "daemon/accounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS_FIRST 64
#define FUTURE_S    (32 * 86400) /* a clock that is set back by less may be the wrong one */

/* ---- the table ---- */

/* Fingerprints are SHA-256: any part of one is as good as a hash. */
static size_t first_slot(const struct mt_accounts *t, const uint8_t *fingerprint)
{
	uint64_t hash;

	memcpy(&hash, fingerprint, sizeof(hash));
	return (size_t)hash & (t->slot_count - 1);
}

static struct mt_account **slot_of(const struct mt_accounts *t, const uint8_t *fingerprint)
{
	size_t i = first_slot(t, fingerprint);

	while (t->slots[i] != NULL &&
		memcmp(t->slots[i]->fingerprint, fingerprint, MT_FINGERPRINT_LEN) != 0) {
		i = (i + 1) & (t->slot_count - 1);
	}
	return &t->slots[i];
}

/* Puts those of the round `kept`, or all with `everything`, into a table of `slot_count`. */
static int rebuild(struct mt_accounts *t, size_t slot_count, bool everything)
{
	struct mt_accounts next = *t;

	next.slots = calloc(slot_count, sizeof(struct mt_account *));
	if (next.slots == NULL) {
		return -ENOMEM;
	}
	next.slot_count = slot_count;
	next.count = 0;
	for (size_t i = 0; i < t->slot_count; i++) {
		struct mt_account *a = t->slots[i];

		if (a == NULL) {
			continue;
		}
		if (everything || a->round == t->round) {
			*slot_of(&next, a->fingerprint) = a;
			next.count++;
		} else {
			mt_account_unref(a);
		}
	}
	free(t->slots);
	*t = next;
	return 0;
}

static struct mt_account *lookup(const struct mt_accounts *t, const uint8_t *fingerprint)
{
	return t->slot_count == 0 ? NULL : *slot_of(t, fingerprint);
}

struct mt_account *mt_accounts_find(
	const struct mt_accounts *t, const uint8_t fingerprint[MT_FINGERPRINT_LEN])
{
	struct mt_account *a = lookup(t, fingerprint);

	return a != NULL && a->live ? a : NULL;
}

void mt_accounts_deinit(struct mt_accounts *t)
{
	for (size_t i = 0; i < t->slot_count; i++) {
		mt_account_unref(t->slots[i]);
	}
	free(t->slots);
	*t = (struct mt_accounts){.slots = NULL};
}

/* ---- quotas ---- */

int64_t mt_quota_period_start(enum mt_quota_period period, int64_t now)
{
	time_t t = (time_t)now;
	struct tm day;

	if (period == MT_QUOTA_TOTAL || gmtime_r(&t, &day) == NULL) {
		return now;
	}
	day.tm_sec = 0;
	day.tm_min = 0;
	day.tm_hour = 0;
	if (period == MT_QUOTA_MONTH) {
		day.tm_mday = 1;
	}
	return (int64_t)timegm(&day);
}

static uint64_t sum_of(const struct mt_account *a)
{
	return atomic_load_explicit(&a->bytes_received, memory_order_relaxed) +
	       atomic_load_explicit(&a->bytes_sent, memory_order_relaxed);
}

static void set_stop(struct mt_account *a)
{
	uint64_t stop = UINT64_MAX;

	if (a->limits.quota_bytes > 0) {
		stop = a->period_origin + (uint64_t)a->limits.quota_bytes;
	}
	atomic_store_explicit(&a->quota_stop, stop, memory_order_relaxed);
	a->quota_told = a->quota_told && sum_of(a) >= stop;
}

static void begin_period(struct mt_account *a, int64_t now)
{
	a->period_start = mt_quota_period_start(a->limits.quota_period, now);
	a->period_origin = sum_of(a);
	set_stop(a);
}

/* Another kind of quota, or the first one, counts from now on. */
static bool is_fresh(const struct mt_account *a, const struct mt_account_limits *limits)
{
	return (a->limits.quota_bytes == 0) != (limits->quota_bytes == 0) ||
	       a->limits.quota_period != limits->quota_period;
}

static void set_limits(struct mt_account *a, const struct mt_account_limits *limits, int64_t now)
{
	bool fresh = is_fresh(a, limits);

	a->limits = *limits;
	mt_bucket_set_rate(&a->from_client, (uint64_t)limits->rate_bits / 8);
	mt_bucket_set_rate(&a->to_client, (uint64_t)limits->rate_bits / 8);
	atomic_store_explicit(
		&a->max_connections, (uint32_t)limits->max_connections, memory_order_relaxed);
	if (fresh) {
		begin_period(a, now);
	} else {
		set_stop(a);
	}
}

/* ---- publications ---- */

static struct mt_account_limits limits_of(const struct mt_store_client *client)
{
	return (struct mt_account_limits){.rate_bits = client->limits.rate_bits,
		.quota_bytes = client->limits.quota_bytes,
		.max_connections = client->limits.max_connections,
		.quota_period = client->limits.quota_period};
}

/* What the store says of one that nobody uses yet. */
static void fill(struct mt_account *a, const struct mt_store_client *client, int64_t now)
{
	const struct mt_store_usage *u = &client->usage;
	uint64_t sum = (uint64_t)u->bytes_received + (uint64_t)u->bytes_sent;

	memcpy(a->fingerprint, client->fingerprint, sizeof(a->fingerprint));
	atomic_store(&a->bytes_received, (uint64_t)u->bytes_received);
	atomic_store(&a->bytes_sent, (uint64_t)u->bytes_sent);
	atomic_store(&a->last_seen, u->last_seen);
	if (u->last_address[0] == '\0' || mt_addr_parse(&a->last_address, u->last_address) != 0) {
		a->last_address.len = 0;
	}
	a->stored = *u;
	/* The quota goes on where it was; the tick begins a new period when it is due. */
	a->limits = limits_of(client);
	a->period_start = u->period_start;
	a->period_origin = (uint64_t)u->period_bytes < sum ? sum - (uint64_t)u->period_bytes : 0;
	if (a->period_start == 0) {
		begin_period(a, now);
	}
}

void mt_accounts_begin(struct mt_accounts *t)
{
	t->round++;
}

int mt_accounts_take(
	struct mt_accounts *t, const struct mt_store_client *client, struct mt_account **out)
{
	struct mt_account *a = lookup(t, client->fingerprint);
	int64_t now = (int64_t)time(NULL);

	if (a == NULL) {
		if (t->count + 1 > t->slot_count / 2 &&
			rebuild(t, t->slot_count > 0 ? 2 * t->slot_count : SLOTS_FIRST, true) !=
				0) {
			return -ENOMEM;
		}
		a = mt_account_new();
		if (a == NULL) {
			return -ENOMEM;
		}
		*slot_of(t, client->fingerprint) = a;
		t->count++;
	}
	if (!a->live) {
		fill(a, client, now); /* also when it is left over from one that was dropped */
	}
	a->next_id = client->id;
	a->next_limits = limits_of(client);
	a->round = t->round;
	*out = mt_account_ref(a);
	return 0;
}

void mt_accounts_commit(struct mt_accounts *t)
{
	int64_t now = (int64_t)time(NULL);
	size_t gone = 0;

	for (size_t i = 0; i < t->slot_count; i++) {
		struct mt_account *a = t->slots[i];

		if (a == NULL) {
			continue;
		}
		a->live = a->round == t->round;
		if (a->live) {
			a->client_id = a->next_id;
			set_limits(a, &a->next_limits, now);
		} else {
			gone++;
		}
	}
	if (gone > 0) {
		int rv = rebuild(t, t->slot_count, false);

		(void)rv; /* without memory they stay, unused, until the next publication */
	}
}

/* ---- while tunnels run ---- */

void mt_account_usage(struct mt_account *a, struct mt_store_usage *out)
{
	struct mt_store_usage u = {0};
	uint64_t sum;

	u.bytes_received = (int64_t)atomic_load(&a->bytes_received);
	u.bytes_sent = (int64_t)atomic_load(&a->bytes_sent);
	sum = (uint64_t)u.bytes_received + (uint64_t)u.bytes_sent;
	u.last_seen = atomic_load(&a->last_seen);
	u.period_start = a->period_start;
	u.period_bytes = (int64_t)(sum - a->period_origin);
	(void)pthread_mutex_lock(&a->lock); /* fails for no mutex of this kind */
	if (a->last_address.len > 0) {
		(void)mt_addr_format(&a->last_address, u.last_address, sizeof(u.last_address));
	}
	(void)pthread_mutex_unlock(&a->lock);
	*out = u;
}

/* A clock that was set back begins no period; but one that began in a future that was none must not
 * last until then.
 */
static void follow_clock(struct mt_account *a, int64_t now)
{
	int64_t start = mt_quota_period_start(a->limits.quota_period, now);

	if (start > a->period_start) {
		begin_period(a, now);
	} else if (a->period_start - FUTURE_S > now) {
		a->period_start = start;
	}
}

void mt_accounts_tick(struct mt_accounts *t, int64_t now,
	void (*fn)(struct mt_account *account, void *user), void *user)
{
	for (size_t i = 0; i < t->slot_count; i++) {
		struct mt_account *a = t->slots[i];

		if (a == NULL || !a->live || a->limits.quota_bytes == 0) {
			continue;
		}
		if (a->limits.quota_period != MT_QUOTA_TOTAL) {
			follow_clock(a, now);
		}
		if (!a->quota_told && mt_account_is_exhausted(a)) {
			a->quota_told = true;
			if (fn != NULL) {
				fn(a, user);
			}
		}
	}
}

static bool is_same(const struct mt_store_usage *a, const struct mt_store_usage *b)
{
	return a->bytes_received == b->bytes_received && a->bytes_sent == b->bytes_sent &&
	       a->period_start == b->period_start && a->period_bytes == b->period_bytes &&
	       a->last_seen == b->last_seen && strcmp(a->last_address, b->last_address) == 0;
}

/* Nothing has happened yet that is worth a row. */
static bool is_blank(const struct mt_account *a, const struct mt_store_usage *usage)
{
	return a->limits.quota_bytes == 0 && usage->last_seen == 0 &&
	       usage->bytes_received + usage->bytes_sent == 0;
}

void mt_accounts_save_all(struct mt_accounts *t)
{
	for (size_t i = 0; i < t->slot_count; i++) {
		if (t->slots[i] != NULL) {
			t->slots[i]->stored.bytes_received = -1; /* like no usage */
		}
	}
}

int mt_accounts_save(struct mt_accounts *t, struct mt_store *store)
{
	struct mt_store_usage_row *rows = calloc(t->count + 1, sizeof(*rows));
	struct mt_account **owners = calloc(t->count + 1, sizeof(struct mt_account *));
	size_t n = 0;
	int rv = -ENOMEM;

	if (rows == NULL || owners == NULL) {
		goto out;
	}
	for (size_t i = 0; i < t->slot_count; i++) {
		struct mt_account *a = t->slots[i];

		if (a == NULL || !a->live) {
			continue;
		}
		mt_account_usage(a, &rows[n].usage);
		if (!is_same(&rows[n].usage, &a->stored) && !is_blank(a, &rows[n].usage)) {
			rows[n].client_id = a->client_id;
			owners[n++] = a;
		}
	}
	rv = n > 0 ? mt_store_usage_write(store, rows, n) : 0;
	for (size_t i = 0; rv == 0 && i < n; i++) {
		owners[i]->stored = rows[i].usage;
	}
out:
	free(owners);
	free(rows);
	return rv;
}

int mt_accounts_carry(struct mt_accounts *t, struct mt_store *store)
{
	struct mt_store_usage_row *rows = calloc(t->count + 1, sizeof(*rows));
	int64_t now = (int64_t)time(NULL);
	size_t n = 0;
	int rv;

	if (rows == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < t->slot_count; i++) {
		const struct mt_account *a = t->slots[i];

		if (a == NULL || !a->live || a->round != t->round) {
			continue;
		}
		mt_account_usage(t->slots[i], &rows[n].usage);
		if (is_fresh(a, &a->next_limits)) {
			rows[n].usage.period_start =
				mt_quota_period_start(a->next_limits.quota_period, now);
			rows[n].usage.period_bytes = 0;
		}
		rows[n++].client_id = a->next_id;
	}
	rv = n > 0 ? mt_store_usage_write(store, rows, n) : 0;
	free(rows);
	return rv;
}
