/* Connections that lie still: keep-alives come from them, and their acknowledgements go back. A
 * server has tens of thousands of them, and to look at one that nobody has touched for seconds
 * costs more than what is done with it. So their answers are written together, without a timer for
 * each, and while a worker has nothing but them, and many, it lets gather what comes in.
 */
#include "proto/quic/impl.h"

/* An acknowledgement goes when its connection has waited for so long, as the library leaves one
 * that is not due (an eighth of the round trip, RFC 9000, section 13.2), and no later than an
 * endpoint may let its peer wait: 25 ms (max_ack_delay) with what packets waited before.
 */
#define ANSWER_MIN_NS 12000000u
#define ANSWER_MAX_NS 20000000u
#define PATIENCE_NS   4000000u
/* Nobody is kept waiting who did anything else a short time ago, or has a stream open; and few
 * packets are no reason to. */
#define STIRRED_NS     1000000000u
#define WINDOW_NS      100000000u
#define WINDOW_PACKETS 100u

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

bool mt_conn_rest(struct mt_conn *c, unsigned ecn, size_t len)
{
	struct mt_endpoint *ep = c->ep;

	count(ep);
	/* Two packets are acknowledged at once, as is one that met congestion. What is large may
	 * hold a PATH_CHALLENGE, whose answer does not wait (RFC 9000, section 8.2).
	 */
	if (c->is_resting || ecn == NGTCP2_ECN_CE) {
		return false;
	}
	if (len >= NGTCP2_MAX_UDP_PAYLOAD_SIZE || !is_still(c)) {
		ep->stirred_ns = ep->now_ns;
		return false;
	}
	c->is_resting = true;
	TAILQ_INSERT_TAIL(&ep->resting, c, resting);
	return true;
}

void mt_conn_wake(struct mt_conn *c)
{
	if (c->is_resting) {
		c->is_resting = false;
		TAILQ_REMOVE(&c->ep->resting, c, resting);
	}
}

void mt_endpoint_answer(struct mt_endpoint *ep)
{
	struct mt_conn *c;

	while ((c = TAILQ_FIRST(&ep->resting)) &&
		c->last_received_ns + ANSWER_MIN_NS <= ep->now_ns) {
		c->is_answer = true;
		mt_conn_mark_dirty(c);
	}
}

uint64_t mt_endpoint_answer_expiry(const struct mt_endpoint *ep)
{
	const struct mt_conn *c = TAILQ_FIRST(&ep->resting);

	return c ? c->last_received_ns + ANSWER_MAX_NS : UINT64_MAX;
}

uint64_t mt_endpoint_patience(const struct mt_endpoint *ep)
{
	bool crowded = ep->is_crowded && ep->now_ns - ep->calm_window_ns < 2 * WINDOW_NS;
	bool calm = crowded && ep->stream_count == 0 && ep->half_open == 0 &&
		    ep->now_ns - ep->stirred_ns > STIRRED_NS;

	return calm ? PATIENCE_NS : 0;
}
