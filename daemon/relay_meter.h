/* What a relay's payload counts for and is held to: the client's account and rate, the connection's
 * rate. One thread.
 */
#pragma once

#include "daemon/account.h"
#include "daemon/rate.h"
#include "proto/io/bucket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: nobody's, without limits. */
struct mt_relay_meter {
	struct mt_account *account; /* borrowed; NULL: none */
	struct mt_buckets from_client;
	struct mt_buckets to_client;
	uint64_t bytes_received; /* payload from the client */
	uint64_t bytes_sent;
	uint64_t counted_in; /* that the account knows of */
	uint64_t counted_out;
};

/* Whose limits hold and whom the traffic counts for from now on; NULL: nobody. */
void mt_relay_meter_set_account(struct mt_relay_meter *m, struct mt_account *account);
/* What the connection may carry; borrowed. */
void mt_relay_meter_set_rate(struct mt_relay_meter *m, struct mt_rate *rate);
/* Tells the account what has passed since the last time. */
void mt_relay_meter_report(struct mt_relay_meter *m);

/* A datagram from the client: counted, or false when it is one too many. */
bool mt_relay_meter_admit(struct mt_relay_meter *m, size_t len);
/* How many of `want` datagrams to the client may be read now; 0: later. `*now_ns` is for
 * mt_relay_meter_sent. */
size_t mt_relay_meter_window(const struct mt_relay_meter *m, size_t want, uint64_t *now_ns);
/* Counts one that was sent to the client. */
void mt_relay_meter_sent(struct mt_relay_meter *m, size_t len, uint64_t now_ns);
