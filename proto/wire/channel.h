/* Messages of the control channel (stream type 0x02): Length(2) Type(1) Body, Length counting type
 * and body. Unknown types are skipped by the reader of messages.
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/request.h"

#include <stddef.h>
#include <stdint.h>

#define MT_CHANNEL_VERSION     1
#define MT_CHANNEL_MESSAGE_MAX 1024 /* Length field included; longer is a protocol error */
#define MT_CHANNEL_TEXT_MAX    255

enum mt_channel_type {
	MT_CHANNEL_HELLO = 0x01,
	MT_CHANNEL_PING = 0x02,
	MT_CHANNEL_PONG = 0x03,
	MT_CHANNEL_NOTICE = 0x04,
	MT_CHANNEL_CLOSING = 0x05,
	MT_CHANNEL_SESSION_END = 0x06,
};

/* Bits of a Hello's capabilities. */
enum mt_capability {
	MT_CAP_EXTENDED_UDP = 1u << 0,
	MT_CAP_UDP_STREAM = 1u << 1,
};

enum mt_notice {
	MT_NOTICE_DRAINING = 1,
	MT_NOTICE_QUOTA = 2,
	MT_NOTICE_POLICY = 3,
};

/* One message; `type` says which fields count. Texts borrow from the input and are not
 * NUL-terminated.
 */
struct mt_channel_message {
	uint8_t type;
	/* Hello: Version(1) Capabilities(4) MaxStreams(4) AgentLen(1) Agent MaxSessions(2)
	 * Trace(8), more may follow; the last two may be missing and are 0 then */
	uint8_t version;
	uint32_t capabilities;
	uint32_t max_streams;  /* streams that the sender lets the peer hold open; 0 = none */
	uint16_t max_sessions; /* of UDP that the sender keeps for a connection; 0 = unknown */
	uint64_t trace;        /* of the connection, see proto/wire/trace.h; 0 = none */
	/* Ping: SentNs(8). Pong: SentNs(8) copied from the ping, HeldNs(8) between both at the
	 * peer. */
	uint64_t sent_ns;
	uint64_t held_ns;
	/* Session end: Session(4), whose sockets the client needs no more. */
	uint32_t session;
	/* Notice: Code(2) TextLen(1) Text. Closing: AppCode(4) TextLen(1) Text. */
	uint32_t code;
	/* Hello's agent, or the text of notice and closing */
	const char *text;
	uint8_t text_len;
};

/* Reads one message from the front of `data`. 0 and `*used` set (for an unknown type too: only
 * `type` is filled then); MT_E_AGAIN when incomplete; MT_E_MALFORMED for length 0, a body too short
 * for its type or a message beyond MT_CHANNEL_MESSAGE_MAX.
 */
int mt_channel_decode(struct mt_channel_message *out, size_t *used, const uint8_t *data,
	size_t len) MT_MUST_CHECK;

/* Writes one message; returns its length, 0 when it does not fit `cap`. */
size_t mt_channel_encode(uint8_t *buf, size_t cap, const struct mt_channel_message *msg);
