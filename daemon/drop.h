/* Datagrams that are dropped: counted, and told to whoever traces. */
#pragma once

#include "daemon/counters.h"
#include "proto/wire/probes.h"

/* `field` names one of the udp_dropped counters, which is what the probe is told. */
#define MT_COUNT_DROP(counters, field, n)                                                          \
	do {                                                                                       \
		mt_count(&(counters)->field, (n));                                                 \
		MT_PROBE2(drop, #field, (n));                                                      \
	} while (0)
