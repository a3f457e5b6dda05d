#include "proto/wire/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_LEN  253
#define LABEL_MAX_LEN 63

/* Decimal digits only: strtoul would take blanks and signs. */
static int parse_decimal(uint32_t *out, const char *text, size_t len, uint32_t max)
{
	uint64_t v = 0;

	if (len == 0 || len > 10) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9') {
			return MT_E_MALFORMED;
		}
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	if (v > max) {
		return MT_E_MALFORMED;
	}
	*out = (uint32_t)v;
	return 0;
}

static void set_v4(struct mt_addr *out, struct in_addr ip, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	out->v4.sin_family = AF_INET;
	out->v4.sin_addr = ip;
	out->v4.sin_port = htons(port);
	out->len = sizeof(out->v4);
}

static void set_v6(struct mt_addr *out, const struct in6_addr *ip, uint32_t scope, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	out->v6.sin6_family = AF_INET6;
	out->v6.sin6_addr = *ip;
	out->v6.sin6_scope_id = scope;
	out->v6.sin6_port = htons(port);
	out->len = sizeof(out->v6);
}

/* inet_pton on a text that does not end in NUL. */
static int parse_literal(int family, void *ip, const char *text, size_t len)
{
	char copy[INET6_ADDRSTRLEN];

	if (len == 0 || len >= sizeof(copy) || memchr(text, '\0', len) != NULL) {
		return MT_E_MALFORMED;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	return inet_pton(family, copy, ip) == 1 ? 0 : MT_E_MALFORMED;
}

int mt_addr_parse(struct mt_addr *out, const char *text)
{
	const char *close = NULL, *colon = NULL, *percent = NULL;
	struct in_addr v4;
	struct in6_addr v6;
	uint32_t port = 0, scope = 0;
	size_t len = 0;

	if (text[0] != '[') {
		colon = strchr(text, ':');
		if (colon == NULL ||
			parse_literal(AF_INET, &v4, text, (size_t)(colon - text)) < 0 ||
			parse_decimal(&port, colon + 1, strlen(colon + 1), UINT16_MAX) < 0) {
			return MT_E_MALFORMED;
		}
		set_v4(out, v4, (uint16_t)port);
		return 0;
	}
	close = strchr(text, ']');
	if (close == NULL || close[1] != ':' ||
		parse_decimal(&port, close + 2, strlen(close + 2), UINT16_MAX) < 0) {
		return MT_E_MALFORMED;
	}
	text++;
	len = (size_t)(close - text);
	percent = memchr(text, '%', len);
	if (percent != NULL) {
		if (parse_decimal(&scope, percent + 1, (size_t)(close - percent - 1), UINT32_MAX) <
			0) {
			return MT_E_MALFORMED;
		}
		len = (size_t)(percent - text);
	}
	if (parse_literal(AF_INET6, &v6, text, len) < 0) {
		return MT_E_MALFORMED;
	}
	set_v6(out, &v6, scope, (uint16_t)port);
	return 0;
}

int mt_addr_from_sockaddr(struct mt_addr *out, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	/* Copied first: the caller's bytes may be unaligned for the concrete type. */
	if (sa != NULL && len >= sizeof(v4) && sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		set_v4(out, v4.sin_addr, ntohs(v4.sin_port));
		return 0;
	}
	if (sa != NULL && len >= sizeof(v6) && sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		set_v6(out, &v6.sin6_addr, v6.sin6_scope_id, ntohs(v6.sin6_port));
		return 0;
	}
	return MT_E_UNSUPPORTED;
}

const char *mt_addr_format_host(const struct mt_addr *addr, char *buf, size_t cap)
{
	char ip[INET6_ADDRSTRLEN] = "-";

	assert(cap >= MT_ADDR_TEXT_MAX);
	if (addr->len != 0 && addr->sa.sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &addr->v4.sin_addr, ip, sizeof(ip)); /* cannot be short */
	} else if (addr->len != 0) {
		(void)inet_ntop(AF_INET6, &addr->v6.sin6_addr, ip, sizeof(ip)); /* likewise */
		if (addr->v6.sin6_scope_id != 0) {
			(void)snprintf(
				buf, cap, "%s%%%u", ip, addr->v6.sin6_scope_id); /* likewise */
			return buf;
		}
	}
	(void)snprintf(buf, cap, "%s", ip); /* likewise */
	return buf;
}

