/* Kernel TLS on a connected TCP socket (Documentation/networking/tls.rst of the kernel): the keys
 * of a GnuTLS session handed to the kernel, and the records that are not payload. Any thread.
 */
#pragma once

#include "proto/wire/err.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Why kernel TLS is not used. */
enum mt_ktls_state {
	MT_KTLS_ON,
	MT_KTLS_NO_MODULE, /* the kernel has no TLS, or its module is not loaded */
	MT_KTLS_CIPHER,    /* the connection's cipher is not one that the kernel takes */
	MT_KTLS_REFUSED,   /* the kernel took neither, or not both, of the keys */
	MT_KTLS_OFF,       /* not asked for */
};

/* A phrase for people, such as "the kernel has no TLS module loaded". Static storage. */
const char *mt_ktls_text(enum mt_ktls_state state);
/* Whether the kernel has TLS at all: MT_KTLS_ON or MT_KTLS_NO_MODULE. Costs a socket and a call. */
enum mt_ktls_state mt_ktls_probe(void);

/* Hands both directions to the kernel, right after the handshake and before any payload. With any
 * other answer than MT_KTLS_ON or MT_KTLS_REFUSED the socket is as before. After MT_KTLS_REFUSED of
 * the second direction it cannot be used any more: `*broken` says so.
 */
enum mt_ktls_state mt_ktls_install(int fd, gnutls_session_t session, bool *broken);

/* RFC 8446, section 5.1. */
enum {
	MT_RECORD_ALERT = 21,
	MT_RECORD_HANDSHAKE = 22,
	MT_RECORD_DATA = 23,
};

/* Reads payload, or one record of another kind: `*type` says what it was, 0 at the connection's end
 * without a close_notify. Bytes, 0 for an empty record too, or a negative errno.
 */
ssize_t mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type) MT_MUST_CHECK;
/* Sends an alert of its own (RFC 8446, section 6). 0 or a negative errno. */
int mt_ktls_send_alert(int fd, uint8_t level, uint8_t description) MT_MUST_CHECK;
/* Records sent and received so far under the present keys. 0 or a negative errno. */
int mt_ktls_records(int fd, uint64_t *sent, uint64_t *received) MT_MUST_CHECK;
