/* TLS 1.3 on a connected, non-blocking TCP socket, for server and client alike: the handshake, then
 * records, by the kernel where it takes them (ktls.h) or by GnuTLS. Knows no loop: MT_E_AGAIN means
 * that the socket has to become ready first. One thread.
 *
 *   close_notify, then a TCP FIN      the sender's direction has ended
 *   a TCP FIN without it, or an RST   a reset: data may be missing
 */
#pragma once

#include "proto/io/ktls.h"
#include "proto/quic/tls.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MT_TLS_RECORD_MAX 16384 /* payload of a record (RFC 8446, section 5.1) */
/* A connection ends before it has as many records under one key, in either direction: AES-GCM
 * allows 2^24.5 (RFC 8446, section 5.5), and the kernel cannot change keys. */
#define MT_TLS_RECORDS_MAX ((UINT64_C(1) << 24) - (UINT64_C(1) << 16))

/* Without a sign of life from the other host for so long, a connection with something under way is
 * given up; one without, by keepalives, soon afterwards. */
#define MT_TLS_SILENT_MS 30000

/* Why a socket has failed, for counters and messages. */
enum mt_tls_fault {
	MT_TLS_FAULT_NONE,
	MT_TLS_FAULT_RESET,     /* RST, or a FIN without close_notify */
	MT_TLS_FAULT_TRANSPORT, /* another error of the socket: see `err` */
	MT_TLS_FAULT_ALERT,     /* the peer sent a fatal alert: see `alert` */
	MT_TLS_FAULT_REKEY,     /* a KeyUpdate where the kernel has the keys */
	MT_TLS_FAULT_RECORDS,   /* MT_TLS_RECORDS_MAX */
	MT_TLS_FAULT_PROTOCOL,  /* what the peer sent is not TLS, or not for now */
	MT_TLS_FAULT_REFUSED,   /* we have sent an alert in the handshake: see `alert` */
};

/* Stays in place from init to close: GnuTLS' callbacks are given its address. */
struct mt_tls_socket {
	struct mt_tls_session tls;
	int fd;
	bool established;
	bool is_client;
	bool fin_received;
	bool fin_sent; /* close_notify is with the kernel, and the FIN behind it */
	bool half_fin; /* close_notify is, the FIN is not */
	bool gathers;  /* what GnuTLS sends now is only part of what is to go out */
	bool held;     /* the kernel keeps such a part back */
	bool dry;      /* the last read of GnuTLS' found nothing */
	enum mt_ktls_state ktls;
	enum mt_tls_fault fault; /* the first one stays */
	int err;                 /* of the fault: negative errno or MT_E_* */
	int alert;               /* sent or received with the fault; -1: none */
	size_t pending;          /* bytes that GnuTLS has sealed and not yet sent all of */
	uint64_t trace;          /* of the connection's trace id, the same on both ends; 0: none */
	uint64_t records_in;     /* an upper bound since the kernel was asked last */
	uint64_t records_out;
};

/* What a socket of TLS needs: a host that has gone is noticed although nothing is sent, and small
 * writes go out at once. For listening sockets, whose connections inherit it. */
void mt_tls_socket_set_options(int fd);

/* Takes the descriptor on success: of a server, one that was accepted by a socket with the options
 * above. See mt_tls_session_init_server_tcp. */
int mt_tls_socket_init_server(struct mt_tls_socket *s, int fd, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user) MT_MUST_CHECK;
int mt_tls_socket_init_client(
	struct mt_tls_socket *s, int fd, struct mt_tls_client *tls) MT_MUST_CHECK;

/* Goes on with the handshake: 0 when it is done, MT_E_AGAIN, or the error that is in `fault` and
 * `err` now; an alert has been sent where there was one to send. With `kernel` the keys are handed
 * to the kernel; `ktls` then says whether it has them. The payload behind the handshake is
 * untouched.
 */
int mt_tls_socket_handshake(struct mt_tls_socket *s, bool kernel) MT_MUST_CHECK;

/* Sends what the handshake has left with the kernel: after every mt_tls_socket_handshake. Before
 * payload follows at once there is no need to. */
void mt_tls_socket_push(struct mt_tls_socket *s);

/* Reads payload: bytes, 0 at the peer's end, MT_E_AGAIN, or another error, which is latched. */
ssize_t mt_tls_socket_recv(struct mt_tls_socket *s, void *buf, size_t len) MT_MUST_CHECK;
/* Writes payload, a record at most: bytes taken, MT_E_AGAIN, or another error. After MT_E_AGAIN the
 * call has to be repeated with the same bytes before anything else is sent. */
ssize_t mt_tls_socket_send(struct mt_tls_socket *s, const void *buf, size_t len) MT_MUST_CHECK;
/* Ends our direction: close_notify, then FIN. 0, MT_E_AGAIN (call again), or an error. */
int mt_tls_socket_send_fin(struct mt_tls_socket *s) MT_MUST_CHECK;
/* What a splice could not take: reads one record that is no payload. 0 at close_notify, MT_E_AGAIN
 * when there was nothing to it, else an error as of mt_tls_socket_recv. Kernel only. */
int mt_tls_socket_take_control(struct mt_tls_socket *s) MT_MUST_CHECK;
/* Notes records that were moved past this module; an error when there have been too many. */
int mt_tls_socket_count_records(
	struct mt_tls_socket *s, uint64_t received, uint64_t sent) MT_MUST_CHECK;
/* Makes it fail with an error of the socket (a negative errno) that somebody else met; the peer is
 * told when it is the kernel's word for a record that it could not open. */
int mt_tls_socket_fail(struct mt_tls_socket *s, int err);

/* Whether the other host has stopped answering what was sent, for MT_TLS_SILENT_MS. A host that
 * answers and takes nothing, because nobody reads there, is not silent: TCP_USER_TIMEOUT, and the
 * kernel's own retries, know no such difference or take a quarter of an hour.
 */
bool mt_tls_socket_is_silent(const struct mt_tls_socket *s);

/* Frees the session, which nothing needs any more once the kernel has the keys. The descriptor
 * stays open. Repeated calls do nothing. */
void mt_tls_socket_drop_session(struct mt_tls_socket *s);
/* Makes the close of the descriptor, which is the owner's to call, an RST. */
void mt_tls_socket_arm_reset(const struct mt_tls_socket *s);
/* A sentence for people about what went wrong, for either end. Static storage. */
const char *mt_tls_socket_reason(const struct mt_tls_socket *s);
