/* Connections that lie still: keep-alives come from them, and their acknowledgements go back. A
 * server has tens of thousands of them, and to look at one that nobody has touched for seconds
 * costs more than what is done with it. So their answers are written together, without a timer for
 * each, and while a worker has nothing but them, and many, it lets gather what comes in.
 */
#include "proto/quic/impl.h"

#include <stddef.h>
#include <string.h>

/* An acknowledgement goes when its connection has waited for so long, as the library leaves one
 * that is not due (an eighth of the round trip, RFC 9000, section 13.2), and no later than an
 * endpoint may let its peer wait: 25 ms (max_ack_delay) with what packets waited before. Where it
 * is due soon it goes soon: what it needs is less far then.
 */
#define ACK_DELAY_NS 25000000u
#define SOON_MIN_NS  3000000u
#define SOON_MAX_NS  8000000u
#define LATER_MIN_NS 12000000u
#define LATER_MAX_NS 20000000u
#define PATIENCE_NS  4000000u
/* Nobody is kept waiting who did anything else a short time ago, datagrams among it, or has a
 * stream open; and few packets are no reason to. */
#define STIRRED_NS     1000000000u
#define WINDOW_NS      100000000u
#define WINDOW_PACKETS 100u

#define EXPECT_FROM 1000u /* connections: fewer are at hand */
#define LINE        64u
#define AHEAD                                                                                      \
	2u /* packets: what one of them needs takes about as long to come as two to handle         \
	    */

/* Lines of the library's connection that reading a packet and answering it touch, as seen with
 * ngtcp2 1.11; of other releases some will be others, which costs time and nothing else.
 */
static const struct {
	uint8_t first;
	uint8_t count;
} touched[] = {{1, 1}, {3, 2}, {8, 1}, {10, 1}, {12, 4}, {17, 3}, {26, 1}, {29, 10}, {65, 1},
	{78, 1}, {90, 6}, {102, 1}, {105, 3}, {111, 3}, {115, 1}, {118, 28}};

static void fetch(const void *at, size_t len)
{
	for (size_t off = 0; off < len; off += LINE) {
		__builtin_prefetch((const uint8_t *)at + off);
	}
}

static void fetch_conn(const struct mt_conn *c)
{
	const uint8_t *qc = (const uint8_t *)c->qc;

	for (size_t i = 0; qc && i < sizeof(touched) / sizeof(touched[0]); i++) {
		fetch(qc + touched[i].first * LINE, touched[i].count * LINE + 1);
	}
}

static void fetch_own(const struct mt_conn *c)
{
	fetch(c, 1);
	fetch(&c->expiry,
		offsetof(struct mt_conn, stream_count) - offsetof(struct mt_conn, expiry));
	fetch(&c->info, sizeof(*c) - offsetof(struct mt_conn, info));
}

void mt_endpoint_expect(struct mt_endpoint *ep, const uint8_t *data, size_t len)
{
	struct mt_expected *x = &ep->expected;
	const uint8_t *before;
	bool is_short = len >= PACKET_MIN && !(data[0] & LONG_HEADER);

	if (ep->count < EXPECT_FROM) {
		return;
	}
	if (x->done > 0) {
		x->count = x->done = 0; /* not all of the last batch was received */
	}
	before = x->count > 0 ? x->packets[x->count - 1].id : NULL;
	if (x->count < MT_EXPECTED_MAX) {
		is_short = is_short && !(before && memcmp(before, data + 1, MT_CID_LEN) == 0);
		x->packets[x->count].id = is_short ? data + 1 : NULL;
		x->packets[x->count].conn = NULL;
		if (is_short) {
			x->packets[x->count].bucket = mt_cid_bucket(ep->cids, data + 1, MT_CID_LEN);
			fetch(x->packets[x->count].bucket, 1);
		}
		x->count++;
	}
}

/* Each step reads what the one before has fetched for all of them. */
static void begin(struct mt_endpoint *ep)
{
	struct mt_expected *x = &ep->expected;
	const struct mt_cid_owner *owner;

	for (unsigned i = 0; i < x->count; i++) {
		if (x->packets[i].id && *x->packets[i].bucket) {
			fetch(*x->packets[i].bucket, sizeof(struct mt_cid));
		}
	}
	for (unsigned i = 0; i < x->count; i++) {
		owner = x->packets[i].id ? mt_cid_find(ep->cids, x->packets[i].id, MT_CID_LEN)
					 : NULL;
		if (owner) {
			fetch_own((const struct mt_conn *)owner);
			x->packets[i].conn = (const struct mt_conn *)owner;
		}
	}
	for (unsigned i = 0; i < AHEAD && i < x->count; i++) {
		if (x->packets[i].conn && x->packets[i].conn->owner.kind == MT_OWNER_CONN) {
			fetch_conn(x->packets[i].conn);
		}
	}
}

