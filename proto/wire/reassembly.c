#include "proto/wire/reassembly.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct piece {
	size_t len;
	uint8_t data[];
};

struct mt_reassembly_packet {
	TAILQ_ENTRY(mt_reassembly_packet) by_age;
	uint64_t since_ms;
	size_t held;    /* bytes of memory, this struct included */
	size_t payload; /* bytes that have come */
	uint32_t session;
	uint16_t packet;
	uint16_t port;
	uint8_t count;
	uint8_t missing;
	uint8_t host_len;
	char host[MT_HOST_MAX];
	struct piece *pieces[]; /* `count` */
};

void mt_reassembly_pool_init(struct mt_reassembly_pool *pool, const struct mt_allocator *mem)
{
	*pool = (struct mt_reassembly_pool){.mem = *mem};
	LIST_INIT(&pool->busy);
}

void mt_reassembly_init(struct mt_reassembly *r, struct mt_reassembly_pool *pool)
{
	*r = (struct mt_reassembly){.pool = pool};
	TAILQ_INIT(&r->packets);
}

static void hold(struct mt_reassembly *r, struct mt_reassembly_packet *p, size_t bytes)
{
	p->held += bytes;
	r->bytes += bytes;
	r->pool->bytes += bytes;
}

static void remove_packet(struct mt_reassembly *r, struct mt_reassembly_packet *p)
{
	const struct mt_allocator *mem = &r->pool->mem;

	for (unsigned i = 0; i < p->count; i++) {
		mem->release(mem->user, p->pieces[i]);
	}
	r->bytes -= p->held;
	r->pool->bytes -= p->held;
	TAILQ_REMOVE(&r->packets, p, by_age);
	if (--r->count == 0) {
		LIST_REMOVE(r, of_pool);
	}
	mem->release(mem->user, p);
}

static void drop(
	struct mt_reassembly *r, struct mt_reassembly_packet *p, enum mt_reassembly_drop why)
{
	r->pool->dropped[why]++;
	remove_packet(r, p);
}

static bool is_overtaken(const struct mt_reassembly_packet *p, const struct mt_extended *f)
{
	uint16_t ahead = (uint16_t)(f->packet - p->packet);

	return ahead >= MT_REASSEMBLY_WINDOW && ahead < 0x8000;
}

/* The packet that the fragment belongs to; NULL for a new one. Packets of the same session that
 * need not be waited for any more are dropped on the way.
 */
static struct mt_reassembly_packet *find(struct mt_reassembly *r, const struct mt_extended *f)
{
	struct mt_reassembly_packet *next;
	struct mt_reassembly_packet *oldest = NULL;
	unsigned of_session = 0;

	for (struct mt_reassembly_packet *p = TAILQ_FIRST(&r->packets); p != NULL; p = next) {
		next = TAILQ_NEXT(p, by_age);
		if (p->session != f->session) {
			continue;
		}
		if (p->packet == f->packet) {
			return p;
		}
		if (is_overtaken(p, f)) {
			drop(r, p, MT_REASSEMBLY_LATE);
			continue;
		}
		oldest = oldest == NULL ? p : oldest;
		of_session++;
	}
	if (of_session >= MT_REASSEMBLY_SESSION_PACKETS) {
		drop(r, oldest, MT_REASSEMBLY_FULL);
	}
	return NULL;
}

/* Whoever holds most gives way. */
static struct mt_reassembly *heaviest(struct mt_reassembly_pool *pool)
{
	struct mt_reassembly *found = LIST_FIRST(&pool->busy);
	struct mt_reassembly *x;

	LIST_FOREACH(x, &pool->busy, of_pool)
	{
		if (x->bytes > found->bytes) {
			found = x;
		}
	}
	return found;
}

/* Makes room for `bytes` more; `keep` is not dropped. False when nothing else can be. */
static bool make_room(struct mt_reassembly *r, const struct mt_reassembly_packet *keep,
	size_t bytes, unsigned packets)
{
	struct mt_reassembly_pool *pool = r->pool;

	while (r->count + packets > MT_REASSEMBLY_PACKETS ||
		r->bytes + bytes > MT_REASSEMBLY_BYTES ||
		pool->bytes + bytes > MT_REASSEMBLY_POOL_BYTES) {
		bool own = r->count + packets > MT_REASSEMBLY_PACKETS ||
			   r->bytes + bytes > MT_REASSEMBLY_BYTES;
		struct mt_reassembly *from = own ? r : heaviest(pool);
		struct mt_reassembly_packet *p = from == NULL ? NULL : TAILQ_FIRST(&from->packets);

		if (p != NULL && p == keep) {
			p = TAILQ_NEXT(p, by_age);
		}
		if (p == NULL) {
			return false;
		}
		drop(from, p, MT_REASSEMBLY_FULL);
	}
	return true;
}

static struct mt_reassembly_packet *start(
	struct mt_reassembly *r, const struct mt_extended *f, uint64_t now_ms)
{
	const struct mt_allocator *mem = &r->pool->mem;
	const size_t size = sizeof(struct mt_reassembly_packet) + f->count * sizeof(struct piece *);
	struct mt_reassembly_packet *p;

