/* What ngtcp2 writes about one connection (qlog: JSON text sequences, RFC 7464). Whose connection
 * it is shows only at the end of the handshake: until then the beginning is held, and afterwards
 * it is told to the user or forgotten. No I/O. All calls belong to the endpoint's thread, but for
 * the two about versions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_conn;

#define MT_QLOG_HELD_CHUNKS 4  /* of MT_CHUNK_BYTES, for a connection whose client is not known */
#define MT_QLOG_HELD_MAX    64 /* such connections of an endpoint; further ones have no qlog */

/* Some of it: whole records. */
struct mt_qlog_part {
	const void *data;
	size_t len;
	uint64_t lost; /* records before this part for which there was no room */
	bool end;      /* nothing follows */
};

/* Whether the library of this version number (0xMMmmpp) writes qlog safely: before 1.22.1 a peer
 * can make it write past its buffer (CVE-2026-40170). Any thread. */
bool mt_qlog_is_safe(int version);
/* The number of the library that runs, and its text (static storage). Any thread. */
int mt_qlog_library(const char **text);

/* From on_established: what is held goes to on_qlog, and all that follows does. Otherwise it is
 * dropped after on_established. Nothing happens to a connection without a qlog. */
void mt_conn_keep_qlog(struct mt_conn *c);
/* Whether this connection has a qlog at all. */
bool mt_conn_has_qlog(const struct mt_conn *c);
