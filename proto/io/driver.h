/* Runs a QUIC endpoint on a libuv loop: sockets in, sockets out, a timerfd for its expiry,
 * everything written once at the end of each loop turn. One thread.
 */
#pragma once

#include "proto/io/udp.h"
#include "proto/quic/endpoint.h"
#include "proto/wire/err.h"

#include <uv.h>

struct mt_driver;

/* Makes the endpoint from `config`, whose `tx` is filled in here. */
int mt_driver_new(
	struct mt_driver **out, uv_loop_t *loop, struct mt_endpoint_config *config) MT_MUST_CHECK;
/* Flushes once more, frees the endpoint, closes sockets and handles; memory goes when the loop has
 * run again. Called outside of the endpoint's events.
 */
void mt_driver_free(struct mt_driver *d);
struct mt_endpoint *mt_driver_endpoint(struct mt_driver *d);
/* Binds and starts reading; the socket is the driver's until mt_driver_close_socket or
 * mt_driver_free. */
int mt_driver_open_socket(struct mt_driver *d, const struct mt_addr *bind,
	const struct mt_udp_options *options, struct mt_udp_socket **out) MT_MUST_CHECK;
/* Takes an open socket (bound by another thread in the right order of the group) and starts
 * reading. On failure the caller keeps it.
 */
int mt_driver_add_socket(struct mt_driver *d, const struct mt_udp_socket *socket,
	struct mt_udp_socket **out) MT_MUST_CHECK;
void mt_driver_close_socket(struct mt_driver *d, struct mt_udp_socket *s);
/* A retired socket begins no new connections, and its connections move to another one that serves
 * their address, where there is one. Can be taken back.
 */
void mt_driver_retire_socket(struct mt_driver *d, struct mt_udp_socket *s, bool retired);
/* Whether a connection on `path` needs the retired `s`: no other socket serves its address. */
bool mt_driver_needs_socket(
	struct mt_driver *d, const struct mt_path *path, const struct mt_udp_socket *s);
/* Monotonic nanoseconds, read once per loop turn and never backwards. */
uint64_t mt_driver_now_ns(struct mt_driver *d);
/* A packet that another worker received for us; `socket` is replaced by our own socket with the
 * same local port and family. Handled like one that was read here.
 */
void mt_driver_inject(struct mt_driver *d, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len);
const struct mt_udp_tx_stats *mt_driver_tx_stats(const struct mt_driver *d);
