/* What an administrator writes about a client's limits, as numbers. Pure. */
#pragma once

#include "proto/wire/err.h"
#include "store/store.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_CLIENT_RATE_MIN        10000 /* bits a second */
#define MT_CLIENT_RATE_MAX        MT_STORE_RATE_MAX
#define MT_CLIENT_QUOTA_MIN       1000 /* bytes */
#define MT_CLIENT_QUOTA_MAX       MT_STORE_QUOTA_MAX
#define MT_CLIENT_CONNECTIONS_MAX MT_STORE_CONNECTIONS_MAX

/* Changes `limits` by the texts in `args`: "expires" (30d, 2026-12-31, 2026-12-31T12:00:00Z),
 * "rate" (50M), "quota" (100G, 100G/day, 100G/month), "max_connections" (4), "note"; "none" clears
 * each of them. Members that are not there leave theirs; `*count` (may be NULL) is how many are.
 * `now` in Unix seconds. On failure nothing is changed and `why` says what would be accepted.
 */
int mt_client_limits_apply(struct mt_store_limits *limits, size_t *count, const json_t *args,
	int64_t now, char *why, size_t why_cap) MT_MUST_CHECK;
/* "none", "day" or "month". */
const char *mt_quota_period_text(enum mt_quota_period period);
