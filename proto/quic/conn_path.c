/* How large packets may be (RFC 9000, section 14; RFC 8899). */
#include "proto/quic/impl.h"

/* What nearly every network carries; more only within a machine (loopback), a data centre (jumbo
 * frames) and the like. */
#define ORDINARY_PAYLOAD 1452u
/* Probes for more are large themselves, and the receiver's buffers grow with them. Only who sends
 * much gains by that. */
#define LARGE_AFTER_BYTES ((uint64_t)1024 * 1024)
/* The first probe timeout is nothing unusual; the second one comes twice as long after it. */
#define SILENT_PTOS       2u
#define NARROW_NS         1000000000ull
#define NARROW_SHIFTS_MAX 6u

static bool is_narrow(const struct mt_conn *c)
{
	return c->narrow_until_ns > c->ep->now_ns;
}

size_t mt_conn_path_payload(const struct mt_conn *c)
{
	if (c->qc == NULL) {
		return 0;
	}
	return is_narrow(c) ? NGTCP2_MAX_UDP_PAYLOAD_SIZE
			    : ngtcp2_conn_get_path_max_tx_udp_payload_size(c->qc);
}

size_t mt_conn_probe_payload(const struct mt_conn *c)
{
	size_t max = ngtcp2_conn_get_max_tx_udp_payload_size(c->qc);

	if (is_narrow(c)) {
		return NGTCP2_MAX_UDP_PAYLOAD_SIZE;
	}
	return c->info.bytes_sent < LARGE_AFTER_BYTES && max > ORDINARY_PAYLOAD ? ORDINARY_PAYLOAD
										: max;
}

void mt_conn_watch_path(struct mt_conn *c, uint64_t in_flight)
{
	if (in_flight == 0) {
		c->unanswered_ns = 0;
	} else if (c->unanswered_ns == 0 &&
		   ngtcp2_conn_get_path_max_tx_udp_payload_size(c->qc) > ORDINARY_PAYLOAD) {
		c->unanswered_ns = c->ep->now_ns;
	}
}

void mt_conn_doubt_path(struct mt_conn *c)
{
	if (c->unanswered_ns == 0 || is_narrow(c) ||
		c->ep->now_ns - c->unanswered_ns < SILENT_PTOS * ngtcp2_conn_get_pto(c->qc)) {
		return;
	}
	c->narrow_until_ns = c->ep->now_ns + (NARROW_NS << c->narrow_count);
	c->unanswered_ns = 0;
	if (c->narrow_count < NARROW_SHIFTS_MAX) {
		c->narrow_count++;
	}
}
