/* The extended form of a datagram (PROTOCOL.md, section 7.1): a session, and a payload that may be
 * one fragment of a larger one.
 *
 *   0x0000 Session(4) Packet(2) Fragment(1) Count(1) Port(2) HostLen(1) Host Payload
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_EXTENDED_PREFIX     10 /* up to Count */
#define MT_EXTENDED_HEADER_MAX (MT_EXTENDED_PREFIX + MT_DATAGRAM_HEADER_MAX)
#define MT_UDP_PAYLOAD_MAX     65507 /* of one UDP packet over IPv4 */
#define MT_FRAGMENTS_MAX       255

struct mt_extended {
	uint32_t session;
	uint16_t packet; /* counts only with count > 1 */
	uint8_t fragment;
	uint8_t count; /* at least 1 */
	struct mt_datagram datagram;
};

/* Whether a datagram is of this form: it starts with port 0. */
bool mt_extended_is(const uint8_t *data, size_t len);

/* The fields borrow from the datagram. MT_E_MALFORMED for another form, Count 0, a Fragment not
 * below Count, port 0, HostLen 0 or past the end, or a fragment of several without payload.
 */
int mt_extended_decode(struct mt_extended *out, const uint8_t *data, size_t len) MT_MUST_CHECK;

/* Writes the header; the payload follows. `h->datagram` gives host and port. Returns its length, 0
 * when it does not fit `cap` or could not be decoded again.
 */
size_t mt_extended_header_encode(uint8_t *buf, size_t cap, const struct mt_extended *h);

/* How a payload is cut. */
struct mt_cut {
	uint8_t count;
	size_t piece; /* bytes of every fragment but the last one, which has the rest */
};

/* Cuts `len` bytes for datagrams of `max` bytes of which `header` are the header, evenly. False
 * when that takes more than MT_FRAGMENTS_MAX fragments.
 */
bool mt_cut_plan(struct mt_cut *out, size_t len, size_t max, size_t header) MT_MUST_CHECK;
