/* A storm of handshakes must not hold up those who are in: packets of handshakes wait in queues,
 * and are looked at a few at a time, as mt_endpoint_run_deferred is called. Handshakes that have
 * begun go first, so that what has been spent on them is not lost; then clients that have shown
 * where they are; then strangers.
 */
#include "proto/quic/impl.h"

#include <string.h>

/* So many packets of handshakes that have begun before one of the others, which must not starve. */
#define BEGUN_IN_A_ROW 8u
/* Handshakes under way with which others need not wait, and how many there may be with clients that
 * do not answer: as many as end by MT_HANDSHAKE_TIMEOUT_NS. */
#define HALF_OPEN_EASY        256u
#define BEGIN_ALL_THE_SAME_NS (MT_HANDSHAKE_TIMEOUT_NS / MT_HALF_OPEN_MAX)
/* Clients that wait for longer are told so: they would give up before they were in. */
#define WAIT_NS 3000000000ull
/* Not to look at a handshake for this long at most, whatever the last one took. */
#define REST_MAX_NS 2000000ull
/* Packets of established connections so recently: there is somebody to make way for. */
#define BUSY_NS 10000000ull

static const struct {
	size_t count;
	size_t bytes;
} caps[MT_DEFERRED_CLASSES] = {
	[MT_DEFERRED_BEGUN] = {4096, 2u << 20},
	[MT_DEFERRED_PROVEN] = {MT_DEFERRED_PROVEN_MAX, 2u << 20},
	[MT_DEFERRED_STRANGERS] = {1024, 2u << 20},
};

void mt_endpoint_init_deferred(struct mt_endpoint *ep)
{
	for (size_t i = 0; i < MT_DEFERRED_CLASSES; i++) {
		TAILQ_INIT(&ep->deferred[i].list);
	}
}

size_t mt_endpoint_waiting(const struct mt_endpoint *ep)
{
	return ep->deferred[MT_DEFERRED_PROVEN].count + ep->deferred[MT_DEFERRED_STRANGERS].count;
}

bool mt_endpoint_defer(struct mt_endpoint *ep, enum mt_deferred_class class,
	const struct mt_path *path, const ngtcp2_cid *dcid, unsigned ecn, const uint8_t *data,
	size_t len)
{
	struct mt_deferred_queue *q = &ep->deferred[class];
	struct mt_deferred *d = NULL;

	if (ep->is_handshaking) {
		return false;
	}
	if (q->count < caps[class].count && q->bytes + len <= caps[class].bytes) {
		d = mt_mem_alloc(ep->cfg.mem, sizeof(*d) + len);
	}
	if (d) {
		*d = (struct mt_deferred){.owner = {.kind = MT_OWNER_WAITING},
			.class = class,
			.path = *path,
			.since_ns = ep->now_ns,
			.ecn = ecn,
			.len = len};
		memcpy(d->data, data, len);
		if (dcid && mt_cid_add(ep->cids, &d->owner, dcid->data, dcid->datalen) != 0) {
			mt_mem_release(ep->cfg.mem, d);
			d = NULL;
		}
	}
	if (!d) {
		mt_count(&ep->cfg.counters->handshake_packets_dropped, 1);
		return true;
	}
	TAILQ_INSERT_TAIL(&q->list, d, entry);
	q->count++;
	q->bytes += len;
	return true;
}

void mt_endpoint_defer_more(struct mt_endpoint *ep, struct mt_cid_owner *owner,
	const struct mt_path *path, unsigned ecn, const uint8_t *data, size_t len)
{
	struct mt_deferred *d = (struct mt_deferred *)owner;
	struct mt_deferred_queue *q = &ep->deferred[d->class];
	struct mt_deferred *more = NULL;
	ngtcp2_pkt_hd hd;

	if (d->more || !mt_addr_equal(&d->path.remote, &path->remote) ||
		(d->len == len && memcmp(d->data, data, len) == 0) ||
		ngtcp2_accept(&hd, data, len) != 0) {
		return; /* the ones that wait are as good */
	}
	if (q->bytes + len <= caps[d->class].bytes) {
		more = mt_mem_alloc(ep->cfg.mem, sizeof(*more) + len);
	}
	if (!more) {
		mt_count(&ep->cfg.counters->handshake_packets_dropped, 1);
		return;
	}
	*more = (struct mt_deferred){.path = *path, .ecn = ecn, .len = len};
	memcpy(more->data, data, len);
	d->more = more;
	q->bytes += len;
}

static void take_out(struct mt_endpoint *ep, struct mt_deferred *d)
{
	struct mt_deferred_queue *q = &ep->deferred[d->class];

	TAILQ_REMOVE(&q->list, d, entry);
	q->count--;
	q->bytes -= d->len + (d->more ? d->more->len : 0);
	mt_cid_remove_all(ep->cids, &d->owner);
}

static void release(struct mt_endpoint *ep, struct mt_deferred *d)
{
	mt_mem_release(ep->cfg.mem, d->more);
	mt_mem_release(ep->cfg.mem, d);
}

/* Whether the first packet has made a connection, whose ids are those of the packets after it. */
static bool has_conn(const struct mt_endpoint *ep, const struct mt_deferred *d)
{
	const struct mt_cid_owner *owner = NULL;
	ngtcp2_version_cid vc;

	if (ngtcp2_pkt_decode_version_cid(&vc, d->data, d->len, MT_CID_LEN) == 0) {
		owner = mt_cid_find(ep->cids, vc.dcid, vc.dcidlen);
	}
	return owner && owner->kind == MT_OWNER_CONN;
}

