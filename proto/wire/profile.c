#include "proto/wire/profile.h"

#include "proto/wire/addr.h"
#include "proto/wire/bytes.h"
#include "proto/wire/encode.h"

#include <string.h>
#include <strings.h>

#define SCHEME "mytunnel://"

/* A piece of the URI, and the first thing found wrong with it. */
struct parse {
	const char *text; /* the caller's, offsets count from here */
	const char *wrong_at;
	const char *wrong;
};

struct span {
	const char *start;
	size_t len;
};

static int refuse(struct parse *p, int err, const char *at, const char *what)
{
	p->wrong_at = at;
	p->wrong = what;
	return err;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span span_of(const char *start, const char *end)
{
	return (struct span){start, (size_t)(end - start)};
}

/* Decodes escapes ("%41"); NUL has no place in any part. MT_E_TOO_LONG when `out` is too small. */
static int unescape(struct parse *p, char *out, size_t cap, size_t *out_len, struct span in)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++) {
		uint8_t c = (uint8_t)in.start[i];

		if (c == '%') {
			if (in.len - i < 3 || mt_hex_decode(&c, 1, in.start + i + 1, 2) < 0 ||
				c == 0) {
				return refuse(p, MT_E_MALFORMED, in.start + i, "bad escape");
			}
			i += 2;
		} else if (c <= 0x20 || c >= 0x7f) {
			return refuse(p, MT_E_MALFORMED, in.start + i,
				"a character that must be written as an escape");
		}
		if (n + 1 >= cap) {
			return refuse(p, MT_E_TOO_LONG, in.start, "this part is too long");
		}
		out[n++] = (char)c;
	}
	out[n] = '\0';
	*out_len = n;
	return 0;
}

static int parse_key(struct parse *p, struct mt_profile *out, struct span key)
{
	if (mt_base64url_decode(out->key, sizeof(out->key), key.start, key.len) < 0) {
		return refuse(p, MT_E_MALFORMED, key.start, "the key is not base64url of 32 bytes");
	}
	out->has_key = true;
	return 0;
}

static int parse_server(struct parse *p, struct mt_profile *out, struct span server)
{
	const char *end = server.start + server.len;
	const char *colon = memrchr(server.start, ':', server.len);
	struct span host = server;
	char decoded[sizeof(out->host)];
	enum mt_host_kind kind = MT_HOST_NAME;
	struct mt_addr addr;
	uint32_t port = 0;
	size_t len = 0;
	int err = 0;

	if (colon == NULL || colon + 1 == end || end - colon > 6) {
		return refuse(p, MT_E_MALFORMED, end, "HOST:PORT is expected before this");
	}
	for (const char *c = colon + 1; c < end; c++) {
		if (*c < '0' || *c > '9') {
			return refuse(p, MT_E_MALFORMED, c, "the port is not a number");
		}
		port = port * 10 + (uint32_t)(*c - '0');
	}
	if (port == 0 || port > UINT16_MAX) {
		return refuse(p, MT_E_MALFORMED, colon + 1, "the port is not from 1 to 65535");
	}
	host.len = (size_t)(colon - server.start);
	err = unescape(p, decoded, sizeof(decoded), &len, host);
	if (err < 0) {
		return err;
	}
	if (mt_host_parse(&kind, &addr, decoded, len, (uint16_t)port) < 0 ||
		(kind == MT_HOST_IPV6) != (decoded[0] == '[')) {
		return refuse(p, MT_E_MALFORMED, host.start,
			"the host is not a name, an IPv4 address or an IPv6 address in brackets");
	}
	if (kind == MT_HOST_IPV6) {
		memcpy(out->host, decoded + 1, len - 2);
		out->host[len - 2] = '\0';
	} else {
		memcpy(out->host, decoded, len + 1);
	}
	out->port = (uint16_t)port;
	return 0;
}

