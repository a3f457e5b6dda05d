#include "proto/wire/encode.h"

#include <string.h>

void mt_base64url_encode(char *out, const uint8_t *data, size_t len)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	unsigned have = 0;

	for (size_t i = 0; i < len; i++) {
		bits = (bits << 8 | data[i]) & 0xffff;
		have += 8;
		while (have >= 6) {
			have -= 6;
			*out++ = alphabet[bits >> have & 0x3f];
		}
	}
	if (have > 0) {
		*out++ = alphabet[bits << (6 - have) & 0x3f];
	}
	*out = '\0';
}

static int base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z') {
		return c - 'A';
	}
	if (c >= 'a' && c <= 'z') {
		return c - 'a' + 26;
	}
	if (c >= '0' && c <= '9') {
		return c - '0' + 52;
	}
	if (c == '-') {
		return 62;
	}
	return c == '_' ? 63 : -1;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int mt_base64url_decode(uint8_t *out, size_t out_len, const char *text, size_t text_len)
{
	uint32_t bits = 0;
	unsigned have = 0;

	/* Compared by the text's length: out_len * 8 could overflow. Texts of 4n+1 characters have
	 * no meaning. */
	if (text_len % 4 == 1 || text_len / 4 * 3 + text_len % 4 * 3 / 4 != out_len) {
		return MT_E_MALFORMED;
	}
	/* All is checked before anything is written. */
	for (size_t i = 0; i < text_len; i++) {
		if (base64url_value(text[i]) < 0) {
			return MT_E_MALFORMED;
		}
	}
	if (text_len % 4 != 0) {
		unsigned stray = text_len % 4 == 2 ? 0x0f : 0x03;

		if (((unsigned)base64url_value(text[text_len - 1]) & stray) != 0) {
			return MT_E_MALFORMED;
		}
	}
	for (size_t i = 0; i < text_len; i++) {
		bits = (bits << 6 | (uint32_t)base64url_value(text[i])) & 0xffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			*out++ = (uint8_t)(bits >> have);
		}
	}
	mt_wipe(&bits, sizeof(bits));
	return 0;
}

void mt_hex_encode(char *out, const uint8_t *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[data[i] >> 4];
		*out++ = digits[data[i] & 0x0f];
	}
	*out = '\0';
}

int mt_hex_decode(uint8_t *out, size_t out_len, const char *text, size_t text_len)
{
	if (text_len % 2 != 0 || text_len / 2 != out_len) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < text_len; i++) {
		if (hex_value(text[i]) < 0) {
			return MT_E_MALFORMED;
		}
	}
	for (size_t i = 0; i < out_len; i++) {
		unsigned high = (unsigned)hex_value(text[2 * i]);
		unsigned low = (unsigned)hex_value(text[2 * i + 1]);

		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

void mt_wipe(void *data, size_t len)
{
	if (len > 0) {
		explicit_bzero(data, len);
	}
}
