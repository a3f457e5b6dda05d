/* Whose turn it is to take bytes from its user. Where the path takes much in little time, streams
 * with more to send than that take long turns, and hold little together until it is sent: what is
 * read stays in the processor's cache until it is in a packet, and the other side gets it in few
 * pieces. What waits longer waits at the user's. On slower paths each stream takes what it may
 * hold, and order.c alone decides.
 */
#include "proto/quic/impl.h"

/* Of a turn: with less, the pieces are as large in rounds. */
#define SLICE_MIN 65536u
#define SLICE_MAX 524288u
/* What all streams together may hold unsent: as much as a single one. */
#define ROOM_BYTES MT_STREAM_UNSENT_MAX
/* What a stream may hold out of turn, and a piece more, when it could not fill the room that it had
 * last: it has waited for its user, not for others. So much of each does not count either: many
 * that have little would keep those from their turn that have much. */
#define EXTRA_BYTES 16384u
/* With so much of the room taken, and what does not count of the last one, the next is called. */
#define CALL_BYTES (ROOM_BYTES / 2 - EXTRA_BYTES)

void mt_conn_init_room(struct mt_conn *c)
{
	TAILQ_INIT(&c->for_room);
}

/* Calls those whose turn it is. One at a time: until it was called, nobody knows what it takes. */
static void invite(struct mt_conn *c)
{
	struct mt_quic_stream *s;

	while ((s = TAILQ_FIRST(&c->for_room)) &&
		(!c->slice || (!c->invited && c->tx_unsent <= CALL_BYTES))) {
		TAILQ_REMOVE(&c->for_room, s, for_room);
		s->waits_for_room = false;
		if (c->slice) {
			c->invited = s;
			s->turn_left = s->turn_left ? s->turn_left : c->slice;
		}
		mt_stream_raise(s, MT_EV_WRITABLE);
	}
}

void mt_conn_set_slice(struct mt_conn *c, uint64_t bytes)
{
	c->slice = bytes < SLICE_MIN ? 0 : bytes < SLICE_MAX ? (uint32_t)bytes : SLICE_MAX;
	if (!c->slice) {
		invite(c);
	}
}

size_t mt_stream_take_room(struct mt_quic_stream *s, size_t space)
{
	struct mt_conn *c = s->conn;
	size_t room = c->tx_unsent < ROOM_BYTES ? ROOM_BYTES - (size_t)c->tx_unsent : 0;

	if (!c->slice) {
		return space;
	}
	if (s->waits_for_room) {
		return 0;
	}
	if (!s->turn_left && room > 0 && TAILQ_EMPTY(&c->for_room) && !c->invited) {
		s->turn_left = c->slice;
	}
	if (!s->turn_left && !s->is_hungry && s->counted == 0) {
		return space < EXTRA_BYTES ? space : EXTRA_BYTES;
	}
	if (s->turn_left && room > 0) {
		room = room < s->turn_left ? room : s->turn_left;
		return room < space ? room : space;
	}
	s->waits_for_room = true;
	if (s->turn_left) {
		TAILQ_INSERT_HEAD(&c->for_room, s, for_room);
	} else {
		TAILQ_INSERT_TAIL(&c->for_room, s, for_room);
	}
	return 0;
}

void mt_stream_fill_room(struct mt_quic_stream *s, size_t len)
{
	if (len > 0) {
		mt_stream_set_sendable(s, true);
	}
	s->is_hungry = len > 0 && len == s->reserved;
	s->turn_left = s->is_hungry && len < s->turn_left ? s->turn_left - (uint32_t)len : 0;
	s->reserved = 0;
	mt_stream_count_unsent(s);
}

/* Bytes without credit do not count: nobody knows when they go, and the others must not wait for
 * that. */
void mt_stream_count_unsent(struct mt_quic_stream *s)
{
	struct mt_conn *c = s->conn;
	bool counts = c && s->queue && s->queue != &c->blocked && !s->is_retried;
	uint32_t unsent = counts ? (uint32_t)(s->tx_end - s->tx_sent) : 0;

	unsent = unsent > EXTRA_BYTES ? unsent - EXTRA_BYTES : 0;
	if (c && unsent != s->counted) {
		c->tx_unsent = c->tx_unsent + unsent - s->counted;
		s->counted = unsent;
		invite(c);
	}
}

void mt_stream_end_invitation(struct mt_quic_stream *s)
{
	struct mt_conn *c = s->conn;

	if (c && c->invited == s) {
		c->invited = NULL;
		invite(c);
	}
}

void mt_stream_stop_waiting(struct mt_quic_stream *s)
{
	mt_endpoint_unstarve(s);
	if (s->waits_for_room) {
		TAILQ_REMOVE(&s->conn->for_room, s, for_room);
		s->waits_for_room = false;
	}
	mt_stream_end_invitation(s);
}
