/* SOCKS5 messages (RFC 1928) as pure codecs: greeting, request, reply, header of a UDP datagram. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_SOCKS_VERSION        0x05
#define MT_SOCKS_GREETING_MAX   257 /* Ver NMethods Methods */
#define MT_SOCKS_REQUEST_MAX    262 /* Ver Cmd Rsv AType Len Name Port */
#define MT_SOCKS_REPLY_MAX      22
#define MT_SOCKS_UDP_HEADER_MAX 262

enum mt_socks_command {
	MT_SOCKS_CONNECT = 0x01,
	MT_SOCKS_BIND = 0x02,
	MT_SOCKS_UDP_ASSOCIATE = 0x03,
};

#define MT_SOCKS_METHOD_NONE    0x00
#define MT_SOCKS_METHOD_REFUSED 0xff

/* A target as text: what the tunnel's requests carry. */
struct mt_socks_target {
	char host[256]; /* NUL-terminated; a name may itself hold a NUL: see host_len */
	size_t host_len;
	uint16_t port;
};

/* Reads the list of methods; `*no_auth` says whether "no authentication" is among them. 0 and
 * `*used` set; MT_E_AGAIN when incomplete; MT_E_MALFORMED for another version or no method.
 */
int mt_socks_greeting_decode(
	bool *no_auth, size_t *used, const uint8_t *data, size_t len) MT_MUST_CHECK;

/* Reads a request: 0, MT_E_AGAIN, MT_E_MALFORMED (version, empty name) or MT_E_UNSUPPORTED (address
 * type). Whether the command is offered is for the caller to say.
 */
int mt_socks_request_decode(uint8_t *command, struct mt_socks_target *target, size_t *used,
	const uint8_t *data, size_t len) MT_MUST_CHECK;

/* Writes a reply with the address `bound` (NULL: 0.0.0.0:0); `buf` has MT_SOCKS_REPLY_MAX bytes.
 * Returns the length.
 */
size_t mt_socks_reply_encode(uint8_t *buf, uint8_t reply, const struct mt_addr *bound);

/* Reads the header of a datagram from an application; `*payload` is the offset behind it.
 * MT_E_MALFORMED, or MT_E_UNSUPPORTED for a fragment or an unknown address type.
 */
int mt_socks_udp_decode(struct mt_socks_target *target, size_t *payload, const uint8_t *data,
	size_t len) MT_MUST_CHECK;

/* Writes the header of a datagram to an application; literals become addresses, the rest a name.
 * Returns its length, 0 when it does not fit `cap` or the host is empty or longer than 255.
 */
size_t mt_socks_udp_header_encode(
	uint8_t *buf, size_t cap, const char *host, size_t host_len, uint16_t port);
