/* A storm of handshakes must not hold up those who are in: of its packets a few are looked at in
 * each turn, the others wait in a queue.
 */
#include "proto/quic/impl.h"

#include <string.h>

bool mt_endpoint_may_handshake(struct mt_endpoint *ep, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	struct mt_deferred *d = NULL;

	/* In order: who came first is not overtaken. */
	if (ep->handshakes_left > 0) {
		ep->handshakes_left--;
		return true;
	}
	if (ep->deferred_count < MT_DEFERRED_MAX && ep->deferred_bytes + len <= MT_DEFERRED_BYTES) {
		d = mt_mem_alloc(ep->cfg.mem, sizeof(*d) + len);
	}
	if (!d) {
		mt_count(&ep->cfg.counters->handshake_packets_dropped, 1);
		return false;
	}
	d->path = *path;
	d->ecn = ecn;
	d->len = len;
	memcpy(d->data, data, len);
	TAILQ_INSERT_TAIL(&ep->deferred, d, entry);
	ep->deferred_count++;
	ep->deferred_bytes += len;
	return false;
}

static void take_first(struct mt_endpoint *ep, struct mt_deferred *d)
{
	TAILQ_REMOVE(&ep->deferred, d, entry);
	ep->deferred_count--;
	ep->deferred_bytes -= d->len;
}

void mt_endpoint_run_deferred(struct mt_endpoint *ep)
{
	struct mt_deferred *d;

	ep->handshakes_left = MT_HANDSHAKES_A_TURN;
	while (ep->handshakes_left > 0 && (d = TAILQ_FIRST(&ep->deferred))) {
		take_first(ep, d);
		mt_endpoint_receive_one(ep, &d->path, d->ecn, d->data, d->len);
		mt_mem_release(ep->cfg.mem, d);
	}
	if (!TAILQ_EMPTY(&ep->deferred)) {
		ep->handshakes_left = 0; /* what comes now is behind them */
	}
}

void mt_endpoint_drop_deferred(struct mt_endpoint *ep)
{
	struct mt_deferred *d;

	while ((d = TAILQ_FIRST(&ep->deferred))) {
		take_first(ep, d);
		mt_mem_release(ep->cfg.mem, d);
	}
}

bool mt_endpoint_is_deferring(const struct mt_endpoint *ep)
{
	return !TAILQ_EMPTY(&ep->deferred);
}