static void receive(struct mt_endpoint *ep, const struct mt_deferred *d)
{
	ep->is_handshaking = true;
	mt_endpoint_receive_one(ep, &d->path, d->ecn, d->data, d->len);
	if (d->more && has_conn(ep, d->more)) {
		mt_endpoint_receive_one(
			ep, &d->more->path, d->more->ecn, d->more->data, d->more->len);
	}
	ep->is_handshaking = false;
}

/* With many handshakes under way those who would begin another one wait: clients then answer as
 * fast as they are asked, and none is given up half-way. Some clients never answer: so many a
 * second begin all the same, up to the most that may be under way.
 */
static uint64_t may_begin_ns(const struct mt_endpoint *ep)
{
	if (ep->half_open < HALF_OPEN_EASY) {
		return 0;
	}
	return ep->half_open < MT_HALF_OPEN_MAX ? ep->begun_ns + BEGIN_ALL_THE_SAME_NS : UINT64_MAX;
}

static struct mt_deferred *first_of(const struct mt_endpoint *ep, enum mt_deferred_class class)
{
	return TAILQ_FIRST(&ep->deferred[class].list);
}

static bool is_late(const struct mt_endpoint *ep, const struct mt_deferred *d)
{
	return ep->now_ns - d->since_ns >= WAIT_NS;
}

static struct mt_deferred *next_to_serve(struct mt_endpoint *ep)
{
	struct mt_deferred *begun = first_of(ep, MT_DEFERRED_BEGUN);
	struct mt_deferred *proven = first_of(ep, MT_DEFERRED_PROVEN);
	struct mt_deferred *stranger = first_of(ep, MT_DEFERRED_STRANGERS);
	struct mt_deferred *other;

	if (proven && may_begin_ns(ep) > ep->now_ns && !is_late(ep, proven)) {
		proven = NULL;
	}
	/* By turns: a stranger costs less than any other, and is told soon where it stands. */
	other = stranger && (!proven || ep->strangers_turn) ? stranger : proven;
	if (begun && (!other || ep->begun_in_a_row < BEGUN_IN_A_ROW)) {
		ep->begun_in_a_row++;
		return begun;
	}
	ep->begun_in_a_row = 0;
	ep->strangers_turn = other == proven;
	return other;
}

bool mt_endpoint_run_deferred(struct mt_endpoint *ep)
{
	struct mt_deferred *d = ep->now_ns < ep->rest_until_ns ? NULL : next_to_serve(ep);
	size_t half_open = ep->half_open;

	if (!d) {
		return false;
	}
	ep->has_handshaken = true;
	take_out(ep, d);
	if (d->class != MT_DEFERRED_BEGUN && is_late(ep, d)) {
		mt_endpoint_refuse_waiting(ep, &d->path, d->data, d->len);
	} else {
		receive(ep, d);
		/* Anybody can send tokens: those that are none take nobody's turn. */
		if (d->class == MT_DEFERRED_PROVEN && ep->half_open > half_open) {
			ep->begun_ns = ep->now_ns;
		}
	}
	release(ep, d);
	return true;
}

void mt_endpoint_rest(struct mt_endpoint *ep, uint64_t spent_ns, uint64_t now_ns)
{
	uint64_t rest_ns = spent_ns * MT_HANDSHAKES_REST;

	/* A turn in which they rested changes nothing about how long they do. */
	if (ep->has_handshaken && ep->busy_ns != 0 && now_ns - ep->busy_ns < BUSY_NS) {
		ep->rest_until_ns = now_ns + (rest_ns < REST_MAX_NS ? rest_ns : REST_MAX_NS);
	}
	ep->has_handshaken = false;
}

void mt_endpoint_note_traffic(struct mt_endpoint *ep)
{
	ep->busy_ns = ep->now_ns;
}

void mt_endpoint_drop_deferred(struct mt_endpoint *ep)
{
	struct mt_deferred *d;

	for (size_t i = 0; i < MT_DEFERRED_CLASSES; i++) {
		while ((d = TAILQ_FIRST(&ep->deferred[i].list))) {
			take_out(ep, d);
			release(ep, d);
		}
	}
}

uint64_t mt_endpoint_deferred_expiry(const struct mt_endpoint *ep)
{
	const struct mt_deferred *proven = first_of(ep, MT_DEFERRED_PROVEN);
	uint64_t at_ns = UINT64_MAX;

	if (first_of(ep, MT_DEFERRED_BEGUN) || first_of(ep, MT_DEFERRED_STRANGERS)) {
		at_ns = 0;
	} else if (proven) {
		at_ns = may_begin_ns(ep);
		at_ns = at_ns < proven->since_ns + WAIT_NS ? at_ns : proven->since_ns + WAIT_NS;
	}
	return at_ns > ep->rest_until_ns ? at_ns : ep->rest_until_ns;
}

bool mt_endpoint_is_deferring(const struct mt_endpoint *ep)
{
	for (size_t i = 0; i < MT_DEFERRED_CLASSES; i++) {
		if (!TAILQ_EMPTY(&ep->deferred[i].list)) {
			return true;
		}
	}
	return false;
}
