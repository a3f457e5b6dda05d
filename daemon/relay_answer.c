/* From targets to the client. */
#include "daemon/access.h"
#include "daemon/drop.h"
#include "daemon/relay_impl.h"
#include "daemon/relay_stream.h"
#include "proto/io/frames.h"
#include "proto/quic/endpoint.h"
#include "proto/wire/frame.h"

#include <string.h>

#define BATCHES_A_TURN 8 /* of one socket, then others have their turn */

/* Whether somebody who was not written to may write. */
static bool is_welcome(const struct mt_relay *r, const struct mt_addr *from)
{
	const struct mt_access_request request = {
		.client = r->client, .protocol = MT_RULE_UDP, .port = mt_addr_port(from)};

	return mt_access_check_target(r->env->snapshot, &request, from) == 0;
}

static size_t encode_header(const struct mt_relay_session *s, const struct mt_extended *h,
	uint8_t buf[MT_EXTENDED_HEADER_MAX])
{
	return s->extended ? mt_extended_header_encode(buf, MT_EXTENDED_HEADER_MAX, h)
			   : mt_datagram_header_encode(buf, MT_EXTENDED_HEADER_MAX,
				     h->datagram.port, h->datagram.host, h->datagram.host_len);
}

static int send_piece(
	struct mt_relay_session *s, const struct mt_extended *h, const uint8_t *data, size_t len)
{
	uint8_t head[MT_EXTENDED_HEADER_MAX];
	size_t head_len = encode_header(s, h, head);

	if (head_len == 0) {
		return MT_E_MALFORMED; /* a source port of 0 */
	}
	return s->via == MT_RELAY_STREAM
		       ? mt_frames_send(
				 mt_relay_stream_frames(s->stream), head, head_len, data, len)
		       : mt_conn_send_datagram(s->relay->conn, head, head_len, data, len);
}

static size_t piece_max(const struct mt_relay_session *s)
{
	return s->via == MT_RELAY_STREAM ? MT_FRAME_MAX : mt_conn_datagram_max(s->relay->conn);
}

static size_t room(const struct mt_relay_session *s)
{
	switch (s->via) {
	case MT_RELAY_STREAM: return mt_frames_room(mt_relay_stream_frames(s->stream));
	case MT_RELAY_DATAGRAM: return mt_conn_datagram_room(s->relay->conn);
	case MT_RELAY_NOWHERE: break;
	}
	return MT_RELAY_BATCH; /* taken and dropped */
}

/* An answer in as many pieces as it takes: all of them, or none when there is no room for so many.
 */
static int send_answer(
	struct mt_relay_session *s, struct mt_extended *h, const uint8_t *data, size_t len)
{
	const size_t header = MT_EXTENDED_PREFIX + 3u + h->datagram.host_len;
	struct mt_cut cut = {.count = 1};
	int rv = 0;

	h->count = 1;
	s->pieces = 1;
	/* Nothing of so few bytes needs to be cut: packets have 1,200 bytes at least. */
	if (!s->extended || len + header < 1000) {
		return send_piece(s, h, data, len);
	}
	if (!mt_cut_plan(&cut, len, piece_max(s), header) || cut.count > MT_DATAGRAMS_OUT_MAX) {
		return MT_E_TOO_LONG;
	}
	s->pieces = cut.count;
	if (cut.count > room(s)) {
		return MT_E_AGAIN; /* the next one waits for as much */
	}
	h->count = cut.count;
	h->packet = cut.count > 1 ? s->next_packet++ : 0;
	for (unsigned i = 0; i < cut.count && rv == 0; i++) {
		size_t from = i * cut.piece;

		h->fragment = (uint8_t)i;
		rv = send_piece(s, h, data + from, len - from < cut.piece ? len - from : cut.piece);
	}
	return rv;
}

static void count_answer(struct mt_relay *r, int rv, size_t len, uint64_t now_ns)
{
	struct mt_worker_counters *counters = r->env->counters;

	switch (rv) {
	case 0:
		mt_relay_meter_sent(&r->meter, len, now_ns);
		mt_count(&counters->udp_to_clients, 1);
		mt_count(r->conn != NULL ? &counters->bytes_sent : &counters->tls_bytes_sent, len);
		break;
	case MT_E_TOO_LONG: MT_COUNT_DROP(counters, udp_dropped_size, 1); break;
	case MT_E_AGAIN: MT_COUNT_DROP(counters, udp_dropped_queue, 1); break;
	case MT_E_MALFORMED: MT_COUNT_DROP(counters, udp_dropped_malformed, 1); break;
	default: break; /* the connection, or the stream, is about to end */
	}
}

