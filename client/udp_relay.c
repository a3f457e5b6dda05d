#include "client/udp_relay.h"

#include "client/say.h"
#include "client/udp_flows.h"
#include "client/udp_stream.h"
#include "proto/quic/endpoint.h"
#include "proto/wire/channel.h"
#include "proto/wire/extended.h"
#include "proto/wire/frame.h"
#include "proto/wire/reassembly.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS  256
#define ROOM_LOW 64 /* datagrams: the fragments of a large payload, and half of the queue */
#define POLL_MS  5  /* looking for the server's Hello while something is held */

struct held {
	TAILQ_ENTRY(held) link;
	struct mt_udp_session *session;
	size_t len;
	uint16_t port;
	uint8_t host_len;
	char host[MT_HOST_MAX];
	uint8_t payload[];
};

TAILQ_HEAD(held_list, held);
LIST_HEAD(ticker_list, mt_udp_ticker);
TAILQ_HEAD(reader_list, mt_udp_reader);
LIST_HEAD(session_bucket, mt_udp_session);
TAILQ_HEAD(session_list, mt_udp_session);

struct mt_udp_relay {
	uv_loop_t *loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	struct mt_udp_stream *stream;
	uint64_t stream_dropped;    /* that `stats` knows of */
	struct mt_udp_flows *flows; /* of the plain form */
	struct session_bucket buckets[BUCKETS];
	struct session_list sessions; /* the last used one first */
	size_t session_count;
	struct ticker_list tickers;
	struct reader_list waiting; /* for room */
	bool was_waiting;           /* at the last tick, and nobody has been resumed since */
	bool stuck;                 /* nobody waits for room any more, until there is some */
	uint32_t last_id;
	struct held_list held; /* the oldest first */
	size_t held_count;
	size_t held_bytes;
	uv_timer_t look; /* runs while something is held */
	struct mt_reassembly_pool pool;
	struct mt_reassembly reassembly;
	struct mt_udp_relay_stats stats;
	bool said_too_long;
	bool said_crowded;
	uint8_t buffer[MT_UDP_READ_BYTES];
	uint8_t whole[MT_UDP_PAYLOAD_MAX];
};

/* ---- sessions ---- */

int mt_udp_session_open(struct mt_udp_session *s, struct mt_udp_relay *relay)
{
	if (relay->session_count >= MT_UDP_SESSIONS_MAX) {
		return MT_E_LIMIT;
	}
	s->relay = relay;
	s->id = ++relay->last_id;
	s->next_packet = 0;
	s->used = false;
	LIST_INSERT_HEAD(&relay->buckets[s->id % BUCKETS], s, of_bucket);
	TAILQ_INSERT_HEAD(&relay->sessions, s, by_use);
	relay->session_count++;
	return 0;
}

static struct held *take_held(struct mt_udp_relay *relay, struct held *h)
{
	TAILQ_REMOVE(&relay->held, h, link);
	relay->held_count--;
	relay->held_bytes -= h->len;
	return h;
}

void mt_udp_session_close(struct mt_udp_session *s)
{
	struct mt_udp_relay *relay = s->relay;
	struct held *next;

	for (struct held *h = TAILQ_FIRST(&relay->held); h != NULL; h = next) {
		next = TAILQ_NEXT(h, link);
		if (h->session == s) {
			mt_mem_release(relay->mem, take_held(relay, h));
		}
	}
	if (s->used) {
		mt_uplink_end_session(relay->uplink, s->id);
	}
	mt_reassembly_forget(&relay->reassembly, s->id);
	mt_udp_flows_forget(relay->flows, s);
	LIST_REMOVE(s, of_bucket);
	TAILQ_REMOVE(&relay->sessions, s, by_use);
	relay->session_count--;
}

static struct mt_udp_session *find_session(struct mt_udp_relay *relay, uint32_t id)
{
	struct mt_udp_session *s;

