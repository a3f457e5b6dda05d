#include "daemon/qlogs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_QUEUE 16384u

struct head {
	uint64_t connection;
	uint32_t len;
	bool end;
};

/* The lock is a plain one: locking and unlocking it cannot fail. */
static void lock(struct mt_qlogs *q)
{
	(void)pthread_mutex_lock(&q->lock);
}

static void unlock(struct mt_qlogs *q)
{
	(void)pthread_mutex_unlock(&q->lock);
}

int mt_qlogs_check(int version, const char *text, char *why, size_t why_cap)
{
	if (mt_qlog_is_safe(version)) {
		return 0;
	}
	/* A version's text is short: always fits. */
	(void)snprintf(why, why_cap,
		"the qlog of ngtcp2 %s, which the server runs with, is not safe: a client can make "
		"it write beyond its buffer (CVE-2026-40170); nothing is traced",
		text);
	return MT_E_UNSUPPORTED;
}

void mt_qlogs_init(struct mt_qlogs *q)
{
	memset(q, 0, sizeof(*q));
	(void)pthread_mutex_init(&q->lock, NULL); /* fails for attributes only */
	atomic_init(&q->wanted, 0);
}

static void end_trace(struct mt_qlogs *q, struct mt_qlogs_trace *t)
{
	if (!t->stopped) {
		(void)atomic_fetch_sub_explicit(&q->wanted, 1, memory_order_relaxed);
	}
	free(t->queue);
	memset(t, 0, sizeof(*t));
}

void mt_qlogs_deinit(struct mt_qlogs *q)
{
	for (unsigned i = 0; i < MT_QLOGS_MAX; i++) {
		if (q->traces[i].number != 0) {
			end_trace(q, &q->traces[i]);
		}
	}
	(void)pthread_mutex_destroy(&q->lock);
}

bool mt_qlogs_wanted(const struct mt_qlogs *q)
{
	return atomic_load_explicit(&q->wanted, memory_order_relaxed) > 0;
}

static struct mt_qlogs_trace *by_number(struct mt_qlogs *q, uint64_t number)
{
	for (unsigned i = 0; number != 0 && i < MT_QLOGS_MAX; i++) {
		if (q->traces[i].number == number) {
			return &q->traces[i];
		}
	}
	return NULL;
}

/* A stopped one counts no more. */
static struct mt_qlogs_trace *by_client(struct mt_qlogs *q, const char *client)
{
	for (unsigned i = 0; i < MT_QLOGS_MAX; i++) {
		struct mt_qlogs_trace *t = &q->traces[i];

		if (t->number != 0 && !t->stopped && strcmp(t->client, client) == 0) {
			return t;
		}
	}
	return NULL;
}

uint64_t mt_qlogs_find(struct mt_qlogs *q, const char *client)
{
	const struct mt_qlogs_trace *t;
	uint64_t number;

	if (!mt_qlogs_wanted(q)) {
		return 0;
	}
	lock(q);
	t = by_client(q, client);
	number = t != NULL ? t->number : 0;
	unlock(q);
	return number;
}

static bool make_room(struct mt_qlogs_trace *t, size_t len)
{
	size_t cap = t->cap == 0 ? FIRST_QUEUE : t->cap;
	uint8_t *grown;

	if (len > MT_QLOGS_QUEUE_BYTES - t->len) {
		return false;
	}
	while (cap < t->len + len) {
		cap *= 2; /* at most MT_QLOGS_QUEUE_BYTES, a power of two */
	}
	if (cap > t->cap) {
		grown = realloc(t->queue, cap);
		if (grown == NULL) {
			return false;
		}
		t->queue = grown;
		t->cap = cap;
	}
	return true;
}

static void put(struct mt_qlogs_trace *t, uint64_t connection, const struct mt_qlog_part *part)
{
	struct head head = {.connection = connection, .len = (uint32_t)part->len, .end = part->end};

	t->lost += part->lost;
	if (part->len == 0 && !part->end) {
		return;
	}
	if (part->len > MT_QLOGS_QUEUE_BYTES || !make_room(t, sizeof(head) + part->len)) {
		t->lost += part->len > 0 ? 1 : 0;
		return;
	}
	memcpy(t->queue + t->len, &head, sizeof(head));
	t->len += sizeof(head);
	if (part->len > 0) {
		memcpy(t->queue + t->len, part->data, part->len);
	}
	t->len += part->len;
	t->records += part->len > 0 ? 1 : 0;
	t->bytes += part->len;
}

