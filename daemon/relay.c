#include "daemon/relay.h"

#include "daemon/access.h"
#include "daemon/drop.h"
#include "daemon/relay_impl.h"
#include "daemon/relay_stream.h"

#include <errno.h>

/* ---- sessions ---- */

static struct mt_relay_session_list *bucket_of(struct mt_relay *r, bool extended, uint32_t id)
{
	uint32_t hash = (id + (extended ? 1 : 0)) * 0x9e3779b1u;

	return &r->buckets[hash >> 28];
}

_Static_assert(MT_RELAY_BUCKETS == 16, "four bits of the hash");

static struct mt_relay_session *find_session(struct mt_relay *r, bool extended, uint32_t id)
{
	struct mt_relay_session *s = TAILQ_FIRST(&r->sessions);

	if (s != NULL && s->id == id && s->extended == extended) {
		return s; /* the same one as before, mostly */
	}
	LIST_FOREACH(s, bucket_of(r, extended, id), of_bucket)
	{
		if (s->id == id && s->extended == extended) {
			return s;
		}
	}
	return NULL;
}

void mt_relay_session_free(struct mt_relay_session *s)
{
	struct mt_relay *r = s->relay;

	mt_relay_session_clear(s);
	if (s->extended) {
		mt_reassembly_forget(&r->reassembly, s->id);
	}
	LIST_REMOVE(s, of_bucket);
	TAILQ_REMOVE(&r->sessions, s, by_use);
	r->session_count--;
	mt_count(&r->env->counters->udp_sessions_active, UINT64_MAX); /* one less */
	mt_mem_release(r->env->mem, s);
}

static void evict(struct mt_relay_session *s)
{
	mt_count(&s->relay->env->counters->udp_sessions_evicted, 1);
	mt_relay_session_free(s);
}

bool mt_relay_evict(struct mt_relay *r, const struct mt_relay_session *keep)
{
	struct mt_relay_session *s;

	TAILQ_FOREACH_REVERSE(s, &r->sessions, mt_relay_session_queue, by_use)
	{
		if (s != keep && (s->v4.open || s->v6.open)) {
			evict(s);
			return true;
		}
	}
	return false;
}

/* The session, as the one that was used last; NULL without memory. */
static struct mt_relay_session *use_session(struct mt_relay *r, bool extended, uint32_t id)
{
	struct mt_relay_session *s = find_session(r, extended, id);

	if (s != NULL) {
		if (s != TAILQ_FIRST(&r->sessions)) {
			TAILQ_REMOVE(&r->sessions, s, by_use);
			TAILQ_INSERT_HEAD(&r->sessions, s, by_use);
		}
		return s;
	}
	if (r->session_count >= MT_RELAY_SESSIONS_MAX) {
		evict(TAILQ_LAST(&r->sessions, mt_relay_session_queue));
	}
	s = mt_mem_calloc(r->env->mem, sizeof(*s));
	if (s == NULL) {
		return NULL;
	}
	mt_relay_session_init(s, r);
	s->extended = extended;
	s->id = id;
	LIST_INSERT_HEAD(bucket_of(r, extended, id), s, of_bucket);
	TAILQ_INSERT_HEAD(&r->sessions, s, by_use);
	r->session_count++;
	mt_count(&r->env->counters->udp_sessions_active, 1);
	return s;
}

/* ---- datagrams ---- */

/* Hands what reassembly has dropped since the last time to the worker's counters. */
static void count_reassembly(struct mt_env *env)
{
	mt_counter *const counters[MT_REASSEMBLY_DROPS] = {
		[MT_REASSEMBLY_LATE] = &env->counters->udp_reassembly_late,
		[MT_REASSEMBLY_MISMATCH] = &env->counters->udp_reassembly_mismatch,
		[MT_REASSEMBLY_TOO_LONG] = &env->counters->udp_reassembly_too_long,
		[MT_REASSEMBLY_FULL] = &env->counters->udp_reassembly_full,
		[MT_REASSEMBLY_MEMORY] = &env->counters->udp_reassembly_memory,
	};

	mt_counter *held;

	for (unsigned i = 0; i < MT_REASSEMBLY_DROPS; i++) {
		if (env->reassembly.dropped[i] > 0) {
			mt_count(counters[i], env->reassembly.dropped[i]);
			env->reassembly.dropped[i] = 0;
		}
	}
	held = &env->counters->udp_reassembly_bytes;
	mt_count(held, env->reassembly.bytes - mt_counter_get(held)); /* wraps: may be less */
}

static void on_reassembly_due(struct mt_deadline *deadline)
{
	struct mt_relay *r =
		(struct mt_relay *)((char *)deadline - offsetof(struct mt_relay, reassembly_due));
	uint64_t now_ms = mt_deadlines_now_ms(&r->env->deadlines);
	uint64_t due_ms;

	mt_reassembly_expire(&r->reassembly, now_ms);
	count_reassembly(r->env);
	due_ms = mt_reassembly_due_ms(&r->reassembly);
	if (due_ms != UINT64_MAX) {
		mt_deadline_set(&r->env->deadlines, &r->reassembly_due, due_ms - now_ms);
	}
}