	LIST_FOREACH(s, &relay->buckets[id % BUCKETS], of_bucket)
	{
		if (s->id == id) {
			return s;
		}
	}
	return NULL;
}

/* ---- to the server ---- */

static void say_too_long(struct mt_udp_relay *relay, size_t len)
{
	relay->stats.dropped_too_long++;
	if (!relay->said_too_long) {
		relay->said_too_long = true;
		mt_say("a UDP payload of %zu bytes is more than this server takes: such payloads "
		       "are "
		       "dropped",
			len);
	}
}

static void count(struct mt_udp_relay *relay, int err, size_t len)
{
	switch (err) {
	case 0: relay->stats.sent++; break;
	case MT_E_TOO_LONG: say_too_long(relay, len); break;
	case MT_E_AGAIN:
	case MT_E_LIMIT: relay->stats.dropped_queue++; break;
	case MT_E_MALFORMED: relay->stats.dropped_malformed++; break;
	default: relay->stats.dropped_offline++; break;
	}
}

/* By datagrams, or by the stream: in as many pieces of at most `max` bytes as it takes, or not at
 * all.
 */
static int send_extended(struct mt_udp_session *s, const struct mt_datagram *d, size_t max,
	size_t room, bool by_stream)
{
	struct mt_udp_relay *relay = s->relay;
	struct mt_extended h = {.session = s->id, .count = 1, .datagram = *d};
	uint8_t head[MT_EXTENDED_HEADER_MAX];
	struct mt_cut cut;
	int err = 0;

	if (!mt_cut_plan(&cut, d->payload_len, max, MT_EXTENDED_PREFIX + 3u + d->host_len) ||
		(!by_stream && cut.count > MT_DATAGRAMS_OUT_MAX)) {
		return MT_E_TOO_LONG;
	}
	/* A small one may push out an old one, the pieces of a large one would push out each other.
	 */
	if (cut.count > 1 && cut.count > room) {
		return MT_E_AGAIN;
	}
	h.count = cut.count;
	h.packet = cut.count > 1 ? s->next_packet++ : 0;
	s->used = true;
	for (unsigned i = 0; i < cut.count && err == 0; i++) {
		size_t from = i * cut.piece;
		size_t len = d->payload_len - from < cut.piece ? d->payload_len - from : cut.piece;
		size_t head_len;

		h.fragment = (uint8_t)i;
		head_len = mt_extended_header_encode(head, sizeof(head), &h);
		if (head_len == 0) {
			return MT_E_MALFORMED;
		}
		err = by_stream ? mt_udp_stream_send(
					  relay->stream, head, head_len, d->payload + from, len)
				: mt_uplink_send_datagram(
					  relay->uplink, head, head_len, d->payload + from, len);
	}
	return err;
}

static int send_plain(
	struct mt_udp_session *s, const struct mt_datagram *d, const struct mt_uplink_udp *udp)
{
	struct mt_udp_relay *relay = s->relay;
	uint8_t head[MT_DATAGRAM_HEADER_MAX];
	size_t head_len =
		mt_datagram_header_encode(head, sizeof(head), d->port, d->host, d->host_len);
	int err;

	if (head_len == 0) {
		return MT_E_MALFORMED;
	}
	err = mt_udp_flows_touch(
		relay->flows, d->host, d->host_len, d->port, s, mt_udp_relay_now_ms(relay));
	if (err < 0) {
		return err;
	}
	if (head_len + d->payload_len > udp->datagram_max &&
		(udp->capabilities & MT_CAP_UDP_STREAM)) {
		return mt_udp_stream_send(
			relay->stream, head, head_len, d->payload, d->payload_len);
	}
	return mt_uplink_send_datagram(relay->uplink, head, head_len, d->payload, d->payload_len);
}