static int parse_pins(struct parse *p, struct mt_profile *out, struct span value)
{
	char list[MT_PROFILE_MAX + 1];
	const char *item = list;
	size_t len = 0;
	int err = 0;

	if (out->pin_count > 0) {
		return refuse(p, MT_E_MALFORMED, value.start, "pin is given twice");
	}
	err = unescape(p, list, sizeof(list), &len, value);
	if (err < 0) {
		return err;
	}
	for (;;) {
		size_t n = strcspn(item, ",");

		if (out->pin_count == MT_PINS_MAX) {
			return refuse(p, MT_E_TOO_LONG, value.start, "more than 8 pins");
		}
		if (mt_base64url_decode(out->pins[out->pin_count], MT_PIN_LEN, item, n) < 0) {
			return refuse(p, MT_E_MALFORMED, value.start,
				"a pin is not base64url of 32 bytes");
		}
		out->pin_count++;
		item += n;
		if (*item == '\0') {
			return 0;
		}
		item++;
	}
}

static int parse_parameters(struct parse *p, struct mt_profile *out, struct span all)
{
	char ignored[MT_PROFILE_MAX + 1];
	const char *end = all.start + all.len;
	size_t len = 0;

	for (const char *at = all.start; at < end;) {
		const char *stop = memchr(at, '&', (size_t)(end - at));
		struct span one = span_of(at, stop != NULL ? stop : end);
		int err = 0;

		if (one.len >= 3 && memcmp(at, "pin", 3) == 0 && (one.len == 3 || at[3] == '=')) {
			/* "pin" without a value must not pass as a profile without a pin. */
			err = parse_pins(p, out,
				one.len == 3 ? span_of(at + 3, at + 3)
					     : span_of(at + 4, at + one.len));
		} else {
			err = unescape(p, ignored, sizeof(ignored), &len, one);
		}
		if (err < 0) {
			return err;
		}
		at += one.len + 1;
	}
	return 0;
}

static int parse_name(struct parse *p, struct mt_profile *out, struct span name)
{
	size_t len = 0;
	int err = unescape(p, out->name, sizeof(out->name), &len, name);

	if (err < 0) {
		return err;
	}
	if (len > 0 && mt_name_check(out->name) < 0) {
		return refuse(p, MT_E_MALFORMED, name.start,
			"the name has other characters than letters, digits, '.', '_', '-' and "
			"'@'");
	}
	return 0;
}

static int parse_uri(struct parse *p, struct mt_profile *out, const char *uri, const char *end)
{
	const size_t scheme_len = strlen(SCHEME);
	const char *hash = NULL, *question = NULL, *at = NULL;
	int err = 0;

	if ((size_t)(end - uri) > MT_PROFILE_MAX) {
		return refuse(p, MT_E_TOO_LONG, uri + MT_PROFILE_MAX, "the profile is too long");
	}
	if ((size_t)(end - uri) < scheme_len || strncasecmp(uri, SCHEME, scheme_len) != 0) {
		return refuse(p, MT_E_MALFORMED, uri, "a profile starts with " SCHEME);
	}
	uri += scheme_len;
	hash = memchr(uri, '#', (size_t)(end - uri));
	if (hash != NULL) {
		err = parse_name(p, out, span_of(hash + 1, end));
		if (err < 0) {
			return err;
		}
		end = hash;
	}
	question = memchr(uri, '?', (size_t)(end - uri));
	if (question != NULL) {
		err = parse_parameters(p, out, span_of(question + 1, end));
		if (err < 0) {
			return err;
		}
		end = question;
	}
	at = memchr(uri, '@', (size_t)(end - uri));
	if (at != NULL) {
		err = parse_key(p, out, span_of(uri, at));
		if (err < 0) {
			return err;
		}
		uri = at + 1;
	}
	return parse_server(p, out, span_of(uri, end));
}

int mt_profile_parse(struct mt_profile *out, const char *text, size_t *where, const char **what)
{
	struct mt_profile profile;
	struct parse p = {.text = text};
	const char *start = text, *end = text + strlen(text);
	int err = 0;

	memset(&profile, 0, sizeof(profile));
	while (is_blank(*start)) {
		start++;
	}
	while (end > start && is_blank(end[-1])) {
		end--;
	}
	err = parse_uri(&p, &profile, start, end);
	if (err < 0) {
		if (where != NULL) {
			*where = (size_t)(p.wrong_at - p.text);
		}
		if (what != NULL) {
			*what = p.wrong;
		}
	} else {
		*out = profile;
	}
	mt_wipe(&profile, sizeof(profile));
	return err;
}

