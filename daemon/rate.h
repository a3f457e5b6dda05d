/* What one connection may carry (limits.max_bandwidth_per_conn). Shared by the session and its
 * tunnels, which may outlive it. One thread.
 */
#pragma once

#include "proto/io/bucket.h"
#include "proto/quic/mem.h"

#include <stdint.h>

struct mt_rate {
	struct mt_bucket from_client;
	struct mt_bucket to_client;
	struct mt_mem *mem;
	unsigned refs;
};

/* Without a limit, and with one reference, the caller's; NULL without memory. */
struct mt_rate *mt_rate_new(struct mt_mem *mem);
struct mt_rate *mt_rate_ref(struct mt_rate *rate);
void mt_rate_unref(struct mt_rate *rate); /* NULL is allowed */
/* Bits a second each way, 0: no limit. Holds at once for what runs. */
void mt_rate_set(struct mt_rate *rate, int64_t bits_per_s);
