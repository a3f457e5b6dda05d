#include "proto/wire/frame.h"

#include <errno.h>
#include <string.h>

void mt_frame_reader_init(struct mt_frame_reader *r, const struct mt_allocator *mem)
{
	*r = (struct mt_frame_reader){.mem = mem};
}

void mt_frame_reader_deinit(struct mt_frame_reader *r)
{
	r->mem->release(r->mem->user, r->body);
	mt_frame_reader_init(r, r->mem);
}

static void take(const uint8_t **data, size_t *len, size_t n)
{
	*data += n;
	*len -= n;
}

/* The length, when both of its bytes are there. */
static bool read_head(struct mt_frame_reader *r, const uint8_t **data, size_t *len)
{
	while (r->head_len<MT_FRAME_HEAD && * len> 0) {
		r->head[r->head_len++] = **data;
		take(data, len, 1);
	}
	if (r->head_len < MT_FRAME_HEAD) {
		return false;
	}
	r->len = (size_t)r->head[0] << 8 | r->head[1];
	return true;
}

/* Adds what is there to a datagram that came in part; without memory its bytes are passed over. */
static int gather(struct mt_frame_reader *r, const uint8_t **data, size_t *len)
{
	size_t n = r->len - r->fill < *len ? r->len - r->fill : *len;

	if (r->fill == 0 && r->body == NULL) {
		r->body = r->mem->alloc(r->mem->user, r->len);
	}
	if (r->body != NULL && n > 0) {
		memcpy(r->body + r->fill, *data, n);
	}
	r->fill += n;
	take(data, len, n);
	if (r->fill < r->len) {
		return MT_E_AGAIN;
	}
	return r->body != NULL ? 0 : -ENOMEM;
}

static void start_over(struct mt_frame_reader *r)
{
	r->head_len = 0;
	r->fill = 0;
	r->len = 0;
}

int mt_frame_next(struct mt_frame_reader *r, const uint8_t **data, size_t *len,
	const uint8_t **datagram, size_t *datagram_len)
{
	int err;

	if (r->given) {
		mt_frame_reader_deinit(r);
	}
	if (!read_head(r, data, len)) {
		return MT_E_AGAIN;
	}
	if (r->fill == 0 && *len >= r->len) {
		*datagram = *data;
		*datagram_len = r->len;
		take(data, len, r->len);
		start_over(r);
		return 0;
	}
	if (*len == 0) {
		return MT_E_AGAIN;
	}
	err = gather(r, data, len);
	if (err == MT_E_AGAIN) {
		return err;
	}
	*datagram = r->body;
	*datagram_len = r->len;
	start_over(r);
	r->given = err == 0;
	return err;
}

bool mt_frame_reader_is_between(const struct mt_frame_reader *r)
{
	return r->head_len == 0;
}

int mt_frame_head(uint8_t buf[MT_FRAME_HEAD], size_t datagram_len)
{
	if (datagram_len > MT_FRAME_MAX) {
		return MT_E_TOO_LONG;
	}
	buf[0] = (uint8_t)(datagram_len >> 8);
	buf[1] = (uint8_t)(datagram_len & 0xff);
	return 0;
}