const char *mt_addr_format(const struct mt_addr *addr, char *buf, size_t cap)
{
	char host[MT_ADDR_TEXT_MAX];
	bool v6 = addr->len != 0 && addr->sa.sa_family == AF_INET6;

	assert(cap >= MT_ADDR_TEXT_MAX);
	mt_addr_format_host(addr, host, sizeof(host));
	if (addr->len == 0) {
		(void)snprintf(buf, cap, "%s", host); /* "-" */
	} else {
		(void)snprintf(buf, cap, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "",
			mt_addr_port(addr)); /* at most 1 + 45 + 11 + 1 + 6 characters */
	}
	return buf;
}

uint16_t mt_addr_port(const struct mt_addr *addr)
{
	if (addr->len == 0) {
		return 0;
	}
	return ntohs(addr->sa.sa_family == AF_INET ? addr->v4.sin_port : addr->v6.sin6_port);
}

void mt_addr_set_port(struct mt_addr *addr, uint16_t port)
{
	if (addr->len == 0) {
		return;
	}
	if (addr->sa.sa_family == AF_INET) {
		addr->v4.sin_port = htons(port);
	} else {
		addr->v6.sin6_port = htons(port);
	}
}

bool mt_addr_equal_host(const struct mt_addr *a, const struct mt_addr *b)
{
	if (a->len == 0 || b->len == 0) {
		return a->len == b->len;
	}
	if (a->sa.sa_family != b->sa.sa_family) {
		return false;
	}
	if (a->sa.sa_family == AF_INET) {
		return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
	}
	return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0 &&
	       a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

bool mt_addr_equal(const struct mt_addr *a, const struct mt_addr *b)
{
	/* Asked for every packet: the common case first. */
	if (a->len != 0 && b->len != 0 && a->sa.sa_family == AF_INET &&
		b->sa.sa_family == AF_INET) {
		return a->v4.sin_port == b->v4.sin_port &&
		       a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
	}
	return mt_addr_port(a) == mt_addr_port(b) && mt_addr_equal_host(a, b);
}

bool mt_addr_is_any(const struct mt_addr *addr)
{
	if (addr->len == 0) {
		return false;
	}
	if (addr->sa.sa_family == AF_INET) {
		return addr->v4.sin_addr.s_addr == htonl(INADDR_ANY);
	}
	return IN6_IS_ADDR_UNSPECIFIED(&addr->v6.sin6_addr);
}

bool mt_addr_is_loopback(const struct mt_addr *addr)
{
	struct mt_addr plain = *addr;

	mt_addr_unmap(&plain);
	if (plain.len == 0) {
		return false;
	}
	if (plain.sa.sa_family == AF_INET) {
		return ntohl(plain.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	return IN6_IS_ADDR_LOOPBACK(&plain.v6.sin6_addr);
}

void mt_addr_unmap(struct mt_addr *addr)
{
	struct in_addr v4;

	if (addr->len == 0 || addr->sa.sa_family != AF_INET6 ||
		!IN6_IS_ADDR_V4MAPPED(&addr->v6.sin6_addr)) {
		return;
	}
	memcpy(&v4, &addr->v6.sin6_addr.s6_addr[12], sizeof(v4));
	set_v4(addr, v4, mt_addr_port(addr));
}

/* Folded 128-bit multiplication: every input bit reaches every output bit. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t mt_addr_hash(const struct mt_addr *addr, uint64_t seed)
{
	uint64_t word[2] = {0, 0}, tail = mt_addr_port(addr), h = seed ^ 0x9e3779b97f4a7c15;

	if (addr->len != 0 && addr->sa.sa_family == AF_INET) {
		word[0] = addr->v4.sin_addr.s_addr;
	} else if (addr->len != 0) {
		memcpy(word, &addr->v6.sin6_addr, sizeof(word));
		tail |= (uint64_t)addr->v6.sin6_scope_id << 32 | 1u << 16;
	}
	/* The key goes into both factors, so that no chosen address can turn one of them into a
	 * known zero. */
	h = mix(word[0] ^ h, seed ^ 0xe7037ed1a0b428db);
	h = mix(word[1] ^ h, seed ^ 0x8ebc6af09c88c6e3);
	return mix(tail ^ h, seed ^ 0x589965cc75374cc3);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int digit_value(char c)
{
	if (is_digit(c)) {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One part of an IPv4 literal: decimal, octal behind 0, hex behind 0x. */
static int parse_part(uint64_t *out, const char *text, size_t len)
{
	uint64_t v = 0, base = 10;

	if (len > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
		len -= 2;
	} else if (len > 1 && text[0] == '0') {
		base = 8;
	}
	if (len == 0) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < len; i++) {
		int digit = digit_value(text[i]);

		if (digit < 0 || (uint64_t)digit >= base) {
			return MT_E_MALFORMED;
		}
		v = v * base + (uint64_t)digit;
		if (v > UINT32_MAX) {
			return MT_E_MALFORMED;
		}
	}
	*out = v;
	return 0;
}

/* The spellings of inet_aton; the function itself would also take blanks and what follows them. */
static int parse_ipv4(struct in_addr *out, const char *text, size_t len)
{
	uint64_t ip = 0, part = 0;
	size_t start = 0, parts = 0;

	for (size_t i = 0; i <= len; i++) {
		if (i < len && text[i] != '.') {
			continue;
		}
		if (parts == 4 || parse_part(&part, text + start, i - start) < 0) {
			return MT_E_MALFORMED;
		}
		parts++;
		start = i + 1;
		if (i < len) {
			if (part > 255) {
				return MT_E_MALFORMED;
			}
			ip = ip << 8 | part;
		}
	}
	/* The last part fills what the others have left. */
	if (part >> (8 * (5 - parts)) != 0) {
		return MT_E_MALFORMED;
	}
	out->s_addr = htonl((uint32_t)(ip << (8 * (5 - parts)) | part));
	return 0;
}

/* Whether the last label is a number. No top-level domain is one (RFC 3696, section 2), so such a
 * text is an IPv4 literal or nothing; as a "name" it could slip past the rules for addresses in a
 * resolver that is more generous than inet_aton.
 */
static bool ends_in_number(const char *text, size_t len)
{
	size_t start = 0, digits = 0;

	if (len > 0 && text[len - 1] == '.') {
		len--;
	}
	for (start = len; start > 0 && text[start - 1] != '.';) {
		start--;
	}
	text += start;
	len -= start;
	if (len >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		for (digits = 2; digits < len && digit_value(text[digits]) >= 0;) {
			digits++;
		}
	} else {
		while (digits < len && is_digit(text[digits])) {
			digits++;
		}
	}
	return len > 0 && digits == len;
}

/* Length of the well-formed UTF-8 sequence (RFC 3629) of a character from U+00A0 on at the front
 * of `text`, 0 when there is none. Below lie the C1 controls.
 */
static size_t utf8_len(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	uint32_t c = 0;
	size_t n = 0;

	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2;
		c = p[0] & 0x1fu;
	} else if (p[0] >= 0xe0 && p[0] <= 0xef) {
		n = 3;
		c = p[0] & 0x0fu;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4;
		c = p[0] & 0x07u;
	}
	if (n == 0 || n > len) {
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return 0;
		}
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < 0xa0 || (n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
		(c >= 0xd800 && c <= 0xdfff)) {
		return 0;
	}
	return n;
}

bool mt_text_is_line(const char *text, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		unsigned char c = (unsigned char)text[i];

		n = c >= 0x20 && c < 0x7f ? 1 : c >= 0x80 ? utf8_len(text + i, len - i) : 0;
		if (n == 0) {
			return false;
		}
	}
	return true;
}

static bool is_name_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
	       c == '_';
}

static int check_name(const char *text, size_t len)
{
	size_t label = 0, n = 0;

	if (len > 0 && text[len - 1] == '.') {
		len--;
	}
	if (len == 0 || len > NAME_MAX_LEN) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < len; i += n) {
		n = 1;
		if (text[i] == '.') {
			if (label == 0) {
				return MT_E_MALFORMED;
			}
			label = 0;
			continue;
		}
		if (!is_name_char(text[i])) {
			n = utf8_len(text + i, len - i);
		}
		label += n;
		if (n == 0 || label > LABEL_MAX_LEN) {
			return MT_E_MALFORMED;
		}
	}
	return label > 0 ? 0 : MT_E_MALFORMED;
}

