/* What `connect` was asked to listen on: addresses, and forwards in the form of ssh's -L. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

struct mt_forward {
	struct mt_addr bind;
	char host[256]; /* without brackets */
	uint16_t port;
};

/* "[BIND:]PORT:HOST:HOSTPORT", with IPv6 literals in brackets; BIND is an address, by default
 * 127.0.0.1; PORT may be 0. MT_E_MALFORMED with a static phrase in `*why`.
 */
int mt_forward_parse(struct mt_forward *out, const char *text, const char **why) MT_MUST_CHECK;

/* "PORT", "IP:PORT" or "[IP]:PORT"; without an address 127.0.0.1. MT_E_MALFORMED. */
int mt_listen_parse(struct mt_addr *out, const char *text) MT_MUST_CHECK;

/* Writes "HOST:PORT", with brackets around an IPv6 literal; returns `buf`. */
const char *mt_target_format(const char *host, uint16_t port, char *buf, size_t cap);