static int send_by(
	struct mt_udp_session *s, const struct mt_datagram *d, const struct mt_uplink_udp *udp)
{
	if ((udp->capabilities & MT_CAP_EXTENDED_UDP) == 0) {
		return send_plain(s, d, udp);
	}
	if (udp->datagram_max > 0) {
		return send_extended(s, d, udp->datagram_max, udp->datagram_room, false);
	}
	if (udp->capabilities & MT_CAP_UDP_STREAM) {
		return send_extended(s, d, MT_FRAME_MAX, MT_FRAGMENTS_MAX, true);
	}
	return MT_E_TOO_LONG;
}

static void hold(struct mt_udp_session *s, const struct mt_datagram *d);

static void say_crowded(struct mt_udp_relay *relay, const struct mt_uplink_udp *udp)
{
	if (!relay->said_crowded && udp->max_sessions > 0 &&
		relay->session_count > udp->max_sessions) {
		relay->said_crowded = true;
		mt_say("warning: more UDP sessions are open than the %u that the server keeps: "
		       "those "
		       "used least lose their ports",
			udp->max_sessions);
	}
}

static void send_or_hold(struct mt_udp_session *s, const struct mt_datagram *d)
{
	struct mt_udp_relay *relay = s->relay;
	struct mt_uplink_udp udp;
	int err = mt_uplink_get_udp(relay->uplink, &udp);

	if (err == 0 && !udp.settled) {
		hold(s, d);
		return;
	}
	if (err == 0) {
		say_crowded(relay, &udp);
		err = send_by(s, d, &udp);
	}
	count(relay, err, d->payload_len);
}

void mt_udp_session_send(struct mt_udp_session *s, const char *host, size_t host_len, uint16_t port,
	const uint8_t *payload, size_t len)
{
	struct mt_udp_relay *relay = s->relay;
	const struct mt_datagram d = {
		.port = port,
		.host = host,
		.host_len = (uint8_t)host_len,
		.payload = payload,
		.payload_len = len,
	};

	if (port == 0 || host_len == 0 || host_len > MT_HOST_MAX) {
		relay->stats.dropped_malformed++;
		return;
	}
	if (s != TAILQ_FIRST(&relay->sessions)) {
		TAILQ_REMOVE(&relay->sessions, s, by_use);
		TAILQ_INSERT_HEAD(&relay->sessions, s, by_use);
	}
	send_or_hold(s, &d);
}

/* ---- what waits for the server's Hello ---- */

static void on_look(uv_timer_t *timer)
{
	struct mt_udp_relay *relay = timer->data;
	struct mt_uplink_udp udp;
	size_t left = relay->held_count;

	if (left > 0 && mt_uplink_get_udp(relay->uplink, &udp) == 0 && !udp.settled) {
		return;
	}
	while (left-- > 0) {
		struct held *h = take_held(relay, TAILQ_FIRST(&relay->held));
		const struct mt_datagram d = {
			.port = h->port,
			.host = h->host,
			.host_len = h->host_len,
			.payload = h->payload,
			.payload_len = h->len,
		};

		send_or_hold(h->session, &d);
		mt_mem_release(relay->mem, h);
	}
	if (relay->held_count == 0) {
		(void)uv_timer_stop(timer); /* never fails */
	}
}

static void hold(struct mt_udp_session *s, const struct mt_datagram *d)
{
	struct mt_udp_relay *relay = s->relay;
	struct held *h = mt_mem_alloc(relay->mem, sizeof(*h) + d->payload_len);

	if (h == NULL) {
		relay->stats.dropped_queue++;
		return;
	}
	h->session = s;
	h->len = d->payload_len;
	h->port = d->port;
	h->host_len = d->host_len;
	memcpy(h->host, d->host, d->host_len);
	if (h->len > 0) {
		memcpy(h->payload, d->payload, h->len);
	}
	while (relay->held_count >= MT_UDP_HELD_MAX ||
		(relay->held_count > 0 && relay->held_bytes + h->len > MT_UDP_HELD_BYTES)) {
		relay->stats.dropped_queue++;
		mt_mem_release(relay->mem, take_held(relay, TAILQ_FIRST(&relay->held)));
	}
	TAILQ_INSERT_TAIL(&relay->held, h, link);
	relay->held_bytes += h->len;
	if (relay->held_count++ == 0) {
		/* A callback is given: this cannot fail. */
		(void)uv_timer_start(&relay->look, on_look, POLL_MS, POLL_MS);
	}
}

