#include "proto/wire/extended.h"

#include "proto/wire/bytes.h"

bool mt_extended_is(const uint8_t *data, size_t len)
{
	return len >= 2 && data[0] == 0 && data[1] == 0;
}

int mt_extended_decode(struct mt_extended *out, const uint8_t *data, size_t len)
{
	struct mt_extended h;
	struct mt_reader r;
	uint16_t mark;

	mt_reader_init(&r, data, len);
	mark = mt_reader_u16(&r);
	h.session = mt_reader_u32(&r);
	h.packet = mt_reader_u16(&r);
	h.fragment = mt_reader_u8(&r);
	h.count = mt_reader_u8(&r);
	if (r.failed || mark != 0 || h.fragment >= h.count) {
		return MT_E_MALFORMED;
	}
	if (mt_datagram_decode(&h.datagram, r.pos, mt_reader_left(&r)) < 0) {
		return MT_E_MALFORMED;
	}
	if (h.count > 1 && h.datagram.payload_len == 0) {
		return MT_E_MALFORMED;
	}
	*out = h;
	return 0;
}

size_t mt_extended_header_encode(uint8_t *buf, size_t cap, const struct mt_extended *h)
{
	struct mt_writer w;
	size_t target;

	if (h->fragment >= h->count) {
		return 0;
	}
	mt_writer_init(&w, buf, cap);
	mt_writer_u16(&w, 0);
	mt_writer_u32(&w, h->session);
	mt_writer_u16(&w, h->packet);
	mt_writer_u8(&w, h->fragment);
	mt_writer_u8(&w, h->count);
	if (w.failed) {
		return 0;
	}
	target = mt_datagram_header_encode(w.pos, cap - MT_EXTENDED_PREFIX, h->datagram.port,
		h->datagram.host, h->datagram.host_len);
	return target == 0 ? 0 : MT_EXTENDED_PREFIX + target;
}

bool mt_cut_plan(struct mt_cut *out, size_t len, size_t max, size_t header)
{
	size_t room;
	size_t count;

	if (max <= header) {
		return false;
	}
	room = max - header;
	count = len == 0 ? 1 : (len + room - 1) / room;
	if (count > MT_FRAGMENTS_MAX) {
		return false;
	}
	out->count = (uint8_t)count;
	out->piece = (len + count - 1) / count;
	return true;
}
