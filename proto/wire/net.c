#include "proto/wire/net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

static uint8_t *bytes_of(struct mt_addr *addr, unsigned *bits)
{
	if (addr->sa.sa_family == AF_INET) {
		*bits = 32;
		return (uint8_t *)&addr->v4.sin_addr;
	}
	*bits = 128;
	return addr->v6.sin6_addr.s6_addr;
}

void mt_net_of(struct mt_net *out, const struct mt_addr *addr, unsigned bits)
{
	unsigned all = 0;
	uint8_t *ip;

	*out = (struct mt_net){.addr = *addr};
	if (addr->len == 0) {
		return;
	}
	mt_addr_set_port(&out->addr, 0);
	if (addr->sa.sa_family == AF_INET6) {
		out->addr.v6.sin6_scope_id = 0;
		out->addr.v6.sin6_flowinfo = 0;
	}
	ip = bytes_of(&out->addr, &all);
	bits = bits < all ? bits : all;
	out->bits = (uint8_t)bits;
	for (unsigned i = bits / 8; i < all / 8; i++) {
		ip[i] = (uint8_t)(ip[i] & (i == bits / 8 ? 0xff00u >> bits % 8 : 0));
	}
}

static int parse_bits(unsigned *out, const char *text, unsigned max)
{
	unsigned v = 0;
	size_t len = strlen(text);

	if (len == 0 || len > 3 || strspn(text, "0123456789") != len || (len > 1 && *text == '0')) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < len; i++) {
		v = v * 10 + (unsigned)(text[i] - '0');
	}
	if (v > max) {
		return MT_E_MALFORMED;
	}
	*out = v;
	return 0;
}

int mt_net_parse(struct mt_net *out, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	char host[INET6_ADDRSTRLEN];
	struct mt_addr addr = {.len = 0};
	struct mt_net net;
	unsigned bits;

	if (len == 0 || len >= sizeof(host)) {
		return MT_E_MALFORMED;
	}
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, &addr.v4.sin_addr) == 1) {
		addr.v4.sin_family = AF_INET;
		addr.len = sizeof(addr.v4);
		bits = 32;
	} else if (inet_pton(AF_INET6, host, &addr.v6.sin6_addr) == 1) {
		addr.v6.sin6_family = AF_INET6;
		addr.len = sizeof(addr.v6);
		bits = 128;
	} else {
		return MT_E_MALFORMED;
	}
	if (slash != NULL && parse_bits(&bits, slash + 1, bits) != 0) {
		return MT_E_MALFORMED;
	}
	mt_net_of(&net, &addr, bits);
	if (!mt_addr_equal_host(&net.addr, &addr)) {
		return MT_E_RANGE;
	}
	*out = net;
	return 0;
}

const char *mt_net_format(const struct mt_net *net, char *buf, size_t cap)
{
	char host[MT_ADDR_TEXT_MAX];

	assert(cap >= MT_NET_TEXT_MAX);
	(void)snprintf(buf, cap, "%.45s/%u", mt_addr_format_host(&net->addr, host, sizeof(host)),
		net->bits); /* at most 45 + 1 + 3 characters */
	return buf;
}

bool mt_net_contains(const struct mt_net *net, const struct mt_addr *addr)
{
	struct mt_net of;

	if (net->addr.len == 0 || addr->len == 0 || net->addr.sa.sa_family != addr->sa.sa_family) {
		return false;
	}
	mt_net_of(&of, addr, net->bits);
	return mt_addr_equal_host(&of.addr, &net->addr);
}
