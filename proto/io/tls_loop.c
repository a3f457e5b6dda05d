#include "proto/io/tls_impl.h"

#include <errno.h>
#include <stdlib.h>

#define TICK_MS      250
#define PATROL_MS    1000
#define PATROL_TURNS 10       /* for each connection's turn to come */
#define HANDSHAKE_NS 2000000u /* of a turn: tunnels that run must get their share */

static void on_tick(uv_timer_t *timer);

static void keep_ticking(struct mt_tls_loop *l)
{
	bool needed = !TAILQ_EMPTY(&l->handshakes) || !TAILQ_EMPTY(&l->lingering);

	if (needed && !l->ticking) {
		/* Fails only for a closing handle. */
		(void)uv_timer_start(&l->timer, on_tick, TICK_MS, TICK_MS);
	} else if (!needed && l->ticking) {
		(void)uv_timer_stop(&l->timer); /* never fails */
	}
	l->ticking = needed;
}

/* Oldest first; those whose time is over leave the list by themselves. */
static void expire(struct mt_tls_list *list, uint64_t now_ms)
{
	struct mt_tls_stream *s, *next;

	for (s = TAILQ_FIRST(list); s != NULL; s = next) {
		next = TAILQ_NEXT(s, of_due);
		if (s->due_ms <= now_ms) {
			mt_tls_stream_on_due(s);
		}
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct mt_tls_loop *l = timer->data;

	expire(&l->handshakes, uv_now(l->uv));
	expire(&l->lingering, uv_now(l->uv));
	keep_ticking(l);
}

/* A share of the connections each time: a call for each of a hundred thousand takes a while. */
static void on_patrol(uv_timer_t *timer)
{
	struct mt_tls_loop *l = timer->data;
	struct mt_tls_stream *s;

	for (size_t n = (l->count + PATROL_TURNS - 1) / PATROL_TURNS; n > 0; n--) {
		s = TAILQ_FIRST(&l->all);
		if (s == NULL) {
			break;
		}
		TAILQ_REMOVE(&l->all, s, of_loop);
		TAILQ_INSERT_TAIL(&l->all, s, of_loop);
		mt_tls_stream_check_silence(s);
	}
	if (l->count == 0) {
		(void)uv_timer_stop(&l->patrol); /* never fails */
	}
}

static void on_turn(struct mt_poll_item *item, unsigned events)
{
	struct mt_tls_loop *l =
		(struct mt_tls_loop *)((char *)item - offsetof(struct mt_tls_loop, turn));
	uint64_t until_ns = uv_hrtime() + HANDSHAKE_NS;
	struct mt_tls_stream *s;

	(void)events;
	do {
		s = TAILQ_FIRST(&l->ready);
		if (s == NULL) {
			return;
		}
		TAILQ_REMOVE(&l->ready, s, of_ready);
		s->is_ready = false;
		mt_tls_stream_step_handshake(s);
	} while (uv_hrtime() < until_ns);
	if (!TAILQ_EMPTY(&l->ready)) {
		mt_poller_defer(l->poller, &l->turn, 0);
	}
}

int mt_tls_loop_new(
	struct mt_tls_loop **out, uv_loop_t *loop, struct mt_poller *poller, struct mt_mem *mem)
{
	struct mt_tls_loop *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		return -ENOMEM;
	}
	l->uv = loop;
	l->poller = poller;
	l->mem = mem;
	TAILQ_INIT(&l->all);
	TAILQ_INIT(&l->handshakes);
	TAILQ_INIT(&l->lingering);
	TAILQ_INIT(&l->ready);
	mt_poller_init_item(&l->turn, on_turn);
	/* These never fail. */
	(void)uv_timer_init(loop, &l->timer);
	(void)uv_timer_init(loop, &l->patrol);
	l->timer.data = l;
	l->patrol.data = l;
	l->open_timers = 2;
	*out = l;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct mt_tls_loop *l = handle->data;

	if (--l->open_timers == 0) {
		free(l);
	}
}

void mt_tls_loop_free(struct mt_tls_loop *l)
{
	struct mt_tls_stream *s;

	if (l == NULL) {
		return;
	}
	while ((s = TAILQ_FIRST(&l->all)) != NULL) {
		if (!s->dead) {
			mt_tls_socket_arm_reset(&s->sock);
		}
		s->events = (struct mt_tls_stream_events){.user = NULL};
		mt_tls_stream_free(s);
	}
	mt_poller_remove(l->poller, &l->turn);
	uv_close((uv_handle_t *)&l->timer, on_closed);
	uv_close((uv_handle_t *)&l->patrol, on_closed);
}

