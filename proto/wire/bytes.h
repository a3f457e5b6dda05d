/* Bounded cursors with a sticky error: parse or build everything, check once at the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads from borrowed memory. After an overrun every get returns 0 or NULL and `failed` stays. */
struct mt_reader {
	const uint8_t *pos;
	const uint8_t *end;
	bool failed;
};

/* Writes to borrowed memory. After an overrun nothing is written any more and `failed` stays. */
struct mt_writer {
	uint8_t *pos;
	uint8_t *start;
	uint8_t *end;
	bool failed;
};

void mt_reader_init(struct mt_reader *r, const void *data, size_t len);
size_t mt_reader_left(const struct mt_reader *r);
uint8_t mt_reader_u8(struct mt_reader *r);
uint16_t mt_reader_u16(struct mt_reader *r); /* big endian, as all below */
uint32_t mt_reader_u32(struct mt_reader *r);
uint64_t mt_reader_u64(struct mt_reader *r);
/* `len` bytes, borrowed from the input; NULL past the end. */
const uint8_t *mt_reader_bytes(struct mt_reader *r, size_t len);

void mt_writer_init(struct mt_writer *w, void *data, size_t cap);
size_t mt_writer_len(const struct mt_writer *w);
void mt_writer_u8(struct mt_writer *w, uint8_t v);
void mt_writer_u16(struct mt_writer *w, uint16_t v);
void mt_writer_u32(struct mt_writer *w, uint32_t v);
void mt_writer_u64(struct mt_writer *w, uint64_t v);
void mt_writer_bytes(struct mt_writer *w, const void *data, size_t len);