/* ---- from the server ---- */

static void deliver_plain(struct mt_udp_relay *relay, const struct mt_datagram *d)
{
	struct mt_udp_session *s = mt_udp_flows_find(relay->flows, d->host, d->host_len, d->port);

	/* The server's side of the mapping is a full cone: what nobody asked for goes to the
	 * application that was active last.
	 */
	if (s == NULL) {
		s = TAILQ_FIRST(&relay->sessions);
	}
	if (s == NULL) {
		relay->stats.dropped_unknown++;
	} else {
		s->on_answer(s, d);
	}
}

static void deliver_extended(struct mt_udp_relay *relay, const uint8_t *data, size_t len)
{
	struct mt_udp_session *s;
	struct mt_extended h;

	if (mt_extended_decode(&h, data, len) < 0) {
		relay->stats.dropped_unknown++;
		return;
	}
	s = find_session(relay, h.session);
	if (s == NULL) {
		relay->stats.dropped_unknown++; /* closed meanwhile */
		return;
	}
	if (h.count > 1) {
		if (mt_reassembly_add(&relay->reassembly, &h, mt_udp_relay_now_ms(relay),
			    relay->whole, &h.datagram.payload_len) < 0) {
			return;
		}
		h.datagram.payload = relay->whole;
	}
	s->on_answer(s, &h.datagram);
}

void mt_udp_relay_deliver(struct mt_udp_relay *relay, const uint8_t *data, size_t len)
{
	struct mt_datagram d;

	if (mt_extended_is(data, len)) {
		deliver_extended(relay, data, len);
	} else if (mt_datagram_decode(&d, data, len) == 0) {
		deliver_plain(relay, &d);
	} else {
		relay->stats.dropped_unknown++;
	}
}

static void on_stream_datagram(void *user, const uint8_t *data, size_t len)
{
	mt_udp_relay_deliver(user, data, len);
}

/* ---- life ---- */

struct mt_udp_relay *mt_udp_relay_new(
	uv_loop_t *loop, struct mt_mem *mem, struct mt_poller *poller, struct mt_uplink *uplink)
{
	struct mt_udp_relay *relay = calloc(1, sizeof(*relay));
	struct mt_udp_stream_config stream = {
		.loop = loop,
		.mem = mem,
		.uplink = uplink,
		.on_datagram = on_stream_datagram,
		.user = relay,
	};
	struct mt_allocator allocator = mt_mem_allocator(mem);

	if (relay == NULL) {
		return NULL;
	}
	relay->loop = loop;
	relay->mem = mem;
	relay->poller = poller;
	relay->uplink = uplink;
	TAILQ_INIT(&relay->sessions);
	TAILQ_INIT(&relay->held);
	LIST_INIT(&relay->tickers);
	TAILQ_INIT(&relay->waiting);
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_INIT(&relay->buckets[i]);
	}
	mt_reassembly_pool_init(&relay->pool, &allocator);
	mt_reassembly_init(&relay->reassembly, &relay->pool);
	relay->flows = mt_udp_flows_new();
	relay->stream = mt_udp_stream_new(&stream);
	if (relay->flows == NULL || relay->stream == NULL) {
		mt_udp_flows_free(relay->flows);
		mt_udp_stream_free(relay->stream);
		free(relay);
		return NULL;
	}
	/* Programs of one identity behind the same address share a space of numbers over TLS. If
	 * this fails they start at 1.
	 */
	if (getrandom(&relay->last_id, sizeof(relay->last_id), GRND_NONBLOCK) < 0) {
		relay->last_id = 0;
	}
	(void)uv_timer_init(loop, &relay->look); /* never fails */
	relay->look.data = relay;
	return relay;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void mt_udp_relay_free(struct mt_udp_relay *relay)
{
	if (relay == NULL) {
		return;
	}
	mt_udp_stream_free(relay->stream);
	mt_reassembly_clear(&relay->reassembly);
	mt_udp_flows_free(relay->flows);
	uv_close((uv_handle_t *)&relay->look, on_closed);
}

