#include "daemon/history.h"

#include "daemon/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1.0) /* no value: null */

/* Plain values of a sample, in the order of `fields`. */
enum field {
	RECEIVED,
	SENT,
	CONNECTIONS,
	HALF_OPEN,
	HANDSHAKES,
	TUNNELS,
	TUNNELS_OPENED,
	UDP_FLOWS,
	PACKETS_RECEIVED,
	PACKETS_SENT,
	PACKETS_LOST,
	LOSS,
	RTT,
	RTT_P95,
	HANDSHAKE,
	CONNECT,
	CONNECT_P95,
	DROPPED,
	DENIED,
	LIMIT_HITS,
	CPU,
	MEMORY,
	FIELDS,
};

static const struct {
	const char *name;
	bool whole;
} fields[FIELDS] = {
	[RECEIVED] = {"received_bytes_per_second", false},
	[SENT] = {"sent_bytes_per_second", false},
	[CONNECTIONS] = {"connections", true},
	[HALF_OPEN] = {"half_open", true},
	[HANDSHAKES] = {"handshakes_per_second", false},
	[TUNNELS] = {"tunnels", true},
	[TUNNELS_OPENED] = {"tunnels_per_second", false},
	[UDP_FLOWS] = {"udp_flows", true},
	[PACKETS_RECEIVED] = {"packets_received_per_second", false},
	[PACKETS_SENT] = {"packets_sent_per_second", false},
	[PACKETS_LOST] = {"packets_lost_per_second", false},
	[LOSS] = {"loss", false},
	[RTT] = {"rtt_ms", false},
	[RTT_P95] = {"rtt_p95_ms", false},
	[HANDSHAKE] = {"handshake_ms", false},
	[CONNECT] = {"connect_ms", false},
	[CONNECT_P95] = {"connect_p95_ms", false},
	[DROPPED] = {"datagrams_dropped_per_second", false},
	[DENIED] = {"denied_per_second", false},
	[LIMIT_HITS] = {"limit_hits_per_second", false},
	[CPU] = {"cpu", false},
	[MEMORY] = {"memory_bytes", true},
};

struct sample {
	int64_t at_ms;
	unsigned workers;
	double values[FIELDS];
	double handshake_failures[MT_HANDSHAKE_FAILURES];
	double connect_failures[MT_CONNECT_FAILURES];
	double busy[MT_HISTORY_WORKERS];
	double connections[MT_HISTORY_WORKERS];
};

struct mt_history {
	/* The feeder's own. */
	struct mt_sums last;
	struct mt_sums last_step;
	bool begun;

	pthread_mutex_t lock; /* of what follows */
	bool has_now;
	struct sample now;
	size_t count;
	size_t next; /* where the next step goes */
	struct sample steps[MT_HISTORY_STEPS];
};

struct mt_history *mt_history_new(void)
{
	struct mt_history *h = calloc(1, sizeof(*h));

	if (h != NULL && pthread_mutex_init(&h->lock, NULL) != 0) {
		free(h);
		return NULL;
	}
	return h;
}

void mt_history_free(struct mt_history *h)
{
	if (h != NULL) {
		(void)pthread_mutex_destroy(&h->lock); /* fails only while it is held */
		free(h);
	}
}

static void take_times(struct sample *s, const struct mt_sums *now, const struct mt_sums *before)
{
	struct mt_histogram_sum rtt = mt_histogram_since(&now->rtt, &before->rtt);
	struct mt_histogram_sum handshake = mt_histogram_since(&now->handshake, &before->handshake);
	struct mt_histogram_sum connect = mt_histogram_since(&now->connect, &before->connect);

	s->values[RTT] = mt_histogram_mean_ms(&rtt);
	s->values[RTT_P95] = mt_histogram_quantile_ms(&rtt, &mt_histogram_times, 0.95);
	s->values[HANDSHAKE] = mt_histogram_mean_ms(&handshake);
	s->values[CONNECT] = mt_histogram_mean_ms(&connect);
	s->values[CONNECT_P95] = mt_histogram_quantile_ms(&connect, &mt_histogram_times, 0.95);
}

