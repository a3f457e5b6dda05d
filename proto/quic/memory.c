/* What an endpoint does when memory runs short, in this order: no new connections, handshakes under
 * way are shed; streams wait with sending; whoever holds most is closed.
 */
#include "proto/quic/impl.h"
#include "proto/wire/request.h"

/* Beside the pool: what GnuTLS allocates for a handshake, and the keys' contexts of a connection
 * (measured with GnuTLS 3.7.9). */
#define HANDSHAKE_BYTES 43000u
#define KEYS_BYTES      4600u
/* Of the limit, in 32nds. What is left above is for what these steps do not stop: what was taken
 * already is still to be sent, and ngtcp2 needs a fifth of its size to keep track of it.
 */
#define REFUSE_AT  23u
#define STARVE_AT  25u
#define RELIEVE_AT 24u
/* One connection is closed at a time: what it frees shows a moment later. */
#define CUT_INTERVAL_NS 100000000ull
/* Streams that waited for so long are not waiting for others to finish any more. */
#define STARVED_MAX_NS 2000000000ull

uint64_t mt_endpoint_memory(const struct mt_endpoint *ep)
{
	return mt_mem_used(ep->cfg.mem) + (uint64_t)ep->half_open * HANDSHAKE_BYTES +
	       (uint64_t)ep->count * KEYS_BYTES;
}

static bool is_at(const struct mt_endpoint *ep, unsigned parts)
{
	uint64_t limit = ep->cfg.limits.max_memory;

	return limit != 0 && mt_endpoint_memory(ep) > limit / 32 * parts;
}

bool mt_endpoint_may_accept(struct mt_endpoint *ep)
{
	return !is_at(ep, REFUSE_AT);
}

bool mt_endpoint_starves(struct mt_endpoint *ep, struct mt_quic_stream *s)
{
	if (s->is_starved) {
		return true;
	}
	if (!ep->is_short && !is_at(ep, STARVE_AT)) {
		return false;
	}
	if (!ep->is_short) {
		ep->is_short = true;
		ep->starved_since_ns = ep->now_ns;
	}
	s->is_starved = true;
	TAILQ_INSERT_TAIL(&ep->starved, s, starved);
	mt_count(&ep->cfg.counters->memory_waits, 1);
	return true;
}

void mt_endpoint_unstarve(struct mt_quic_stream *s)
{
	if (s->is_starved) {
		s->is_starved = false;
		TAILQ_REMOVE(&s->ep->starved, s, starved);
	}
}

void mt_conn_leave_opening(struct mt_conn *c)
{
	struct mt_endpoint *ep = c->ep;

	TAILQ_REMOVE(&ep->opening, c, opening);
	ep->half_open--;
	atomic_store_explicit(
		&ep->cfg.counters->connections_half_open, ep->half_open, memory_order_relaxed);
}

/* The newest handshakes first: of those the fewest have shown who they are. */
static void shed_handshakes(struct mt_endpoint *ep)
{
	const struct mt_endpoint_events *ev = &ep->cfg.events;
	static const char why[] = "the server is out of memory, try again later";
	struct mt_conn *c;

	while (is_at(ep, STARVE_AT) && (c = TAILQ_LAST(&ep->opening, mt_conn_list))) {
		ngtcp2_ccerr_set_transport_error(&c->close_err, NGTCP2_CONNECTION_REFUSED,
			(const uint8_t *)why, sizeof(why) - 1);
		mt_count(&ep->cfg.counters->memory_shed, 1);
		if (ev->on_refused) {
			ev->on_refused(ev->user, &c->info.remote, why, NULL);
		}
		mt_conn_write_close(c);
	}
}

/* By what it takes, not by what was sent: a byte may hold a chunk, and a gap what comes behind it.
 */
static void close_largest(struct mt_endpoint *ep)
{
	struct mt_conn *c, *largest = NULL;

	TAILQ_FOREACH(c, &ep->all, all)
	{
		if (!c->close_pending && (!largest || c->share.bytes >= largest->share.bytes)) {
			largest = c;
		}
	}
	if (largest) {
		ep->cut_at_ns = ep->now_ns;
		mt_count(&ep->cfg.counters->memory_shed, 1);
		mt_conn_close(largest, MT_APP_LIMIT, "the server is out of memory");
	}
}

static void wake_starved(struct mt_endpoint *ep)
{
	struct mt_quic_stream *s;

	ep->is_short = false;
	while ((s = TAILQ_FIRST(&ep->starved))) {
		mt_endpoint_unstarve(s);
		mt_stream_raise(s, MT_EV_WRITABLE);
	}
}

void mt_endpoint_relieve(struct mt_endpoint *ep)
{
	atomic_store_explicit(
		&ep->cfg.counters->memory_bytes, mt_endpoint_memory(ep), memory_order_relaxed);
	if (is_at(ep, STARVE_AT)) {
		shed_handshakes(ep);
	}
	if (ep->is_short && !is_at(ep, RELIEVE_AT)) {
		wake_starved(ep);
	}
	if ((is_at(ep, 32) || (ep->is_short && !TAILQ_EMPTY(&ep->starved) &&
				      ep->now_ns - ep->starved_since_ns > STARVED_MAX_NS)) &&
		ep->now_ns - ep->cut_at_ns > CUT_INTERVAL_NS) {
		close_largest(ep);
	}
}