int mt_host_parse(
	enum mt_host_kind *kind, struct mt_addr *out, const char *host, size_t len, uint16_t port)
{
	bool bracketed = len >= 2 && host[0] == '[' && host[len - 1] == ']';
	struct in_addr v4;
	struct in6_addr v6;
	int err = 0;

	if (len == 0) {
		return MT_E_MALFORMED;
	}
	if (bracketed || memchr(host, ':', len) != NULL) {
		err = bracketed ? parse_literal(AF_INET6, &v6, host + 1, len - 2)
				: parse_literal(AF_INET6, &v6, host, len);
		if (err < 0) {
			return err;
		}
		set_v6(out, &v6, 0, port);
		*kind = MT_HOST_IPV6;
		return 0;
	}
	if (ends_in_number(host, len)) {
		err = parse_ipv4(&v4, host, len);
		if (err < 0) {
			return err;
		}
		set_v4(out, v4, port);
		*kind = MT_HOST_IPV4;
		return 0;
	}
	err = check_name(host, len);
	if (err < 0) {
		return err;
	}
	*kind = MT_HOST_NAME;
	return 0;
}

int mt_host_split(const char **host, size_t *host_len, uint16_t *port, const char *text, size_t len)
{
	const char *close = len > 0 && text[0] == '[' ? memchr(text, ']', len) : NULL;
	const char *colon = close != NULL ? memchr(close, ':', len - (size_t)(close - text))
					  : memchr(text, ':', len);
	size_t n = len;
	uint32_t number = 0;
	enum mt_host_kind kind = MT_HOST_NAME;
	struct mt_addr addr;

	/* Two colons outside brackets: an IPv6 literal, which cannot carry a port that way. */
	if (colon != NULL && (close != NULL || memrchr(text, ':', len) == colon)) {
		n = (size_t)(colon - text);
		if (parse_decimal(&number, colon + 1, len - n - 1, UINT16_MAX) < 0 || number == 0) {
			return MT_E_MALFORMED;
		}
	}
	if (mt_host_parse(&kind, &addr, text, n, (uint16_t)number) < 0) {
		return MT_E_MALFORMED;
	}
	*host = close != NULL ? text + 1 : text;
	*host_len = close != NULL ? n - 2 : n;
	*port = (uint16_t)number;
	return 0;
}

