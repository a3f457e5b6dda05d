/* The insides of TLS connections, shared by tls_loop.c and tls_stream.c. */
#pragma once

#include "proto/io/tls_stream.h"
#include "proto/quic/stream_kind.h"

#include <sys/queue.h>

#define MT_TLS_RX_MAX        (256u * 1024) /* read ahead of the user; also a turn's share */
#define MT_TLS_TX_MAX        (256u * 1024)
#define MT_TLS_DELIVER_MS    30000 /* without any progress, for what was sent before the release */
#define MT_TLS_LINGERING_MAX 1024  /* refused connections that get the time to read why */

TAILQ_HEAD(mt_tls_list, mt_tls_stream);

/* What the handler is still to be told. */
enum {
	MT_TLS_EV_READABLE = 1u << 0,
	MT_TLS_EV_WRITABLE = 1u << 1,
	MT_TLS_EV_RESET = 1u << 2,
	MT_TLS_EV_STOP = 1u << 3,
	MT_TLS_EV_END = 1u << 4,
};

struct mt_tls_stream {
	struct mt_stream base; /* first */
	struct mt_poll_item item;
	struct mt_tls_loop *loop;
	struct mt_tls_socket sock;
	struct mt_tls_stream_events events;
	TAILQ_ENTRY(mt_tls_stream) of_loop;
	TAILQ_ENTRY(mt_tls_stream) of_due; /* in the handshakes or those that linger, by age */
	TAILQ_ENTRY(mt_tls_stream) of_ready;
	struct mt_tls_list *due_in; /* NULL: in none */
	uint64_t due_ms;

	struct mt_chunk *rx_head;
	struct mt_chunk *rx_tail;
	size_t rx_bytes;
	struct mt_chunk *tx_head;
	struct mt_chunk *tx_tail;
	struct mt_chunk *tx_spare; /* between reserve and commit */
	size_t tx_bytes;
	uint64_t tx_sent;

	/* Told of the socket's readiness, and of a fault that others found, instead of the stream,
	 * which is left alone: splice.c. */
	void (*on_raw)(void *user, unsigned events);
	void *raw_user;

	unsigned told; /* events that are due */
	bool is_ready; /* its handshake waits for its turn */
	/* What the edge-triggered poller has told and no call has disproved. */
	bool can_read;
	bool can_write;
	bool open;    /* the handshake is done */
	bool dead;    /* the descriptor is closed */
	bool rx_over; /* nothing more is queued */
	bool tx_fin;
	bool tx_was_full;
	bool end_told;
	bool lingers; /* only the peer's end is waited for */
	bool released;
};

struct mt_tls_loop {
	uv_timer_t timer;
	uv_timer_t patrol; /* looks for connections whose other host has gone */
	int open_timers;
	uv_loop_t *uv;
	struct mt_poller *poller;
	struct mt_mem *mem;
	struct mt_poll_item turn; /* the handshakes' share of a turn */
	struct mt_tls_list all;   /* those that were looked at last are at the end */
	size_t count;
	struct mt_tls_list handshakes;
	struct mt_tls_list lingering;
	struct mt_tls_list ready;
	size_t half_open;
	size_t lingering_count;
	bool ticking;
	bool kernel;
};

/* tls_loop.c */
struct mt_tls_stream *mt_tls_stream_new(
	struct mt_tls_loop *l, const struct mt_tls_stream_events *e);
/* Into one of the two lists of those whose time is limited. */
void mt_tls_stream_set_due(struct mt_tls_stream *s, struct mt_tls_list *list, uint64_t ms);
void mt_tls_stream_clear_due(struct mt_tls_stream *s);
/* The handshake goes on in the turn that is meant for it. */
void mt_tls_stream_queue_handshake(struct mt_tls_stream *s);
void mt_tls_stream_free(struct mt_tls_stream *s);

/* Frees the chunks of a queue, whose head becomes NULL. */
void mt_tls_stream_drop_chunks(struct mt_tls_stream *s, struct mt_chunk **head);

/* tls_stream_calls.c: what the users of streams call */
extern const struct mt_stream_kind mt_tls_stream_kind;

/* tls_stream.c */
void mt_tls_stream_flush(struct mt_tls_stream *s);
void mt_tls_stream_drop_rx(struct mt_tls_stream *s);
void mt_tls_stream_close(struct mt_tls_stream *s, bool by_reset);
void mt_tls_stream_on_ready(struct mt_poll_item *item, unsigned events);
void mt_tls_stream_step_handshake(struct mt_tls_stream *s);
void mt_tls_stream_on_due(struct mt_tls_stream *s);
void mt_tls_stream_check_silence(struct mt_tls_stream *s); /* it may be gone afterwards */

static inline struct mt_tls_stream *mt_tls_stream_of(struct mt_stream *s)
{
	return (struct mt_tls_stream *)s;
}

static inline const struct mt_tls_stream *mt_tls_stream_of_const(const struct mt_stream *s)
{
	return (const struct mt_tls_stream *)s;
}
