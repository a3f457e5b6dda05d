#include "proto/quic/qlog.h"

#include "proto/quic/impl.h"

#include <string.h>

#define SAFE_FROM 0x011601 /* 1.22.1 */

struct mt_qlog {
	struct mt_chunk *head; /* held, oldest first */
	struct mt_chunk *tail;
	unsigned chunks;
	uint64_t lost;
	bool kept; /* its client is the one: told at once */
};

bool mt_qlog_is_safe(int version)
{
	return version >= SAFE_FROM;
}

int mt_qlog_library(const char **text)
{
	const ngtcp2_info *info = ngtcp2_version(0);

	*text = info->version_str;
	return info->version_num;
}

bool mt_conn_has_qlog(const struct mt_conn *c)
{
	return c->qlog != NULL;
}

static void free_held(struct mt_conn *c)
{
	struct mt_chunk *chunk;

	if (!c->qlog->kept) {
		c->ep->qlogs_held--;
	}
	while ((chunk = c->qlog->head)) {
		c->qlog->head = chunk->next;
		mt_chunk_free(c->ep->cfg.mem, chunk);
	}
	c->qlog->tail = NULL;
}

void mt_conn_drop_qlog(struct mt_conn *c)
{
	if (c->qlog) {
		free_held(c);
		mt_mem_release(c->ep->cfg.mem, c->qlog);
		c->qlog = NULL;
	}
}

void mt_conn_drop_held_qlog(struct mt_conn *c)
{
	if (c->qlog && !c->qlog->kept) {
		mt_conn_drop_qlog(c);
	}
}

/* Whether there is room for so many bytes at the end of the last chunk. */
static bool make_room(struct mt_conn *c, size_t len)
{
	struct mt_qlog *q = c->qlog;
	struct mt_chunk *chunk;

	/* Once something was lost, what follows would leave a hole. */
	if (q->lost > 0 || len > MT_CHUNK_BYTES) {
		return false;
	}
	if (q->tail && MT_CHUNK_BYTES - q->tail->len >= len) {
		return true;
	}
	chunk = q->chunks < MT_QLOG_HELD_CHUNKS ? mt_chunk_new(c->ep->cfg.mem) : NULL;
	if (!chunk) {
		return false;
	}
	chunk->next = NULL;
	chunk->off = chunk->len = 0;
	if (q->tail) {
		q->tail->next = chunk;
	} else {
		q->head = chunk;
	}
	q->tail = chunk;
	q->chunks++;
	return true;
}

static void tell(struct mt_conn *c, const struct mt_qlog_part *part)
{
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;

	if (!ev->on_qlog(ev->user, c, part)) {
		mt_conn_drop_qlog(c);
	}
}

/* ngtcp2 calls it with one record each time, from inside any of its calls. */
static void on_write(void *user, uint32_t flags, const void *data, size_t len)
{
	struct mt_conn *c = user;
	struct mt_qlog *q = c->qlog;

	if (!q) {
		return; /* switched off: the library cannot be told */
	}
	if (q->kept) {
		tell(c, &(struct mt_qlog_part){.data = data,
				.len = len,
				.end = (flags & NGTCP2_QLOG_WRITE_FLAG_FIN) != 0});
	} else if (len > 0 && make_room(c, len)) {
		memcpy(q->tail->data + q->tail->len, data, len);
		q->tail->len += (uint32_t)len;
	} else if (len > 0) {
		q->lost++;
	}
}

void mt_conn_start_qlog(struct mt_conn *c, ngtcp2_settings *settings)
{
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;
	const char *text;

	if (!c->server || !ev->wants_qlog || !ev->wants_qlog(ev->user) ||
		!mt_qlog_is_safe(mt_qlog_library(&text)) || c->ep->qlogs_held >= MT_QLOG_HELD_MAX) {
		return;
	}
	c->qlog = mt_mem_calloc(c->ep->cfg.mem, sizeof(*c->qlog));
	if (c->qlog) { /* otherwise the connection goes on without */
		c->ep->qlogs_held++;
		settings->qlog_write = on_write;
	}
}

void mt_conn_keep_qlog(struct mt_conn *c)
{
	struct mt_qlog *q = c->qlog;
	struct mt_chunk *chunk;

	if (!q || q->kept) {
		return;
	}
	q->kept = true;
	c->ep->qlogs_held--;
	/* Dropped on the way when nobody wants it any more. */
	while (c->qlog && (chunk = q->head)) {
		struct mt_qlog_part part = {.data = chunk->data, .len = chunk->len};

		q->head = chunk->next;
		tell(c, &part);
		mt_chunk_free(c->ep->cfg.mem, chunk);
	}
	if (c->qlog) {
		q->tail = NULL;
	}
	if (c->qlog && q->lost > 0) {
		tell(c, &(struct mt_qlog_part){.lost = q->lost});
	}
}
