/* Which HOST:PORT a new client's profile names. Pure: everything it looks at is passed in. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

struct mt_enrol_view {
	const char *public_addr;         /* server.public_addr: HOST, HOST:PORT, or empty */
	const struct mt_addr *listeners; /* with their real ports; where the daemon does not listen,
					    server.bind_addr */
	size_t listener_count;
	const struct mt_addr *hosts; /* the host's own addresses */
	size_t host_count;
};

struct mt_enrol_target {
	char host[256]; /* name or literal without brackets */
	uint16_t port;
	char warning[512]; /* empty, or what the administrator should know */
};

/* MT_E_NOT_FOUND or MT_E_MALFORMED with a sentence that names the setting in `why`. */
int mt_enrol_choose(struct mt_enrol_target *out, const struct mt_enrol_view *view, char *why,
	size_t why_cap) MT_MUST_CHECK;
/* Splits HOST, HOST:PORT, [IPV6], [IPV6]:PORT or a bare IPv6 literal; `*port` is 0 where none is
 * given. */
int mt_enrol_split(const char *text, char *host, size_t host_cap, uint16_t *port) MT_MUST_CHECK;
