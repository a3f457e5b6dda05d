/* The settings as data: one table by which the daemon validates, `describe` prints, completion
 * completes and the manual page is made.
 */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mt_setting_type {
	MT_SETTING_BOOL,     /* on, off */
	MT_SETTING_INT,      /* a plain number */
	MT_SETTING_SIZE,     /* bytes; suffixes K M G T (powers of 1000) and Ki Mi Gi Ti */
	MT_SETTING_DURATION, /* seconds; suffixes s m h d */
	MT_SETTING_ENUM,     /* one of `choices` */
	MT_SETTING_ADDRS,    /* comma list of `minimum` to `maximum` IP:PORT */
	MT_SETTING_TEXT,     /* free text up to `maximum` bytes */
};

enum mt_setting_applies {
	MT_APPLIES_LIVE,    /* at once, to everything */
	MT_APPLIES_NEW,     /* at once, to new connections */
	MT_APPLIES_RESTART, /* at the next start of the daemon */
};

/* One id per key, in the order of the table. */
enum mt_setting_id {
	MT_SET_SERVER_BIND_ADDR,
	MT_SET_SERVER_WORKERS,
	MT_SET_SERVER_PUBLIC_ADDR,
	MT_SET_QUIC_MAX_CONNECTIONS,
	MT_SET_QUIC_MAX_STREAMS_PER_CONN,
	MT_SET_QUIC_IDLE_TIMEOUT_SECS,
	MT_SET_QUIC_MAX_UDP_PAYLOAD,
	MT_SET_QUIC_CONGESTION_CONTROL,
	MT_SET_QUIC_MAX_STREAM_WINDOW,
	MT_SET_QUIC_MAX_CONN_WINDOW,
	MT_SET_QUIC_ENABLE_0RTT,
	MT_SET_TCP_ENABLED,
	MT_SET_TCP_BIND_ADDR,
	MT_SET_TLS_AUTO_GENERATE,
	MT_SET_METRICS_ENABLED,
	MT_SET_METRICS_BIND_ADDR,
	MT_SET_METRICS_PER_CLIENT,
	MT_SET_LOGGING_LEVEL,
	MT_SET_LOGGING_FORMAT,
	MT_SET_LOGGING_ACCESS,
	MT_SET_LIMITS_MAX_NEW_CONN_PER_SEC,
	MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN,
	MT_SET_LIMITS_MAX_MEMORY_MB,
	MT_SET_ACCESS_REQUIRE_IDENTITY,
	MT_SET_ACCESS_ALLOW_PRIVATE,
	MT_SETTING_COUNT,
};

struct mt_setting {
	const char *key;
	const char *unit; /* "" where there is none */
	int64_t minimum;
	int64_t maximum;
	const char *choices; /* MT_SETTING_ENUM: separated by '|' */
	const char *initial; /* the default, in canonical text */
	const char *help;    /* one line */
	enum mt_setting_id id;
	enum mt_setting_type type;
	enum mt_setting_applies applies;
};

#define MT_SETTING_VALUE_MAX 512 /* bytes of a value's text, NUL included */
#define MT_SETTING_ADDRS_MAX 8

/* All rows, by id. */
const struct mt_setting *mt_settings_table(void);
/* By key; NULL when unknown. */
const struct mt_setting *mt_setting_find(const char *key);
/* The key nearest to a mistyped one ("did you mean"); NULL when none is near. */
const char *mt_setting_suggest(const char *key);
const char *mt_setting_applies_text(enum mt_setting_applies applies);

/* Validates `text` and writes the canonical form (at most MT_SETTING_VALUE_MAX with NUL). On
 * failure a sentence that names the key, the value and what would be accepted is written to `why`.
 */
int mt_setting_normalize(const struct mt_setting *s, const char *text, char *canonical, char *why,
	size_t why_cap) MT_MUST_CHECK;

/* A number as text of MT_SETTING_INT, _SIZE or _DURATION: digits and one of the type's suffixes. */
int mt_setting_parse_number(
	enum mt_setting_type type, const char *text, size_t len, int64_t *out) MT_MUST_CHECK;

/* A whole set of values: canonical text by id. */
struct mt_settings {
	char text[MT_SETTING_COUNT][MT_SETTING_VALUE_MAX];
};

/* All defaults. */
void mt_settings_init(struct mt_settings *settings);
/* Values in their own types; the text is canonical, so these cannot fail. */
bool mt_settings_bool(const struct mt_settings *settings, enum mt_setting_id id);
/* MT_SETTING_INT, _SIZE in bytes, _DURATION in seconds. */
int64_t mt_settings_int(const struct mt_settings *settings, enum mt_setting_id id);
const char *mt_settings_text(const struct mt_settings *settings, enum mt_setting_id id);
/* Fills at most `cap` addresses, returns how many. */
size_t mt_settings_addrs(
	const struct mt_settings *settings, enum mt_setting_id id, struct mt_addr *out, size_t cap);
/* Checks across keys (for example that max_conn_window >= max_stream_window). */
int mt_settings_check(const struct mt_settings *settings, char *why, size_t why_cap) MT_MUST_CHECK;
