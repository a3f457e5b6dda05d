/* A double of the stream for tests of what uses one: the test plays the peer. */
#pragma once

#include "proto/quic/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the user sends lies in `tx`, what it is to read in `rx`. */
struct mt_stream {
	const struct mt_stream_handler *handler;
	void *user;
	uint8_t *rx;
	size_t rx_from, rx_to;
	uint8_t *tx;
	size_t tx_len;
	size_t tx_limit; /* total bytes that may be committed so far */
	bool rx_fin;
	bool rx_over;
	bool tx_over;
	bool fin_sent;
	bool detached;
	bool released;
	bool no_memory;
	uint64_t release_code;
};