static void take_sample(struct sample *s, const struct mt_sums *now, const struct mt_sums *before)
{
	double seconds = (double)(now->at_ns - before->at_ns) / 1e9;
	uint64_t sent = now->packets_sent - before->packets_sent;
	uint64_t lost = now->packets_lost - before->packets_lost;

#define RATE(member) ((double)(now->member - before->member) / seconds)
	*s = (struct sample){.at_ms = now->at_ms, .workers = now->workers};
	s->values[RECEIVED] = RATE(bytes_received);
	s->values[SENT] = RATE(bytes_sent);
	s->values[CONNECTIONS] = (double)now->connections;
	s->values[HALF_OPEN] = (double)now->half_open;
	s->values[HANDSHAKES] = RATE(handshakes);
	s->values[TUNNELS] = (double)now->tunnels;
	s->values[TUNNELS_OPENED] = RATE(tunnels_opened);
	s->values[UDP_FLOWS] = (double)now->udp_flows;
	s->values[PACKETS_RECEIVED] = RATE(packets_received);
	s->values[PACKETS_SENT] = RATE(packets_sent);
	s->values[PACKETS_LOST] = RATE(packets_lost);
	/* A loss is seen later than the packet was sent. */
	s->values[LOSS] = sent > 0 ? fmin(1, (double)lost / (double)sent) : NONE;
	s->values[DROPPED] = RATE(datagrams_dropped);
	s->values[DENIED] = RATE(denied);
	s->values[LIMIT_HITS] = RATE(limit_hits);
	s->values[CPU] = RATE(cpu_ns) / 1e9;
	s->values[MEMORY] = (double)now->memory_bytes;
	take_times(s, now, before);
	for (size_t i = 0; i < MT_HANDSHAKE_FAILURES; i++) {
		s->handshake_failures[i] = RATE(handshake_failures[i]);
	}
	for (size_t i = 0; i < MT_CONNECT_FAILURES; i++) {
		s->connect_failures[i] = RATE(connect_failures[i]);
	}
	for (size_t i = 0; i < now->workers && i < MT_HISTORY_WORKERS; i++) {
		/* A clock of processor time may run a little ahead of the other. */
		s->busy[i] = fmin(1, RATE(worker_busy_ns[i]) / 1e9);
		s->connections[i] = (double)now->worker_connections[i];
	}
#undef RATE
}

void mt_history_feed(struct mt_history *h, const struct mt_sums *sums)
{
	bool step;
	struct sample now;
	struct sample *to;

	if (!h->begun) {
		h->begun = true;
		h->last = *sums;
		h->last_step = *sums;
		return;
	}
	if (sums->at_ns <= h->last.at_ns) {
		return;
	}
	take_sample(&now, sums, &h->last);
	step = sums->at_ns - h->last_step.at_ns >= MT_HISTORY_STEP_S * UINT64_C(999000000);
	(void)pthread_mutex_lock(&h->lock); /* a plain mutex that is not held fails never */
	h->now = now;
	h->has_now = true;
	if (step) {
		to = &h->steps[h->next];
		take_sample(to, sums, &h->last_step);
		h->next = (h->next + 1) % MT_HISTORY_STEPS;
		h->count += h->count < MT_HISTORY_STEPS;
	}
	(void)pthread_mutex_unlock(&h->lock); /* as above */
	h->last = *sums;
	if (step) {
		h->last_step = *sums;
	}
}

/* ---- JSON ---- */

static json_t *number(double value, bool whole)
{
	if (value < 0) {
		return json_null();
	}
	return whole ? json_integer((json_int_t)value) : json_real(value);
}

static int set_reasons(json_t *o, const char *name, const double *values, size_t count,
	const char *(*text)(size_t i))
{
	json_t *reasons = json_object();
	int bad = 0;

	for (size_t i = 0; i < count; i++) {
		bad |= json_object_set_new(reasons, text(i), json_real(values[i]));
	}
	return bad | json_object_set_new(o, name, reasons);
}

