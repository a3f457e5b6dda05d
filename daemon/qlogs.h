/* Traces: the qlog of one client's connections, on its way from the workers to whoever asked for
 * it. Workers put records into a trace's queue, the control thread takes them out; a record for
 * which there is no room is lost, and counted. While nobody traces, a worker looks at one atomic
 * number for each new connection, and nothing is allocated.
 */
#pragma once

#include "proto/quic/qlog.h"
#include "proto/wire/err.h"
#include "proto/wire/profile.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_QLOGS_MAX         4          /* traces at once */
#define MT_QLOGS_QUEUE_BYTES (1u << 20) /* that wait for a trace's reader */
#define MT_QLOGS_LEASE_MS    30000      /* without a reader a trace ends */

struct mt_qlogs {
	pthread_mutex_t lock; /* of what follows; never held while anything is waited for */
	atomic_uint wanted;   /* traces that take records */
	uint64_t last_number;
	struct mt_qlogs_trace {
		uint64_t number; /* 0: a free place */
		char client[MT_NAME_MAX + 1];
		bool stopped;       /* its reader gets the rest, then it is gone */
		int64_t started_at; /* Unix seconds */
		uint64_t read_ms;   /* when its reader was last seen */
		uint8_t *queue;     /* records with their heads */
		size_t len;
		size_t cap;
		uint64_t records; /* taken over from workers */
		uint64_t bytes;
		uint64_t lost;
		uint64_t lost_told; /* of these, to its reader */
	} traces[MT_QLOGS_MAX];
};

/* Whether a library of this version may write qlog: 0, or MT_E_UNSUPPORTED with a sentence. */
int mt_qlogs_check(int version, const char *text, char *why, size_t why_cap) MT_MUST_CHECK;

void mt_qlogs_init(struct mt_qlogs *q);
void mt_qlogs_deinit(struct mt_qlogs *q);

/* ---- workers: any thread ---- */

/* Whether any trace is under way. No lock. */
bool mt_qlogs_wanted(const struct mt_qlogs *q);
/* The number of the trace of this client, 0 without one. */
uint64_t mt_qlogs_find(struct mt_qlogs *q, const char *client);
/* `connection` is the one of its trace ids. Returns false when that trace has ended. */
bool mt_qlogs_put(
	struct mt_qlogs *q, uint64_t number, uint64_t connection, const struct mt_qlog_part *part);

/* ---- control thread; `now_ms` is any clock that does not go back ---- */

/* MT_E_EXISTS when the client is traced already, MT_E_LIMIT. */
int mt_qlogs_start(struct mt_qlogs *q, const char *client, int64_t started_at, uint64_t now_ms,
	uint64_t *number) MT_MUST_CHECK;

/* What has come in; the caller frees `queue`. */
struct mt_qlogs_batch {
	uint8_t *queue;
	size_t len;
	size_t at;     /* of mt_qlogs_next */
	uint64_t lost; /* records since the batch before */
	bool stopped;  /* these are the last ones, and the trace is gone */
};
struct mt_qlogs_record {
	uint64_t connection;
	const char *data; /* borrowed from the batch */
	size_t len;
	bool end; /* of the connection's qlog */
};
/* Whether a take would give something, or the trace is stopped. MT_E_NOT_FOUND. */
int mt_qlogs_ready(struct mt_qlogs *q, uint64_t number, bool *ready) MT_MUST_CHECK;
/* MT_E_NOT_FOUND. */
int mt_qlogs_take(struct mt_qlogs *q, uint64_t number, uint64_t now_ms,
	struct mt_qlogs_batch *out) MT_MUST_CHECK;
/* The next record; false when there is none left. */
bool mt_qlogs_next(struct mt_qlogs_batch *batch, struct mt_qlogs_record *out);
/* Stops the traces of `client` (NULL: of every client), or the one with `number` (0: any); returns
 * how many. */
unsigned mt_qlogs_stop(struct mt_qlogs *q, const char *client, uint64_t number);
/* Ends traces that nobody has read for MT_QLOGS_LEASE_MS; returns how many there still are. */
unsigned mt_qlogs_expire(struct mt_qlogs *q, uint64_t now_ms);
/* A copy of the trace in place `i`, without its queue; false when the place is free. */
bool mt_qlogs_get(struct mt_qlogs *q, unsigned i, struct mt_qlogs_trace *out);