_Static_assert(ROOM_LOW <= MT_DATAGRAMS_OUT_MAX / 2, "so much is free when it is told");

bool mt_udp_relay_go_on(struct mt_udp_relay *relay, struct mt_udp_reader *reader)
{
	if (relay->stuck || mt_uplink_datagram_room(relay->uplink) >= ROOM_LOW) {
		return true;
	}
	reader->waiting = true;
	TAILQ_INSERT_TAIL(&relay->waiting, reader, of_relay);
	mt_uplink_want_datagram_room(relay->uplink);
	return false;
}

void mt_udp_relay_forget_reader(struct mt_udp_relay *relay, struct mt_udp_reader *reader)
{
	if (reader->waiting) {
		reader->waiting = false;
		TAILQ_REMOVE(&relay->waiting, reader, of_relay);
	}
}

/* Each may take all the room there is: whoever still waits is before the others then. */
static void let_read(struct mt_udp_relay *relay)
{
	struct mt_udp_reader *last = TAILQ_LAST(&relay->waiting, reader_list);
	struct mt_udp_reader *r;

	while ((r = TAILQ_FIRST(&relay->waiting)) != NULL &&
		(relay->stuck || mt_uplink_datagram_room(relay->uplink) >= ROOM_LOW)) {
		mt_udp_relay_forget_reader(relay, r);
		r->item->on_ready(r->item, MT_POLL_IN);
		if (r == last) {
			break;
		}
	}
	if (!TAILQ_EMPTY(&relay->waiting)) {
		mt_uplink_want_datagram_room(relay->uplink);
	}
}

void mt_udp_relay_resume(struct mt_udp_relay *relay)
{
	relay->stuck = false;
	relay->was_waiting = false;
	let_read(relay);
}

static void end_long_waits(struct mt_udp_relay *relay)
{
	bool waiting = !TAILQ_EMPTY(&relay->waiting);

	relay->stuck = relay->stuck ? mt_uplink_datagram_room(relay->uplink) < ROOM_LOW
				    : waiting && relay->was_waiting;
	relay->was_waiting = waiting;
	let_read(relay);
}

void mt_udp_relay_add_ticker(struct mt_udp_relay *relay, struct mt_udp_ticker *ticker)
{
	LIST_INSERT_HEAD(&relay->tickers, ticker, of_relay);
}

void mt_udp_relay_tick(struct mt_udp_relay *relay)
{
	struct mt_udp_ticker *ticker;
	uint64_t dropped;

	LIST_FOREACH(ticker, &relay->tickers, of_relay)
	{
		ticker->on_tick(ticker);
	}
	mt_udp_flows_expire(relay->flows, uv_now(relay->loop));
	mt_reassembly_expire(&relay->reassembly, uv_now(relay->loop));
	mt_udp_stream_tick(relay->stream);
	end_long_waits(relay);
	dropped = mt_udp_stream_dropped(relay->stream);
	relay->stats.dropped_queue += dropped - relay->stream_dropped;
	relay->stream_dropped = dropped;
}

struct mt_poller *mt_udp_relay_poller(struct mt_udp_relay *relay)
{
	return relay->poller;
}

uint64_t mt_udp_relay_now_ms(const struct mt_udp_relay *relay)
{
	return uv_now(relay->loop);
}

struct mt_udp_relay_stats *mt_udp_relay_stats(struct mt_udp_relay *relay)
{
	return &relay->stats;
}

uint8_t *mt_udp_relay_buffer(struct mt_udp_relay *relay)
{
	return relay->buffer;
}