struct range {
	uint8_t prefix[16];
	uint8_t bits;
	enum mt_addr_scope scope;
};

/* The most special first: ::1 lies in ::/96. */
static const struct range v6_ranges[] = {
	{{[15] = 1}, 128, MT_SCOPE_PRIVATE},                    /* ::1 */
	{{0}, 96, MT_SCOPE_SPECIAL},                            /* ::, IPv4-compatible */
	{{[10] = 0xff, 0xff}, 96, MT_SCOPE_SPECIAL},            /* IPv4-mapped */
	{{[8] = 0xff, 0xff}, 96, MT_SCOPE_SPECIAL},             /* IPv4-translated, RFC 2765 */
	{{0x00, 0x64, 0xff, 0x9b}, 96, MT_SCOPE_SPECIAL},       /* NAT64 */
	{{0x00, 0x64, 0xff, 0x9b, 0, 1}, 48, MT_SCOPE_SPECIAL}, /* NAT64, local use */
	{{0x20, 0x01}, 32, MT_SCOPE_SPECIAL},                   /* Teredo */
	{{0x20, 0x02}, 16, MT_SCOPE_SPECIAL},                   /* 6to4 */
	{{0xfc}, 7, MT_SCOPE_PRIVATE},                          /* unique local */
	{{0xfe, 0x80}, 10, MT_SCOPE_SPECIAL},                   /* link-local */
	{{0xfe, 0xc0}, 10, MT_SCOPE_SPECIAL},                   /* site-local */
	{{0xff}, 8, MT_SCOPE_SPECIAL},                          /* multicast */
};