	if (!make_room(r, NULL, size, 1)) {
		r->pool->dropped[MT_REASSEMBLY_FULL]++;
		return NULL;
	}
	p = mem->alloc(mem->user, size);
	if (p == NULL) {
		r->pool->dropped[MT_REASSEMBLY_MEMORY]++;
		return NULL;
	}
	memset(p, 0, size);
	p->since_ms = now_ms;
	p->session = f->session;
	p->packet = f->packet;
	p->port = f->datagram.port;
	p->count = f->count;
	p->missing = f->count;
	p->host_len = f->datagram.host_len;
	memcpy(p->host, f->datagram.host, f->datagram.host_len);
	TAILQ_INSERT_TAIL(&r->packets, p, by_age);
	if (r->count++ == 0) {
		LIST_INSERT_HEAD(&r->pool->busy, r, of_pool);
	}
	hold(r, p, size);
	return p;
}

static bool is_of_same_packet(const struct mt_reassembly_packet *p, const struct mt_extended *f)
{
	return p->count == f->count && p->port == f->datagram.port &&
	       p->host_len == f->datagram.host_len &&
	       memcmp(p->host, f->datagram.host, p->host_len) == 0;
}

static bool is_same_piece(const struct piece *piece, const struct mt_datagram *d)
{
	return piece->len == d->payload_len && memcmp(piece->data, d->payload, piece->len) == 0;
}

static void join(const struct mt_reassembly_packet *p, uint8_t *out, size_t *len)
{
	size_t fill = 0;

	for (unsigned i = 0; i < p->count; i++) {
		memcpy(out + fill, p->pieces[i]->data, p->pieces[i]->len);
		fill += p->pieces[i]->len;
	}
	*len = fill;
}

static int add_piece(
	struct mt_reassembly *r, struct mt_reassembly_packet *p, const struct mt_extended *f)
{
	const struct mt_allocator *mem = &r->pool->mem;
	const size_t size = sizeof(struct piece) + f->datagram.payload_len;
	struct piece *piece;

	if (p->payload + f->datagram.payload_len > MT_UDP_PAYLOAD_MAX) {
		drop(r, p, MT_REASSEMBLY_TOO_LONG);
		return MT_E_TOO_LONG;
	}
	if (!make_room(r, p, size, 0)) {
		drop(r, p, MT_REASSEMBLY_FULL);
		return MT_E_LIMIT;
	}
	piece = mem->alloc(mem->user, size);
	if (piece == NULL) {
		drop(r, p, MT_REASSEMBLY_MEMORY);
		return -ENOMEM;
	}
	piece->len = f->datagram.payload_len;
	memcpy(piece->data, f->datagram.payload, piece->len);
	p->pieces[f->fragment] = piece;
	p->payload += piece->len;
	p->missing--;
	hold(r, p, size);
	return 0;
}

int mt_reassembly_add(struct mt_reassembly *r, const struct mt_extended *fragment, uint64_t now_ms,
	uint8_t *out, size_t *len)
{
	struct mt_reassembly_packet *p;
	int err;

	mt_reassembly_expire(r, now_ms);
	p = find(r, fragment);
	if (p == NULL) {
		p = start(r, fragment, now_ms);
		if (p == NULL) {
			return MT_E_LIMIT;
		}
	} else if (!is_of_same_packet(p, fragment)) {
		drop(r, p, MT_REASSEMBLY_MISMATCH);
		return MT_E_MALFORMED;
	}
	if (p->pieces[fragment->fragment] != NULL) {
		if (is_same_piece(p->pieces[fragment->fragment], &fragment->datagram)) {
			r->pool->duplicates++;
			return MT_E_AGAIN;
		}
		drop(r, p, MT_REASSEMBLY_MISMATCH);
		return MT_E_MALFORMED;
	}
	err = add_piece(r, p, fragment);
	if (err < 0) {
		return err;
	}
	if (p->missing > 0) {
		return MT_E_AGAIN;
	}
	join(p, out, len);
	remove_packet(r, p);
	return 0;
}

uint64_t mt_reassembly_due_ms(const struct mt_reassembly *r)
{
	const struct mt_reassembly_packet *oldest = TAILQ_FIRST(&r->packets);

	return oldest == NULL ? UINT64_MAX : oldest->since_ms + MT_REASSEMBLY_MS;
}

void mt_reassembly_expire(struct mt_reassembly *r, uint64_t now_ms)
{
	while (mt_reassembly_due_ms(r) <= now_ms) {
		drop(r, TAILQ_FIRST(&r->packets), MT_REASSEMBLY_LATE);
	}
}

void mt_reassembly_forget(struct mt_reassembly *r, uint32_t session)
{
	struct mt_reassembly_packet *next;

	for (struct mt_reassembly_packet *p = TAILQ_FIRST(&r->packets); p != NULL; p = next) {
		next = TAILQ_NEXT(p, by_age);
		if (p->session == session) {
			remove_packet(r, p);
		}
	}
}

void mt_reassembly_clear(struct mt_reassembly *r)
{
	while (r->count > 0) {
		remove_packet(r, TAILQ_FIRST(&r->packets));
	}
}