static json_t *sample_json(const struct sample *s)
{
	json_t *o = json_object();
	json_t *busy = json_array();
	json_t *connections = json_array();
	int bad = json_object_set_new(o, "time_ms", json_integer((json_int_t)s->at_ms));

	for (size_t i = 0; i < FIELDS; i++) {
		bad |= json_object_set_new(
			o, fields[i].name, number(s->values[i], fields[i].whole));
	}
	bad |= set_reasons(o, "handshake_failures_per_second", s->handshake_failures,
		MT_HANDSHAKE_FAILURES, mt_handshake_failure_text);
	bad |= set_reasons(o, "connect_failures_per_second", s->connect_failures,
		MT_CONNECT_FAILURES, mt_connect_failure_text);
	for (size_t i = 0; i < s->workers && i < MT_HISTORY_WORKERS; i++) {
		bad |= json_array_append_new(busy, json_real(s->busy[i]));
		bad |= json_array_append_new(
			connections, json_integer((json_int_t)s->connections[i]));
	}
	bad |= json_object_set_new(o, "worker_busy", busy);
	bad |= json_object_set_new(o, "worker_connections", connections);
	if (bad != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *mt_history_now_json(struct mt_history *h)
{
	struct sample now;
	bool has;

	(void)pthread_mutex_lock(&h->lock); /* as above */
	now = h->now;
	has = h->has_now;
	(void)pthread_mutex_unlock(&h->lock); /* as above */
	return has ? sample_json(&now) : json_null();
}

/* A list over the steps of the double that stands `at` bytes into each. */
static json_t *column(const struct sample *steps, size_t count, size_t at, bool whole)
{
	json_t *list = json_array();
	double value;

	for (size_t i = 0; i < count; i++) {
		memcpy(&value, (const char *)&steps[i] + at, sizeof(value));
		if (json_array_append_new(list, number(value, whole)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *reason_columns(const struct sample *steps, size_t count, size_t at, size_t reasons,
	const char *(*text)(size_t i))
{
	json_t *o = json_object();
	int bad = 0;

	for (size_t i = 0; i < reasons; i++) {
		bad |= json_object_set_new(
			o, text(i), column(steps, count, at + i * sizeof(double), false));
	}
	if (bad != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *worker_columns(
	const struct sample *steps, size_t count, size_t at, unsigned workers, bool whole)
{
	json_t *list = json_array();
	int bad = 0;

	for (size_t i = 0; i < workers && i < MT_HISTORY_WORKERS; i++) {
		bad |= json_array_append_new(
			list, column(steps, count, at + i * sizeof(double), whole));
	}
	if (bad != 0) {
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *columns_json(const struct sample *steps, size_t count)
{
	json_t *o = json_object();
	json_t *times = json_array();
	unsigned workers = count > 0 ? steps[count - 1].workers : 0;
	int bad = json_object_set_new(o, "step_seconds", json_integer(MT_HISTORY_STEP_S));

	for (size_t i = 0; i < count; i++) {
		bad |= json_array_append_new(
			times, json_integer((json_int_t)(steps[i].at_ms / 1000)));
	}
	bad |= json_object_set_new(o, "time", times);
	for (size_t i = 0; i < FIELDS; i++) {
		bad |= json_object_set_new(o, fields[i].name,
			column(steps, count, offsetof(struct sample, values) + i * sizeof(double),
				fields[i].whole));
	}
	bad |= json_object_set_new(o, "handshake_failures_per_second",
		reason_columns(steps, count, offsetof(struct sample, handshake_failures),
			MT_HANDSHAKE_FAILURES, mt_handshake_failure_text));
	bad |= json_object_set_new(o, "connect_failures_per_second",
		reason_columns(steps, count, offsetof(struct sample, connect_failures),
			MT_CONNECT_FAILURES, mt_connect_failure_text));
	bad |= json_object_set_new(o, "worker_busy",
		worker_columns(steps, count, offsetof(struct sample, busy), workers, false));
	bad |= json_object_set_new(o, "worker_connections",
		worker_columns(steps, count, offsetof(struct sample, connections), workers, true));
	if (bad != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *mt_history_json(struct mt_history *h)
{
	struct sample *steps = calloc(MT_HISTORY_STEPS, sizeof(*steps));
	json_t *o = NULL;
	size_t count;

	if (steps == NULL) {
		return NULL;
	}
	(void)pthread_mutex_lock(&h->lock); /* as above */
	count = h->count;
	for (size_t i = 0; i < count; i++) {
		steps[i] = h->steps[(h->next + MT_HISTORY_STEPS - count + i) % MT_HISTORY_STEPS];
	}
	(void)pthread_mutex_unlock(&h->lock); /* as above */
	o = columns_json(steps, count);
	free(steps);
	return o;
}
