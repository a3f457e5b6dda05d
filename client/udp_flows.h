/* Which SOCKS5 association last used a target: the tunnel's datagrams have no session number, so an
 * answer's text and port must tell.
 */
#pragma once

#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_UDP_FLOWS_MAX    4096 /* the one unused for the longest time gives way */
#define MT_UDP_FLOW_IDLE_MS 300000

struct mt_udp_flows;

struct mt_udp_flows *mt_udp_flows_new(void);        /* NULL without memory */
void mt_udp_flows_free(struct mt_udp_flows *flows); /* NULL is allowed */
/* Notes that `owner` sends to the target. The last owner of the same target gets its answers. */
int mt_udp_flows_touch(struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port,
	void *owner, uint64_t now_ms) MT_MUST_CHECK;
/* Whose answer this is; NULL when nobody has asked. */
void *mt_udp_flows_find(
	struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port);
/* Drops all flows of an owner. */
void mt_udp_flows_forget(struct mt_udp_flows *flows, const void *owner);
/* Drops the flows that were idle for too long. */
void mt_udp_flows_expire(struct mt_udp_flows *flows, uint64_t now_ms);
size_t mt_udp_flows_count(const struct mt_udp_flows *flows);
