/* The bytes at the head of a stream (TCP tunnels) and of a datagram (UDP relay), the status codes
 * and the application error codes. PROTOCOL.md is the specification.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_ALPN                "mytunnel"
#define MT_PINNED_NAME         "pinned.mytunnel.invalid"
#define MT_HOST_MAX            255
#define MT_REQUEST_MAX         259 /* Type Port HostLen Host */
#define MT_DATAGRAM_HEADER_MAX 258 /* Port HostLen Host */
#define MT_REQUEST_TIMEOUT_MS  10000

enum mt_request_type {
	MT_REQUEST_TCP = 0x01,
	MT_REQUEST_CONTROL = 0x02,
	MT_REQUEST_UDP_STREAM = 0x03, /* offered by a capability */
};

/* First byte of every answer: RFC 1928, section 6. */
enum mt_status {
	MT_STATUS_OK = 0x00,
	MT_STATUS_GENERAL_FAILURE = 0x01,
	MT_STATUS_NOT_ALLOWED = 0x02,
	MT_STATUS_NETWORK_UNREACHABLE = 0x03,
	MT_STATUS_HOST_UNREACHABLE = 0x04, /* also: the name is unknown */
	MT_STATUS_REFUSED = 0x05,
	MT_STATUS_TIMED_OUT = 0x06,
	MT_STATUS_TYPE_NOT_SUPPORTED = 0x07,
	MT_STATUS_ADDRESS_NOT_SUPPORTED = 0x08,
};

/* Application error codes in RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE. */
enum mt_app_code {
	MT_APP_NONE = 0x00,
	MT_APP_SHUTDOWN = 0x01,
	MT_APP_REVOKED = 0x02,
	MT_APP_EXPIRED = 0x03,
	MT_APP_QUOTA = 0x04,
	MT_APP_KICKED = 0x05,
	MT_APP_LIMIT = 0x06,
	MT_APP_TARGET_RESET = 0x07,
	MT_APP_PROTOCOL_ERROR = 0x08,
	MT_APP_CANCELLED = 0x09, /* the sender of the code gave the tunnel up */
	MT_APP_DISABLED = 0x0a,  /* the administrator has disabled the identity */
};

/* Phrases for messages and logs; "unknown" for other values. Static storage. */
const char *mt_status_text(uint8_t status);
const char *mt_app_code_text(uint64_t code);
/* The status for an error of connect(2), of the resolver (MT_E_DNS), of access (MT_E_DENIED), of
 * mt_request_decode or mt_host_parse, or for a deadline (MT_E_TIMEOUT).
 */
enum mt_status mt_status_from_error(int err);

struct mt_request {
	uint8_t type; /* as read; only MT_REQUEST_TCP has the fields below */
	uint16_t port;
	uint8_t host_len; /* 1 to 255 */
	char host[MT_HOST_MAX +
		  1]; /* NUL-terminated copy; the text may itself hold a NUL: see host_len */
};

/* Reads a request from the first `len` bytes of a stream. Returns 0 and sets `*used`;
 * MT_E_AGAIN when more bytes are needed (never once MT_REQUEST_MAX are there); MT_E_UNSUPPORTED
 * for an unknown type, at its first byte; MT_E_MALFORMED for HostLen 0 or port 0.
 * `out->type` is set whenever len > 0.
 */
int mt_request_decode(
	struct mt_request *out, size_t *used, const uint8_t *data, size_t len) MT_MUST_CHECK;

/* Writes a TCP request; returns its length, 0 when the port is 0 or when the host is empty, longer
 * than 255, or does not fit `cap`.
 */
size_t mt_request_encode(
	uint8_t *buf, size_t cap, uint16_t port, const char *host, size_t host_len);

/* A datagram of the simple form; the fields borrow from the datagram. */
struct mt_datagram {
	uint16_t port;
	const char *host; /* not NUL-terminated */
	uint8_t host_len;
	const uint8_t *payload;
	size_t payload_len; /* may be 0 */
};

/* MT_E_MALFORMED for fewer than 4 bytes, HostLen 0 or past the end; MT_E_UNSUPPORTED for port 0
 * (the extended form: extended.h).
 */
int mt_datagram_decode(struct mt_datagram *out, const uint8_t *data, size_t len) MT_MUST_CHECK;

/* Writes the header of a datagram; the payload follows. 0 when it does not fit, as above. */
size_t mt_datagram_header_encode(
	uint8_t *buf, size_t cap, uint16_t port, const char *host, size_t host_len);