/* Bytes that may stand in a host as they are; a name's others are written as escapes. */
static void write_host(struct mt_writer *w, const char *host)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *host != '\0'; host++) {
		uint8_t c = (uint8_t)*host;

		if (c < 0x80) {
			mt_writer_u8(w, c);
		} else {
			mt_writer_u8(w, '%');
			mt_writer_u8(w, (uint8_t)hex[c >> 4]);
			mt_writer_u8(w, (uint8_t)hex[c & 0x0f]);
		}
	}
}

static void write_text(struct mt_writer *w, const char *text)
{
	mt_writer_bytes(w, text, strlen(text));
}

static void write_port(struct mt_writer *w, uint16_t port)
{
	char digits[6];
	size_t n = sizeof(digits);

	digits[--n] = '\0';
	do {
		digits[--n] = (char)('0' + port % 10);
		port /= 10;
	} while (port != 0);
	write_text(w, digits + n);
}

/* The kind of the host, or why the profile cannot be written so that it reads as the same. */
static int check_profile(const struct mt_profile *profile, enum mt_host_kind *kind)
{
	struct mt_addr addr;

	if (memchr(profile->host, '\0', sizeof(profile->host)) == NULL || profile->host[0] == '[' ||
		mt_host_parse(kind, &addr, profile->host, strlen(profile->host), profile->port) <
			0 ||
		profile->port == 0 || profile->pin_count > MT_PINS_MAX) {
		return MT_E_MALFORMED;
	}
	if (memchr(profile->name, '\0', sizeof(profile->name)) == NULL) {
		return MT_E_MALFORMED;
	}
	return profile->name[0] != '\0' ? mt_name_check(profile->name) : 0;
}

int mt_profile_format(const struct mt_profile *profile, char *buf, size_t cap)
{
	char uri[MT_PROFILE_MAX + 1], text[MT_BASE64URL_LEN(MT_KEY_LEN) + 1];
	enum mt_host_kind kind = MT_HOST_NAME;
	struct mt_writer w;
	int err = check_profile(profile, &kind);

	if (err < 0) {
		return err;
	}
	mt_writer_init(&w, uri, sizeof(uri));
	write_text(&w, SCHEME);
	if (profile->has_key) {
		mt_base64url_encode(text, profile->key, MT_KEY_LEN);
		write_text(&w, text);
		mt_writer_u8(&w, '@');
	}
	write_text(&w, kind == MT_HOST_IPV6 ? "[" : "");
	write_host(&w, profile->host);
	write_text(&w, kind == MT_HOST_IPV6 ? "]:" : ":");
	write_port(&w, profile->port);
	for (size_t i = 0; i < profile->pin_count; i++) {
		write_text(&w, i == 0 ? "?pin=" : ",");
		mt_base64url_encode(text, profile->pins[i], MT_PIN_LEN);
		write_text(&w, text);
	}
	if (profile->name[0] != '\0') {
		mt_writer_u8(&w, '#');
		write_text(&w, profile->name);
	}
	mt_writer_u8(&w, 0);
	if (w.failed || mt_writer_len(&w) > cap) {
		err = MT_E_TOO_LONG;
	} else {
		memcpy(buf, uri, mt_writer_len(&w));
	}
	mt_wipe(text, sizeof(text));
	mt_wipe(uri, sizeof(uri));
	return err;
}

void mt_profile_deinit(struct mt_profile *profile)
{
	mt_wipe(profile->key, sizeof(profile->key));
	profile->has_key = false;
}

int mt_name_check(const char *name)
{
	size_t len = strnlen(name, MT_NAME_MAX + 1);

	if (len > MT_NAME_MAX) {
		return MT_E_TOO_LONG;
	}
	if (len == 0 || name[0] == '.' || name[0] == '-') {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    c == '.' || c == '_' || c == '-' || c == '@')) {
			return MT_E_MALFORMED;
		}
	}
	return 0;
}