static void deliver(
	struct mt_relay_session *s, const struct mt_relay_in *in, uint64_t now_ms, uint64_t now_ns)
{
	struct mt_relay *r = s->relay;
	struct mt_extended h = {.session = s->id};
	struct mt_relay_target *target;
	char text[MT_ADDR_TEXT_MAX];

	if (in->from.len == 0 || s->via == MT_RELAY_NOWHERE) {
		return;
	}
	h.datagram.port = mt_addr_port(&in->from);
	target = mt_relay_targets_by_addr(&s->targets, &in->from);
	if (target != NULL) {
		mt_relay_targets_use(&s->targets, target, now_ms);
		h.datagram.host = target->host;
		h.datagram.host_len = target->host_len;
	} else {
		if (!is_welcome(r, &in->from)) {
			MT_COUNT_DROP(r->env->counters, udp_dropped_denied, 1);
			return;
		}
		h.datagram.host = mt_addr_format_host(&in->from, text, sizeof(text));
		h.datagram.host_len = (uint8_t)strlen(text);
	}
	count_answer(r, send_answer(s, &h, in->data, in->len), in->len, now_ns);
	mt_relay_session_touch(s, now_ms);
}

static void wait_for_room(struct mt_relay_socket *s)
{
	struct mt_relay *r = s->session->relay;

	s->waiting = true;
	TAILQ_INSERT_TAIL(&r->waiting, s, by_turn);
	if (s->session->via == MT_RELAY_DATAGRAM) {
		mt_conn_want_datagram_room(r->conn);
	} else if (s->session->via == MT_RELAY_STREAM) {
		mt_frames_want_room(mt_relay_stream_frames(s->session->stream));
	}
}

/* Reads what there is room for: answers that are read and then dropped cost the kernel's queue. */
static void read_socket(struct mt_relay_socket *socket)
{
	struct mt_relay_session *s = socket->session;
	struct mt_relay *r = s->relay;
	uint64_t now_ms = mt_deadlines_now_ms(&r->env->deadlines);
	uint64_t now_ns = 0;
	const struct mt_relay_in *in = NULL;

	for (unsigned batch = 0; batch < BATCHES_A_TURN; batch++) {
		size_t want = s->pieces > 1 ? room(s) / s->pieces : room(s);
		int n;

		if (want == 0) {
			wait_for_room(socket);
			return;
		}
		want = want < MT_RELAY_BATCH ? want : MT_RELAY_BATCH;
		want = mt_relay_meter_window(&r->meter, want, &now_ns);
		if (want == 0) {
			wait_for_room(socket);
			mt_pacer_wait(r->env->pacer, &r->paced, batch > 0);
			return;
		}
		n = mt_relay_io_receive(r->env->relay_io, socket->item.fd, want, &in);
		for (int i = 0; i < n; i++) {
			deliver(s, &in[i], now_ms, now_ns);
		}
		/* An error of the socket is taken by the receive that reported it. */
		if (n >= 0 && (size_t)n < want) {
			return;
		}
	}
	mt_poller_defer(r->env->poller, &socket->item, MT_POLL_IN);
}

void mt_relay_on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_relay_socket *s =
		(struct mt_relay_socket *)((char *)item - offsetof(struct mt_relay_socket, item));

	if ((events & (MT_POLL_IN | MT_POLL_HUP)) && !s->waiting) {
		read_socket(s);
	}
}

void mt_relay_resume(struct mt_relay *relay)
{
	struct mt_relay_socket *last = TAILQ_LAST(&relay->waiting, mt_relay_socket_queue);
	struct mt_relay_socket *s;

	/* Each may take all the room there is: whoever still waits is behind the others then. */
	while ((s = TAILQ_FIRST(&relay->waiting)) != NULL) {
		TAILQ_REMOVE(&relay->waiting, s, by_turn);
		s->waiting = false;
		read_socket(s);
		if (s == last) {
			return;
		}
	}
}