bool mt_qlogs_put(
	struct mt_qlogs *q, uint64_t number, uint64_t connection, const struct mt_qlog_part *part)
{
	struct mt_qlogs_trace *t;
	bool wanted;

	lock(q);
	t = by_number(q, number);
	wanted = t != NULL && !t->stopped;
	if (wanted) {
		put(t, connection, part);
	}
	unlock(q);
	return wanted;
}

int mt_qlogs_start(struct mt_qlogs *q, const char *client, int64_t started_at, uint64_t now_ms,
	uint64_t *number)
{
	struct mt_qlogs_trace *free_place = NULL;
	size_t len = strlen(client);
	int rv = 0;

	if (len > MT_NAME_MAX) {
		return MT_E_TOO_LONG;
	}
	lock(q);
	for (unsigned i = MT_QLOGS_MAX; i-- > 0;) {
		free_place = q->traces[i].number == 0 ? &q->traces[i] : free_place;
	}
	if (by_client(q, client) != NULL) {
		rv = MT_E_EXISTS;
	} else if (free_place == NULL) {
		rv = MT_E_LIMIT;
	} else {
		free_place->number = ++q->last_number;
		memcpy(free_place->client, client, len + 1);
		free_place->started_at = started_at;
		free_place->read_ms = now_ms;
		*number = free_place->number;
		(void)atomic_fetch_add_explicit(&q->wanted, 1, memory_order_relaxed);
	}
	unlock(q);
	return rv;
}

int mt_qlogs_ready(struct mt_qlogs *q, uint64_t number, bool *ready)
{
	const struct mt_qlogs_trace *t;

	lock(q);
	t = by_number(q, number);
	if (t != NULL) {
		*ready = t->len > 0 || t->stopped;
	}
	unlock(q);
	return t != NULL ? 0 : MT_E_NOT_FOUND;
}

int mt_qlogs_take(struct mt_qlogs *q, uint64_t number, uint64_t now_ms, struct mt_qlogs_batch *out)
{
	struct mt_qlogs_trace *t;

	lock(q);
	t = by_number(q, number);
	if (t != NULL) {
		*out = (struct mt_qlogs_batch){.queue = t->queue,
			.len = t->len,
			.lost = t->lost - t->lost_told,
			.stopped = t->stopped};
		t->lost_told = t->lost;
		t->queue = NULL;
		t->len = t->cap = 0;
		t->read_ms = now_ms;
		if (t->stopped) {
			end_trace(q, t);
		}
	}
	unlock(q);
	return t != NULL ? 0 : MT_E_NOT_FOUND;
}

bool mt_qlogs_next(struct mt_qlogs_batch *batch, struct mt_qlogs_record *out)
{
	struct head head;

	if (batch->at == batch->len) {
		return false;
	}
	memcpy(&head, batch->queue + batch->at, sizeof(head));
	batch->at += sizeof(head);
	*out = (struct mt_qlogs_record){.connection = head.connection,
		.data = (const char *)batch->queue + batch->at,
		.len = head.len,
		.end = head.end};
	batch->at += head.len;
	return true;
}

unsigned mt_qlogs_stop(struct mt_qlogs *q, const char *client, uint64_t number)
{
	unsigned count = 0;

	lock(q);
	for (unsigned i = 0; i < MT_QLOGS_MAX; i++) {
		struct mt_qlogs_trace *t = &q->traces[i];

		if (t->number != 0 && !t->stopped &&
			(client == NULL || strcmp(t->client, client) == 0) &&
			(number == 0 || t->number == number)) {
			t->stopped = true;
			(void)atomic_fetch_sub_explicit(&q->wanted, 1, memory_order_relaxed);
			count++;
		}
	}
	unlock(q);
	return count;
}

unsigned mt_qlogs_expire(struct mt_qlogs *q, uint64_t now_ms)
{
	unsigned left = 0;

	lock(q);
	for (unsigned i = 0; i < MT_QLOGS_MAX; i++) {
		struct mt_qlogs_trace *t = &q->traces[i];

		if (t->number != 0 && now_ms - t->read_ms >= MT_QLOGS_LEASE_MS) {
			end_trace(q, t);
		}
		left += t->number != 0 ? 1 : 0;
	}
	unlock(q);
	return left;
}

bool mt_qlogs_get(struct mt_qlogs *q, unsigned i, struct mt_qlogs_trace *out)
{
	lock(q);
	*out = q->traces[i];
	unlock(q);
	out->queue = NULL;
	return out->number != 0;
}
