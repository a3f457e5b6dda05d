/* Readers of the stream of events: each has its place in the hub's ring, and at most one batch of
 * its own. */
#include "web/hub_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_EVENTS 64

void mt_hub_wake_readers(struct mt_hub *hub, const struct mt_hub_user *user)
{
	for (unsigned i = 0; i < hub->reader_count; i++) {
		struct mt_hub_reader *r = hub->readers[i];

		if (r->suspended && (user == NULL || r->user == user)) {
			r->suspended = false;
			MHD_resume_connection(r->connection);
		}
	}
}

static int64_t oldest(const struct mt_hub *hub)
{
	return hub->last > MT_HUB_EVENTS_MAX ? hub->last - MT_HUB_EVENTS_MAX + 1 : 1;
}

/* "STARTED-NUMBER" of this process: digits and nothing else. */
static bool parse_id(const char *id, int64_t started_at, int64_t *number)
{
	char wanted[32];
	size_t len = (size_t)snprintf(wanted, sizeof(wanted), "%" PRId64 "-", started_at);
	const char *digits = id + len;
	size_t count;

	if (strncmp(id, wanted, len) != 0) {
		return false;
	}
	count = strspn(digits, "0123456789");
	if (count == 0 || count > 18 || digits[count] != '\0') {
		return false;
	}
	*number = (int64_t)strtoll(digits, NULL, 10);
	return true;
}

static int64_t first_event(const struct mt_hub *hub, const char *last_id)
{
	int64_t number;
	int64_t recent = hub->last - MT_HUB_RECENT + 1;

	if (last_id != NULL && parse_id(last_id, hub->started_at, &number) && number <= hub->last) {
		return number + 1;
	}
	return recent > oldest(hub) ? recent : oldest(hub);
}

int mt_hub_reader_new(struct mt_hub_reader **out, struct mt_hub *hub, struct mt_hub_user *user,
	struct MHD_Connection *connection, const char *last_id)
{
	struct mt_hub_reader *r = calloc(1, sizeof(*r));
	int rv = 0;

	if (r == NULL) {
		return -ENOMEM;
	}
	r->hub = hub;
	r->user = user;
	r->connection = connection;
	mt_hub_lock(hub);
	if (hub->reader_count == MT_HUB_READERS_MAX || user->closing) {
		rv = MT_E_LIMIT;
	} else {
		hub->readers[hub->reader_count++] = r;
		r->next = first_event(hub, last_id);
		r->ticks = hub->ticks; /* only what comes from now on is the present */
	}
	mt_hub_unlock(hub);
	if (rv != 0) {
		free(r);
		return rv;
	}
	*out = r;
	return 0;
}

void mt_hub_reader_free(struct mt_hub_reader *reader)
{
	struct mt_hub *hub = reader->hub;

	mt_hub_lock(hub);
	for (unsigned i = 0; i < hub->reader_count; i++) {
		if (hub->readers[i] == reader) {
			hub->readers[i] = hub->readers[--hub->reader_count];
			break;
		}
	}
	mt_hub_unlock(hub);
	free(reader->out);
	free(reader);
}

static void write_missed(FILE *out, int64_t count)
{
	fprintf(out, "event: missed\ndata: {\"missed\":%" PRId64 "}\n\n", count);
}

static void write_events(struct mt_hub_reader *r, FILE *out)
{
	const struct mt_hub *hub = r->hub;
	int64_t from = oldest(hub);
	int64_t lost = 0;

	if (r->next < from) {
		write_missed(out, from - r->next);
		r->next = from;
	}
	for (unsigned n = 0; n < BATCH_EVENTS && r->next <= hub->last; n++, r->next++) {
		const char *json = hub->events[r->next % MT_HUB_EVENTS_MAX];

		if (json == NULL) {
			lost++;
			continue;
		}
		fprintf(out, "id: %" PRId64 "-%" PRId64 "\nevent: event\ndata: %s\n\n",
			hub->started_at, r->next, json);
	}
	if (lost > 0) {
		write_missed(out, lost);
	}
}

/* What there is to say now: false when it is nothing, or there is no memory to say it. */
static bool make_batch(struct mt_hub_reader *r)
{
	const struct mt_hub *hub = r->hub;
	FILE *out;
	bool bad;

	free(r->out);
	r->out = NULL;
	r->len = r->sent = 0;
	if (r->greeted && r->next > hub->last && r->ticks == hub->ticks) {
		return false;
	}
	out = open_memstream(&r->out, &r->len);
	if (out == NULL) {
		return false;
	}
	if (!r->greeted) {
		fprintf(out,
			"retry: 2000\nevent: hello\ndata: {\"schema\":1,\"version\":\"%s\","
			"\"started_at\":%" PRId64 "}\n\n",
			hub->version, hub->started_at);
	}
	write_events(r, out);
	if (r->ticks != hub->ticks && hub->tick != NULL) {
		fprintf(out, "event: stats\ndata: %s\n\n", hub->tick);
	}
	bad = ferror(out) != 0; /* writes to memory fail for want of memory alone */
	bad = fclose(out) != 0 || bad;
	if (bad) {
		free(r->out);
		r->out = NULL;
		r->len = 0;
		return false;
	}
	r->greeted = true;
	r->ticks = hub->ticks;
	return r->len > 0;
}

int64_t mt_hub_reader_read(struct mt_hub_reader *reader, char *buf, size_t cap)
{
	struct mt_hub *hub = reader->hub;
	int64_t n = 0;

	mt_hub_lock(hub);
	if (reader->user->closing) {
		n = -1;
	} else if (reader->sent == reader->len && !make_batch(reader)) {
		reader->suspended = true;
		MHD_suspend_connection(reader->connection);
	} else {
		size_t left = reader->len - reader->sent;

		n = (int64_t)(left < cap ? left : cap);
		memcpy(buf, reader->out + reader->sent, (size_t)n);
		reader->sent += (size_t)n;
	}
	mt_hub_unlock(hub);
	return n;
}

unsigned mt_hub_readers(struct mt_hub *hub)
{
	unsigned count;

	mt_hub_lock(hub);
	count = hub->reader_count;
	mt_hub_unlock(hub);
	return count;
}
