/* One error space for the whole project: 0 is success, a negative errno value is an operating
 * system error, MT_E_* (far below every errno) is ours. Codes of ngtcp2, GnuTLS, SQLite, libuv
 * and c-ares are converted where they arise.
 */
#pragma once

#define MT_MUST_CHECK __attribute__((warn_unused_result))

enum mt_err {
	MT_OK = 0,
	MT_E_AGAIN = -20001,       /* more input, or room, is needed first */
	MT_E_MALFORMED = -20002,   /* input does not follow its format */
	MT_E_TOO_LONG = -20003,    /* input exceeds a named cap */
	MT_E_UNSUPPORTED = -20004, /* well-formed, but not offered here */
	MT_E_RANGE = -20005,       /* a number outside its bounds */
	MT_E_NOT_FOUND = -20006,   /* no such key, client, connection, name */
	MT_E_EXISTS = -20007,      /* the name is taken */
	MT_E_LIMIT = -20008,       /* a named cap is reached */
	MT_E_DENIED = -20009,      /* access rules or identity say no */
	MT_E_CLOSED = -20010,      /* the connection or stream has ended */
	MT_E_RESET = -20011,       /* ended by a reset, data may be missing */
	MT_E_TIMEOUT = -20012,
	MT_E_TLS = -20013,     /* GnuTLS refused */
	MT_E_QUIC = -20014,    /* ngtcp2 refused */
	MT_E_STORE = -20015,   /* SQLite refused */
	MT_E_CORRUPT = -20016, /* stored data cannot be trusted */
	MT_E_NEWER = -20017,   /* stored by a newer version */
	MT_E_PERMS = -20018,   /* a file's permissions are too open */
	MT_E_PIN = -20019,     /* the peer's certificate does not match the pin */
	MT_E_DNS = -20020,     /* the name did not resolve */
	MT_E_BUSY = -20021,    /* in use by another process */
};

/* A short English phrase without a final stop for `err`; never NULL, static storage. */
const char *mt_strerror(int err);