static const struct range v4_ranges[] = {
	{{0}, 8, MT_SCOPE_SPECIAL},          /* "this network" */
	{{10}, 8, MT_SCOPE_PRIVATE},         /* RFC 1918 */
	{{100, 64}, 10, MT_SCOPE_PRIVATE},   /* carrier-grade NAT */
	{{127}, 8, MT_SCOPE_PRIVATE},        /* loopback */
	{{169, 254}, 16, MT_SCOPE_SPECIAL},  /* link-local */
	{{172, 16}, 12, MT_SCOPE_PRIVATE},   /* RFC 1918 */
	{{192, 0, 0}, 24, MT_SCOPE_SPECIAL}, /* IETF assignments */
	{{192, 168}, 16, MT_SCOPE_PRIVATE},  /* RFC 1918 */
	{{198, 18}, 15, MT_SCOPE_SPECIAL},   /* benchmarking */
	{{224}, 4, MT_SCOPE_SPECIAL},        /* multicast */
	{{240}, 4, MT_SCOPE_SPECIAL},        /* reserved, broadcast */
};

static bool in_range(const uint8_t *ip, const struct range *range)
{
	size_t whole = range->bits / 8;
	unsigned rest = range->bits % 8;

	if (memcmp(ip, range->prefix, whole) != 0) {
		return false;
	}
	return rest == 0 || (ip[whole] ^ range->prefix[whole]) >> (8 - rest) == 0;
}

static enum mt_addr_scope scope_in(
	const struct range *ranges, size_t count, const uint8_t *ip, unsigned *bits)
{
	for (size_t i = 0; i < count; i++) {
		if (in_range(ip, &ranges[i])) {
			*bits = ranges[i].bits;
			return ranges[i].scope;
		}
	}
	*bits = 0;
	return MT_SCOPE_GLOBAL;
}

enum mt_addr_scope mt_addr_scope_range(const struct mt_addr *addr, unsigned *bits)
{
	if (addr->len != 0 && addr->sa.sa_family == AF_INET) {
		return scope_in(v4_ranges, sizeof(v4_ranges) / sizeof(v4_ranges[0]),
			(const uint8_t *)&addr->v4.sin_addr, bits);
	}
	if (addr->len != 0 && addr->sa.sa_family == AF_INET6) {
		return scope_in(v6_ranges, sizeof(v6_ranges) / sizeof(v6_ranges[0]),
			addr->v6.sin6_addr.s6_addr, bits);
	}
	*bits = 0;
	return MT_SCOPE_SPECIAL;
}

enum mt_addr_scope mt_addr_scope(const struct mt_addr *addr)
{
	unsigned bits = 0;

	return mt_addr_scope_range(addr, &bits);
}
