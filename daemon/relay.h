/* The UDP relay of one connection. Each application of the client has a session of its own: one
 * unconnected socket per address family, so that whoever is sent to, and anybody else whom the
 * rules do not refuse, may answer (full cone). Datagrams of the plain form share one session. What
 * arrives by datagrams, in fragments or by streams is treated alike; answers take the way that
 * their session last used. One thread.
 */
#pragma once

#include "daemon/env.h"
#include "daemon/relay_meter.h"
#include "proto/quic/conn.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_RELAY_SESSIONS_MAX  256  /* of one connection; then the least recently used one goes */
#define MT_RELAY_TARGETS_MAX   1024 /* of one connection, all sessions together; likewise */
#define MT_RELAY_PENDING_MAX   128  /* datagrams of one connection that wait for a name */
#define MT_RELAY_PENDING_BYTES ((size_t)512 * 1024)
/* Names that are looked up for one connection at a time: the resolver's table is everybody's. */
#define MT_RELAY_LOOKUPS_MAX 128
#define MT_RELAY_IDLE_MS     120000 /* without traffic: sockets close and targets are forgotten */

struct mt_relay;

/* Nothing is opened before the first datagram goes out. `conn` is NULL where there are no
 * datagrams: then relay_stream.h is the only way in. `client` is the name that the rules know,
 * empty without identity; borrowed.
 */
int mt_relay_new(struct mt_relay **out, struct mt_env *env, struct mt_conn *conn,
	const char *client) MT_MUST_CHECK;
/* The relay's own, to set before the first datagram: what it is given must outlive the relay. */
struct mt_relay_meter *mt_relay_meter(struct mt_relay *relay);
/* Streams are ended as well. NULL is allowed. */
void mt_relay_free(struct mt_relay *relay);
/* A datagram from the client, borrowed. Touches no stream and ends no connection, so it may be
 * called from mt_endpoint_events.on_datagram.
 */
void mt_relay_receive(struct mt_relay *relay, const uint8_t *data, size_t len);
/* There is room for datagrams towards the client again. */
void mt_relay_resume(struct mt_relay *relay);
/* The client needs this session no more. */
void mt_relay_end_session(struct mt_relay *relay, uint32_t session);
/* Targets that are not allowed any more are forgotten, or kept. Returns how many were forgotten. */
unsigned mt_relay_recheck(struct mt_relay *relay, enum mt_recheck how);
unsigned mt_relay_flows(const struct mt_relay *relay);          /* targets in use */
uint64_t mt_relay_bytes_received(const struct mt_relay *relay); /* payload from the client */
uint64_t mt_relay_bytes_sent(const struct mt_relay *relay);
