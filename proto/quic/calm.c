/* When a server acknowledges. Its connections would do so with whatever they try to write
 * (ack_thresh), so what is tried when decides.
 *
 * Connections that lie still send keep-alives, and their acknowledgements go back. A server has
 * tens of thousands of them, and to look at one that nobody has touched for seconds costs more than
 * what is done with it: so it is answered while it is at hand, and while a worker has nothing but
 * them, and many, it lets gather what comes in.
 *
 * A packet of an open stream mostly has its answer soon, which takes the acknowledgement along.
 * Until that, or a second packet, nothing is tried but when the acknowledgement is due.
 */
#include "proto/quic/impl.h"

#include <stddef.h>
#include <string.h>

/* Credit for less is no reason to write to a connection whose answer is yet to come. */
#define RESTING_CREDIT (64u * 1024)
#define PATIENCE_NS    4000000u
/* Nobody is kept waiting who did anything else a short time ago, datagrams among it, or has a
 * stream open; and few packets are no reason to. */
#define STIRRED_NS     1000000000u
#define WINDOW_NS      100000000u
#define WINDOW_PACKETS 100u

/* With one frame more than a PING has, or with a PATH_CHALLENGE, a packet is at least as long:
 * first byte, id, packet number, 5 bytes of an ACK, tag. */
#define MORE_THAN_PING (1u + MT_CID_LEN + 1u + 5u + 16u)

#define MANY 1000u /* connections: fewer are at hand */
#define LINE 64u
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

	if (x->done > 0) {
		x->count = x->done = 0; /* not all of the last batch was received */
	}
	if (ep->count < MANY) {
		return;
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

/* The first packet of a stream or datagrams since something was written, with nothing to say to
 * it yet. Those have a timer for their acknowledgement: whatever else it asks for, such as credit
 * or a repetition of what is lost, is done then at the latest.
 */
static bool may_rest(const struct mt_conn *c)
{
	return c->server && c->announced && c->got_payload && !c->is_resting && !c->is_dirty &&
	       !c->dgram_head && TAILQ_EMPTY(&c->blocked) && !mt_conn_has_sendable(c);
}

bool mt_conn_settle(struct mt_conn *c, unsigned ecn, size_t len)
{
	struct mt_endpoint *ep = c->ep;

	count(ep);
	/* What is large may hold a PATH_CHALLENGE, and be the first of many. */
	if (len < NGTCP2_MAX_UDP_PAYLOAD_SIZE && !c->got_payload && is_still(c)) {
		c->is_answer = true;
		c->is_brief = len < MORE_THAN_PING;
		(void)mt_conn_write(c); /* with no room for it, it has been marked as dirty */
		return true;
	}
	ep->stirred_ns = ep->now_ns;
	/* Congestion is told at once (RFC 9000, section 13.2.1). */
	if (ecn == NGTCP2_ECN_CE || !may_rest(c)) {
		return false;
	}
	c->is_resting = true;
	mt_conn_rearm(c);
	return true;
}

void mt_conn_mark_credit(struct mt_conn *c, size_t len)
{
	if (!c->is_resting || len > RESTING_CREDIT) {
		mt_conn_mark_dirty(c);
	}
}

bool mt_endpoint_is_shared(const struct mt_endpoint *ep)
{
	return ep->count >= MANY && ep->stream_count > 0;
}

uint64_t mt_endpoint_patience(const struct mt_endpoint *ep)
{
	bool crowded = ep->is_crowded && ep->now_ns - ep->calm_window_ns < 2 * WINDOW_NS;
	bool calm = crowded && ep->stream_count == 0 && ep->half_open == 0 &&
		    ep->now_ns - ep->stirred_ns > STIRRED_NS;

	return calm ? PATIENCE_NS : 0;
}
