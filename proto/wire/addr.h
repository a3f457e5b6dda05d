/* Socket addresses, host literals, and which part of the address space an address belongs to. */
#pragma once

#include "proto/wire/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address with a port; `len` 0 means none. */
struct mt_addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t len;
};

/* "[" IPv6 with zone "]:" port and a NUL. */
#define MT_ADDR_TEXT_MAX 72

/* "192.0.2.1:443", "[2001:db8::1]:443" or, with a numeric zone, "[fe80::1%2]:443". MT_E_MALFORMED;
 * port 0 is allowed.
 */
int mt_addr_parse(struct mt_addr *out, const char *text) MT_MUST_CHECK;
/* Copies an IPv4 or IPv6 sockaddr; MT_E_UNSUPPORTED for other families or a short length. */
int mt_addr_from_sockaddr(
	struct mt_addr *out, const struct sockaddr *sa, socklen_t len) MT_MUST_CHECK;
/* The form that mt_addr_parse reads; returns `buf`. `cap` at least MT_ADDR_TEXT_MAX. */
const char *mt_addr_format(const struct mt_addr *addr, char *buf, size_t cap);
/* The address without port and brackets; returns `buf`. */
const char *mt_addr_format_host(const struct mt_addr *addr, char *buf, size_t cap);
uint16_t mt_addr_port(const struct mt_addr *addr);
void mt_addr_set_port(struct mt_addr *addr, uint16_t port);
bool mt_addr_equal(const struct mt_addr *a, const struct mt_addr *b);      /* with port */
bool mt_addr_equal_host(const struct mt_addr *a, const struct mt_addr *b); /* without port */
bool mt_addr_is_any(const struct mt_addr *addr);
bool mt_addr_is_loopback(const struct mt_addr *addr);
/* ::ffff:a.b.c.d becomes a.b.c.d, anything else stays. */
void mt_addr_unmap(struct mt_addr *addr);
/* Hash of address and port, keyed by `seed`. */
uint64_t mt_addr_hash(const struct mt_addr *addr, uint64_t seed);

enum mt_host_kind {
	MT_HOST_NAME,
	MT_HOST_IPV4,
	MT_HOST_IPV6,
};

/* Classifies the Host of a request: an IPv6 literal bare or in brackets; an IPv4 literal in every
 * spelling that inet_aton knows (dotted, decimal, octal, hex, fewer than four parts), so that no
 * spelling slips past the address rules as a "name"; or a host name: 1 to 253 characters of
 * letters, digits, '-', '_', '.', or well-formed UTF-8 from U+00A0 on, labels of 1 to 63, one final
 * dot allowed, the last label not a number (decimal or hex). NUL, '%', blanks, unbalanced brackets
 * and all else give MT_E_MALFORMED. For literals `out` is
 * set with `port`; for names it is left alone. `host` need not end in NUL.
 */
int mt_host_parse(enum mt_host_kind *kind, struct mt_addr *out, const char *host, size_t len,
	uint16_t port) MT_MUST_CHECK;

/* Whether a text can be shown in a line: well-formed UTF-8 without control characters. */
bool mt_text_is_line(const char *text, size_t len);

/* Splits "HOST", "HOST:PORT", a bare IPv6 literal, "[IPv6]" or "[IPv6]:PORT". `*host` borrows from
 * `text` and has no brackets; `*port` is 0 when none is written, 0 itself is refused. The host must
 * pass mt_host_parse. MT_E_MALFORMED.
 */
int mt_host_split(const char **host, size_t *host_len, uint16_t *port, const char *text,
	size_t len) MT_MUST_CHECK;

enum mt_addr_scope {
	MT_SCOPE_GLOBAL,  /* allowed unless a rule refuses */
	MT_SCOPE_PRIVATE, /* RFC 1918, 100.64/10, loopback, fc00::/7: access.allow_private lifts it
			   */
	MT_SCOPE_SPECIAL, /* link-local, multicast, 0/8, 240/4, ::, translation and tunnel prefixes
			     and the other ranges never to be reached without a rule of their own */
};

/* Where a resolved target address lies. IPv4-mapped, IPv4-compatible, NAT64 (64:ff9b::/96), 6to4
 * and Teredo addresses are MT_SCOPE_SPECIAL whatever they embed. The host's own addresses are not
 * known here: the caller adds them.
 */
enum mt_addr_scope mt_addr_scope(const struct mt_addr *addr);
/* The same, with the length of the prefix of the range it lies in; 0 for a global address. */
enum mt_addr_scope mt_addr_scope_range(const struct mt_addr *addr, unsigned *bits);