void mt_endpoint_look_ahead(struct mt_endpoint *ep)
{
	struct mt_expected *x = &ep->expected;
	const struct mt_conn *c;

	if (x->count == 0) {
		return;
	}
	if (x->done == 0) {
		begin(ep);
	}
	c = x->done + AHEAD < x->count ? x->packets[x->done + AHEAD].conn : NULL;
	if (c && c->owner.kind == MT_OWNER_CONN) {
		fetch_conn(c);
	}
	if (++x->done == x->count) {
		x->count = x->done = 0;
	}
}

static bool is_still(const struct mt_conn *c)
{
	return c->server && c->announced && !c->is_dirty && !c->is_ready && !c->close_pending &&
	       c->stream_count == c->quiet_count && !c->dgram_head && TAILQ_EMPTY(&c->blocked) &&
	       !mt_conn_has_sendable(c);
}

static void count(struct mt_endpoint *ep)
{
	uint64_t passed = ep->now_ns - ep->calm_window_ns;

	if (passed >= WINDOW_NS) {
		ep->is_crowded = passed < 2 * WINDOW_NS && ep->calm_packets >= WINDOW_PACKETS;
		ep->calm_window_ns = ep->now_ns;
		ep->calm_packets = 0;
	}
	ep->calm_packets++;
}

static struct mt_conn_list *list_of(struct mt_conn *c)
{
	return c->rests_long ? &c->ep->resting_long : &c->ep->resting;
}

bool mt_conn_rest(struct mt_conn *c, unsigned ecn, size_t len)
{
	struct mt_endpoint *ep = c->ep;
	uint64_t due_ns;

	count(ep);
	/* Two packets are acknowledged at once, as is one that met congestion. What is large may
	 * hold a PATH_CHALLENGE, whose answer does not wait (RFC 9000, section 8.2).
	 */
	if (c->is_resting || c->is_answer || ecn == NGTCP2_ECN_CE) {
		return false;
	}
	if (len >= NGTCP2_MAX_UDP_PAYLOAD_SIZE || !is_still(c)) {
		ep->stirred_ns = ep->now_ns;
		return false;
	}
	/* Nothing to acknowledge: it is at hand now, and needs no second look. */
	due_ns = ngtcp2_conn_get_expiry(c->qc);
	if (due_ns > ep->now_ns + ACK_DELAY_NS) {
		c->is_answer = true;
		return false;
	}
	c->is_resting = true;
	c->rests_long = due_ns > ep->now_ns + SOON_MIN_NS;
	TAILQ_INSERT_TAIL(list_of(c), c, resting);
	return true;
}

void mt_conn_wake(struct mt_conn *c)
{
	if (c->is_resting) {
		c->is_resting = false;
		TAILQ_REMOVE(list_of(c), c, resting);
	}
}

static void answer(const struct mt_endpoint *ep, struct mt_conn_list *list, uint64_t min_ns)
{
	struct mt_conn *c;

	while ((c = TAILQ_FIRST(list)) && c->last_received_ns + min_ns <= ep->now_ns) {
		c->is_answer = true;
		mt_conn_mark_dirty(c);
	}
}

void mt_endpoint_answer(struct mt_endpoint *ep)
{
	answer(ep, &ep->resting, SOON_MIN_NS);
	answer(ep, &ep->resting_long, LATER_MIN_NS);
}

uint64_t mt_endpoint_answer_expiry(const struct mt_endpoint *ep)
{
	const struct mt_conn *soon = TAILQ_FIRST(&ep->resting);
	const struct mt_conn *later = TAILQ_FIRST(&ep->resting_long);
	uint64_t at_ns = soon ? soon->last_received_ns + SOON_MAX_NS : UINT64_MAX;

	if (later && later->last_received_ns + LATER_MAX_NS < at_ns) {
		at_ns = later->last_received_ns + LATER_MAX_NS;
	}
	return at_ns;
}

uint64_t mt_endpoint_patience(const struct mt_endpoint *ep)
{
	bool crowded = ep->is_crowded && ep->now_ns - ep->calm_window_ns < 2 * WINDOW_NS;
	bool calm = crowded && ep->stream_count == 0 && ep->half_open == 0 &&
		    ep->now_ns - ep->stirred_ns > STIRRED_NS;

	return calm ? PATIENCE_NS : 0;
}
