#include "proto/wire/bytes.h"

#include <string.h>

void mt_reader_init(struct mt_reader *r, const void *data, size_t len)
{
	static const uint8_t nothing;

	/* Arithmetic on a null pointer is undefined, and empty input often comes with one. */
	r->pos = data != NULL ? data : &nothing;
	r->end = r->pos + (data != NULL ? len : 0);
	r->failed = false;
}

size_t mt_reader_left(const struct mt_reader *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->pos);
}

const uint8_t *mt_reader_bytes(struct mt_reader *r, size_t len)
{
	const uint8_t *p = r->pos;

	if (r->failed || len > (size_t)(r->end - r->pos)) {
		r->failed = true;
		return NULL;
	}
	r->pos += len;
	return p;
}

static uint64_t read_number(struct mt_reader *r, size_t len)
{
	const uint8_t *p = mt_reader_bytes(r, len);
	uint64_t v = 0;

	if (p == NULL) {
		return 0;
	}
	for (size_t i = 0; i < len; i++) {
		v = v << 8 | p[i];
	}
	return v;
}

uint8_t mt_reader_u8(struct mt_reader *r)
{
	return (uint8_t)read_number(r, 1);
}

uint16_t mt_reader_u16(struct mt_reader *r)
{
	return (uint16_t)read_number(r, 2);
}

uint32_t mt_reader_u32(struct mt_reader *r)
{
	return (uint32_t)read_number(r, 4);
}

uint64_t mt_reader_u64(struct mt_reader *r)
{
	return read_number(r, 8);
}

void mt_writer_init(struct mt_writer *w, void *data, size_t cap)
{
	static uint8_t nothing;

	w->start = data != NULL ? data : &nothing;
	w->pos = w->start;
	w->end = w->start + (data != NULL ? cap : 0);
	w->failed = false;
}

size_t mt_writer_len(const struct mt_writer *w)
{
	return (size_t)(w->pos - w->start);
}

static void write_number(struct mt_writer *w, uint64_t v, size_t len)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < len; i++) {
		bytes[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
	}
	mt_writer_bytes(w, bytes, len);
}

void mt_writer_u8(struct mt_writer *w, uint8_t v)
{
	write_number(w, v, 1);
}

void mt_writer_u16(struct mt_writer *w, uint16_t v)
{
	write_number(w, v, 2);
}

void mt_writer_u32(struct mt_writer *w, uint32_t v)
{
	write_number(w, v, 4);
}

void mt_writer_u64(struct mt_writer *w, uint64_t v)
{
	write_number(w, v, 8);
}

void mt_writer_bytes(struct mt_writer *w, const void *data, size_t len)
{
	if (w->failed || len > (size_t)(w->end - w->pos)) {
		w->failed = true;
		return;
	}
	if (len > 0) {
		memcpy(w->pos, data, len);
		w->pos += len;
	}
}