/* Whether the fragment completes its packet, whose payload takes the fragment's place then. */
static bool reassemble(struct mt_relay *r, struct mt_extended *h)
{
	struct mt_env *env = r->env;
	uint64_t now_ms = mt_deadlines_now_ms(&env->deadlines);
	int rv;

	mt_count(&env->counters->udp_fragments, 1);
	rv = mt_reassembly_add(
		&r->reassembly, h, now_ms, env->reassembled, &h->datagram.payload_len);
	count_reassembly(env);
	if (r->reassembly_due.in == NULL && mt_reassembly_due_ms(&r->reassembly) != UINT64_MAX) {
		mt_deadline_set(&env->deadlines, &r->reassembly_due, MT_REASSEMBLY_MS);
	}
	h->datagram.payload = env->reassembled;
	return rv == 0;
}

void mt_relay_take(
	struct mt_relay *r, struct mt_relay_stream *stream, const uint8_t *data, size_t len)
{
	struct mt_extended h = {.count = 1};
	struct mt_relay_session *s;
	bool extended = mt_extended_is(data, len);
	int rv = extended ? mt_extended_decode(&h, data, len)
			  : mt_datagram_decode(&h.datagram, data, len);

	if (rv < 0) {
		MT_COUNT_DROP(r->env->counters, udp_dropped_malformed, 1);
		return;
	}
	if (h.count > 1 && !reassemble(r, &h)) {
		return;
	}
	/* Over TLS the plain form has no other mark of whose it is: programs of one identity behind
	 * one address share the relay. */
	if (!extended && r->conn == NULL && stream != NULL) {
		h.session = mt_relay_stream_number(stream);
	}
	s = use_session(r, extended, h.session);
	if (s == NULL) {
		mt_count(&r->env->counters->errors, 1);
		return;
	}
	s->via = stream != NULL ? MT_RELAY_STREAM : MT_RELAY_DATAGRAM;
	s->stream = stream;
	mt_relay_session_send(s, &h.datagram);
}

void mt_relay_receive(struct mt_relay *relay, const uint8_t *data, size_t len)
{
	mt_relay_take(relay, NULL, data, len);
}

void mt_relay_end_session(struct mt_relay *relay, uint32_t session)
{
	struct mt_relay_session *s = find_session(relay, true, session);

	if (s != NULL) {
		mt_relay_session_free(s);
	}
}

/* ---- life ---- */

static void on_turn(struct mt_pacer_item *item)
{
	mt_relay_resume((struct mt_relay *)((char *)item - offsetof(struct mt_relay, paced)));
}

int mt_relay_new(
	struct mt_relay **out, struct mt_env *env, struct mt_conn *conn, const char *client)
{
	struct mt_relay *r = mt_mem_calloc(env->mem, sizeof(*r));

	if (r == NULL) {
		return -ENOMEM;
	}
	r->env = env;
	r->conn = conn;
	r->client = client;
	r->paced.on_turn = on_turn;
	r->reassembly_due.on_due = on_reassembly_due;
	TAILQ_INIT(&r->sessions);
	TAILQ_INIT(&r->waiting);
	TAILQ_INIT(&r->pending);
	LIST_INIT(&r->streams);
	for (unsigned i = 0; i < MT_RELAY_BUCKETS; i++) {
		LIST_INIT(&r->buckets[i]);
	}
	mt_reassembly_init(&r->reassembly, &env->reassembly);
	*out = r;
	return 0;
}

struct mt_relay_meter *mt_relay_meter(struct mt_relay *relay)
{
	return &relay->meter;
}

void mt_relay_free(struct mt_relay *relay)
{
	struct mt_env *env;

	if (relay == NULL) {
		return;
	}
	env = relay->env;
	while (!TAILQ_EMPTY(&relay->sessions)) {
		mt_relay_session_free(TAILQ_FIRST(&relay->sessions));
	}
	while (!LIST_EMPTY(&relay->streams)) {
		mt_relay_stream_close(LIST_FIRST(&relay->streams));
	}
	mt_reassembly_clear(&relay->reassembly);
	count_reassembly(env);
	mt_deadline_cancel(&relay->reassembly_due);
	mt_pacer_cancel(&relay->paced);
	mt_mem_release(env->mem, relay);
}

/* Whether a target must be forgotten. */
static bool recheck(struct mt_relay *r, struct mt_relay_target *target, enum mt_recheck how)
{
	const struct mt_access_request request = mt_relay_request(r, target);

	if (target->addr.len == 0) {
		return false; /* judged when its name has an address */
	}
	if (mt_access_check_target(r->env->snapshot, &request, &target->addr) == 0) {
		target->kept = false;
		return false;
	}
	target->kept = how == MT_RECHECK_KEEP || (how == MT_RECHECK_OTHERS && target->kept);
	return !target->kept;
}

unsigned mt_relay_recheck(struct mt_relay *relay, enum mt_recheck how)
{
	unsigned count = 0;
	struct mt_relay_session *s;
	struct mt_relay_target *next;

	TAILQ_FOREACH(s, &relay->sessions, by_use)
	{
		for (struct mt_relay_target *t = TAILQ_FIRST(&s->targets.used); t != NULL;
			t = next) {
			next = TAILQ_NEXT(t, by_use);
			if (recheck(relay, t, how)) {
				mt_relay_drop_target(
					s, t, &relay->env->counters->udp_dropped_denied);
				count++;
			}
		}
	}
	return count;
}

unsigned mt_relay_flows(const struct mt_relay *relay)
{
	return relay->target_count;
}

uint64_t mt_relay_bytes_received(const struct mt_relay *relay)
{
	return relay->meter.bytes_received;
}

uint64_t mt_relay_bytes_sent(const struct mt_relay *relay)
{
	return relay->meter.bytes_sent;
}
