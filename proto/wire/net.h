/* Networks in CIDR notation (RFC 4632, RFC 4291). */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An IPv6 address, "/128" and a NUL. */
#define MT_NET_TEXT_MAX 56

struct mt_net {
	struct mt_addr addr; /* port 0; the bits behind the prefix are 0; len 0 means none */
	uint8_t bits;
};

/* "10.1.0.0/16", "2001:db8::/32" or one address. IPv4 in four decimal parts alone: what reads as
 * octal to one program and as decimal to another has no place in a rule. MT_E_MALFORMED, or
 * MT_E_RANGE when bits are set behind the prefix.
 */
int mt_net_parse(struct mt_net *out, const char *text) MT_MUST_CHECK;
/* The first `bits` (at most the address' own) of an address. */
void mt_net_of(struct mt_net *out, const struct mt_addr *addr, unsigned bits);
/* The form that mt_net_parse reads, always with the prefix; returns `buf`. `cap` at least
 * MT_NET_TEXT_MAX. */
const char *mt_net_format(const struct mt_net *net, char *buf, size_t cap);
bool mt_net_contains(const struct mt_net *net, const struct mt_addr *addr);
