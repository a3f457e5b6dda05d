/* How large packets may be (RFC 9000, section 14; RFC 8899). */
#include "proto/quic/impl.h"

/* What nearly every network carries; more only within a machine (loopback), a data centre (jumbo
 * frames) and the like. */
#define ORDINARY_PAYLOAD 1452u
/* Probes for more are large themselves, and the receiver's buffers grow with them. Only who sends
 * much gains by that. */
#define LARGE_AFTER_BYTES ((uint64_t)1024 * 1024)
/* The first probe timeout is nothing unusual; the second one comes twice as long after it. */
#define SILENT_PTOS 2u
/* A lost packet that is repeated, and lost again, holds up all of its stream's bytes behind it:
 * each time costs about a round trip, and a probe timeout is longer than one; but one that is twice
 * as long each time when there is little else under way. */
#define STUCK_PTOS    8u
#define STUCK_MIN_NS  150000000ull
#define STUCK_PACKETS 6u
/* Of several streams one is watched at a time; another one when its bytes have arrived, which is
 * looked for so seldom. */
#define LOOK_NS           50000000ull
#define NARROW_NS         1000000000ull
#define NARROW_SHIFTS_MAX 6u
/* Acknowledgements and the like are smaller. */
#define TRIAL_MIN 1000u

static bool is_narrow(const struct mt_conn *c)
{
	return c->is_narrow_untried || c->narrow_until_ns > c->ep->now_ns;
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

static bool is_silent(const struct mt_conn *c)
{
	return c->unanswered_ns != 0 &&
	       c->ep->now_ns - c->unanswered_ns >= SILENT_PTOS * ngtcp2_conn_get_pto(c->qc);
}

static bool is_stuck(const struct mt_conn *c)
{
	uint64_t since_ns =
		c->large.since_ns > c->narrow_until_ns ? c->large.since_ns : c->narrow_until_ns;
	uint64_t waited_ns = c->ep->now_ns - since_ns;

	return c->large.stream != NULL && c->large.packets >= STUCK_PACKETS &&
	       waited_ns >= STUCK_MIN_NS && waited_ns >= STUCK_PTOS * ngtcp2_conn_get_pto(c->qc);
}

void mt_conn_doubt_path(struct mt_conn *c)
{
	if (is_narrow(c) || !(is_silent(c) || is_stuck(c))) {
		return;
	}
	/* Whether it is the large packets shows in that the small ones since the last time were
	 * answered; nothing at all is answered when the network is away. */
	if (c->doubted_ns != 0 && c->last_received_ns > c->doubted_ns &&
		c->narrow_count < NARROW_SHIFTS_MAX) {
		c->narrow_count++;
	}
	c->doubted_ns = c->ep->now_ns;
	c->is_narrow_untried = true;
	c->unanswered_ns = 0;
	c->large.is_proof = false;
	c->large.packets = 0;
}

/* From then on packets are small for some time: not before one has left, as the library's timer
 * goes off seldom when much was in vain. */
static void end_trial(struct mt_conn *c)
{
	if (c->is_narrow_untried) {
		c->is_narrow_untried = false;
		c->narrow_until_ns = c->ep->now_ns + (NARROW_NS << c->narrow_count);
	}
}

void mt_conn_note_sent(struct mt_conn *c, size_t packet_len)
{
	if (packet_len > NGTCP2_MAX_UDP_PAYLOAD_SIZE) {
		c->large.packets++;
	} else if (packet_len >= TRIAL_MIN) {
		end_trial(c);
	}
}

static void watch(struct mt_conn *c, struct mt_quic_stream *s, bool is_proof)
{
	c->large.stream = s;
	c->large.end = s->tx_sent;
	c->large.since_ns = c->ep->now_ns;
	c->large.packets = 0;
	c->large.is_proof = is_proof;
}

/* What is under way may all be repeated, and nothing new leave that could be watched. */
static void look_for_large(struct mt_conn *c)
{
	struct mt_quic_stream *s;

	if (c->large.stream != NULL || c->tx_unacked < NGTCP2_MAX_UDP_PAYLOAD_SIZE ||
		c->ep->now_ns - c->large.since_ns < LOOK_NS) {
		return;
	}
	c->large.since_ns = c->ep->now_ns;
	TAILQ_FOREACH(s, &c->streams, of_conn)
	{
		if (!s->tx_over && s->tx_sent - s->tx_base >= NGTCP2_MAX_UDP_PAYLOAD_SIZE) {
			watch(c, s, false);
			return;
		}
	}
}

void mt_conn_watch_path(struct mt_conn *c, uint64_t in_flight)
{
	if (in_flight == 0) {
		c->unanswered_ns = 0;
		end_trial(c);
	} else if (c->unanswered_ns == 0 &&
		   ngtcp2_conn_get_path_max_tx_udp_payload_size(c->qc) > ORDINARY_PAYLOAD) {
		c->unanswered_ns = c->ep->now_ns;
	}
	look_for_large(c);
	if (c->large.stream != NULL) {
		mt_conn_doubt_path(c);
	}
}

void mt_conn_watch_large(struct mt_quic_stream *s, size_t len)
{
	struct mt_conn *c = s->conn;

	if (c->large.stream == NULL && len >= NGTCP2_MAX_UDP_PAYLOAD_SIZE) {
		watch(c, s, len >= mt_conn_path_payload(c) / 2);
	}
}

void mt_conn_note_acked(struct mt_quic_stream *s)
{
	struct mt_conn *c = s->conn;

	if (c->large.stream != s) {
		return;
	}
	c->large.since_ns = c->ep->now_ns;
	c->large.packets = 0;
	if (s->tx_base < c->large.end) {
		return;
	}
	c->large.stream = NULL;
	if (c->large.is_proof) {
		c->narrow_count = 0;
	}
}

void mt_conn_forget_large(struct mt_quic_stream *s)
{
	if (s->conn->large.stream == s) {
		s->conn->large.stream = NULL;
	}
}