void mt_tls_loop_set_kernel(struct mt_tls_loop *l, bool kernel)
{
	l->kernel = kernel;
}

size_t mt_tls_loop_open(const struct mt_tls_loop *l)
{
	const struct mt_tls_stream *s;
	size_t count = 0;

	TAILQ_FOREACH(s, &l->all, of_loop)
	{
		count += s->open && !s->released ? 1 : 0;
	}
	return count;
}

size_t mt_tls_loop_half_open(const struct mt_tls_loop *l)
{
	return l->half_open;
}

void mt_tls_loop_shed(struct mt_tls_loop *l)
{
	struct mt_tls_stream *oldest = TAILQ_FIRST(&l->handshakes);

	if (oldest != NULL) {
		mt_tls_stream_on_due(oldest);
	}
}

struct mt_tls_stream *mt_tls_stream_new(struct mt_tls_loop *l, const struct mt_tls_stream_events *e)
{
	struct mt_tls_stream *s = mt_mem_calloc(l->mem, sizeof(*s));

	if (s == NULL) {
		return NULL;
	}
	s->base.kind = &mt_tls_stream_kind;
	s->loop = l;
	s->events = *e;
	TAILQ_INSERT_TAIL(&l->all, s, of_loop);
	if (l->count++ == 0) {
		/* Fails only for a closing handle. */
		(void)uv_timer_start(&l->patrol, on_patrol, PATROL_MS, PATROL_MS);
	}
	return s;
}

static size_t *count_of(struct mt_tls_loop *l, const struct mt_tls_list *list)
{
	return list == &l->handshakes ? &l->half_open : &l->lingering_count;
}

void mt_tls_stream_set_due(struct mt_tls_stream *s, struct mt_tls_list *list, uint64_t ms)
{
	struct mt_tls_loop *l = s->loop;

	mt_tls_stream_clear_due(s);
	s->due_in = list;
	s->due_ms = uv_now(l->uv) + ms;
	TAILQ_INSERT_TAIL(list, s, of_due);
	*count_of(l, list) += 1;
	keep_ticking(l);
}

void mt_tls_stream_clear_due(struct mt_tls_stream *s)
{
	if (s->due_in != NULL) {
		TAILQ_REMOVE(s->due_in, s, of_due);
		*count_of(s->loop, s->due_in) -= 1;
		s->due_in = NULL;
	}
}

void mt_tls_stream_queue_handshake(struct mt_tls_stream *s)
{
	if (!s->is_ready) {
		s->is_ready = true;
		TAILQ_INSERT_TAIL(&s->loop->ready, s, of_ready);
		mt_poller_defer(s->loop->poller, &s->loop->turn, 0);
	}
}

void mt_tls_stream_drop_chunks(struct mt_tls_stream *s, struct mt_chunk **head)
{
	struct mt_chunk *next;

	for (struct mt_chunk *chunk = *head; chunk != NULL; chunk = next) {
		next = chunk->next;
		mt_chunk_free(s->loop->mem, chunk);
	}
	*head = NULL;
}

void mt_tls_stream_free(struct mt_tls_stream *s)
{
	struct mt_tls_loop *l = s->loop;

	if (s->dead) {
		mt_poller_remove(l->poller, &s->item); /* what it was still to be told */
	} else {
		mt_poller_close(l->poller, &s->item);
	}
	mt_tls_stream_clear_due(s);
	if (s->is_ready) {
		TAILQ_REMOVE(&l->ready, s, of_ready);
	}
	TAILQ_REMOVE(&l->all, s, of_loop);
	l->count--;
	mt_tls_stream_drop_chunks(s, &s->rx_head);
	mt_tls_stream_drop_chunks(s, &s->tx_head);
	mt_tls_stream_drop_chunks(s, &s->tx_spare);
	if (s->events.on_gone != NULL) {
		s->events.on_gone(&s->sock, s->events.user);
	}
	mt_tls_socket_drop_session(&s->sock);
	mt_mem_release(l->mem, s);
}
