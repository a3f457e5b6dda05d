/* The pump (pump.h) for a stream of TLS on TCP whose records the kernel makes: the two sockets are
 * joined by splice() through pipes, both ways, and no byte of the payload enters the process. Ends,
 * back-pressure and limits are the pump's. Back-pressure is what a pipe and the sockets hold. One
 * thread.
 *
 * A pipe is filled only when it is empty and drained until it is empty: EAGAIN then always means
 * the socket. Records that are no payload are taken out and handled by tls_socket.h.
 */
#pragma once

#include "proto/io/pipes.h"
#include "proto/io/pump.h"

#include <stdbool.h>
#include <stdint.h>

struct mt_splice;

struct mt_splice_config {
	struct mt_pump_config pump; /* but for on_end */
	struct mt_pipes *pipes;
	/* As mt_pump_config.on_end; the memory is freed right afterwards. */
	void (*on_end)(struct mt_splice *splice, const struct mt_pump_result *result, void *user);
};

/* Whether `s` is a stream for which this works. */
bool mt_splice_suits(const struct mt_stream *s);
/* See mt_pump_start and mt_pump_cancel. */
int mt_splice_start(struct mt_splice **out, const struct mt_splice_config *config) MT_MUST_CHECK;
void mt_splice_cancel(struct mt_splice *splice, uint64_t app_code);
uint64_t mt_splice_bytes_to_stream(const struct mt_splice *splice);
uint64_t mt_splice_bytes_to_socket(const struct mt_splice *splice);
