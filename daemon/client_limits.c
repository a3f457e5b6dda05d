#include "daemon/client_limits.h"

#include "proto/wire/settings.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool is_none(const char *text)
{
	return strcmp(text, "none") == 0;
}

static int parse_expiry(struct mt_store_limits *l, const char *text, int64_t now)
{
	static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"};
	int64_t seconds = 0;

	if (mt_setting_parse_number(MT_SETTING_DURATION, text, strlen(text), &seconds) == 0) {
		if (seconds <= 0 || __builtin_add_overflow(now, seconds, &l->expires_at)) {
			return MT_E_RANGE;
		}
		return 0;
	}
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = {0};
		const char *end = strptime(text, forms[i], &tm);
		int64_t at;

		if (end == NULL || *end != '\0') {
			continue;
		}
		at = (int64_t)timegm(&tm);
		if (at <= now) {
			return MT_E_RANGE;
		}
		l->expires_at = at;
		return 0;
	}
	return MT_E_MALFORMED;
}

static int parse_rate(struct mt_store_limits *l, const char *text, int64_t now)
{
	int64_t bits = 0;
	int rv = mt_setting_parse_number(MT_SETTING_SIZE, text, strlen(text), &bits);

	(void)now;
	if (rv == 0 && (bits < MT_CLIENT_RATE_MIN || bits > MT_CLIENT_RATE_MAX)) {
		rv = MT_E_RANGE;
	}
	if (rv == 0) {
		l->rate_bits = bits;
	}
	return rv;
}

static int parse_quota(struct mt_store_limits *l, const char *text, int64_t now)
{
	size_t len = strcspn(text, "/");
	enum mt_quota_period period = MT_QUOTA_TOTAL;
	int64_t bytes = 0;
	int rv = mt_setting_parse_number(MT_SETTING_SIZE, text, len, &bytes);

	(void)now;
	if (strcmp(text + len, "/day") == 0) {
		period = MT_QUOTA_DAY;
	} else if (strcmp(text + len, "/month") == 0) {
		period = MT_QUOTA_MONTH;
	} else if (text[len] != '\0') {
		rv = MT_E_MALFORMED;
	}
	if (rv == 0 && (bytes < MT_CLIENT_QUOTA_MIN || bytes > MT_CLIENT_QUOTA_MAX)) {
		rv = MT_E_RANGE;
	}
	if (rv == 0) {
		l->quota_bytes = bytes;
		l->quota_period = period;
	}
	return rv;
}

static int parse_connections(struct mt_store_limits *l, const char *text, int64_t now)
{
	int64_t number = 0;
	int rv = mt_setting_parse_number(MT_SETTING_INT, text, strlen(text), &number);

	(void)now;
	if (rv == 0 && (number < 1 || number > MT_CLIENT_CONNECTIONS_MAX)) {
		rv = MT_E_RANGE;
	}
	if (rv == 0) {
		l->max_connections = number;
	}
	return rv;
}

static int parse_note(struct mt_store_limits *l, const char *text, int64_t now)
{
	size_t len = strlen(text);

	(void)now;
	if (len > MT_STORE_NOTE_MAX) {
		return MT_E_TOO_LONG;
	}
	if (!mt_text_is_line(text, len)) {
		return MT_E_MALFORMED;
	}
	memcpy(l->note, text, len + 1);
	return 0;
}

static void clear_expiry(struct mt_store_limits *l)
{
	l->expires_at = 0;
}

static void clear_rate(struct mt_store_limits *l)
{
	l->rate_bits = 0;
}

static void clear_quota(struct mt_store_limits *l)
{
	l->quota_bytes = 0;
	l->quota_period = MT_QUOTA_TOTAL;
}

static void clear_connections(struct mt_store_limits *l)
{
	l->max_connections = 0;
}

static void clear_note(struct mt_store_limits *l)
{
	l->note[0] = '\0';
}

static const struct {
	const char *key;
	int (*parse)(struct mt_store_limits *l, const char *text, int64_t now);
	void (*clear)(struct mt_store_limits *l);
	const char *takes;
} fields[] = {
	{"expires", parse_expiry, clear_expiry,
		"a time from now (30d, 12h) or a moment to come (2030-12-31, "
		"2030-12-31T12:00:00Z)"},
	{"rate", parse_rate, clear_rate, "bits a second from 10K to 100G (50M)"},
	{"quota", parse_quota, clear_quota,
		"bytes from 1K on, for good or by period (100G, 5G/day, 100G/month)"},
	{"max_connections", parse_connections, clear_connections, "1 to 1000000"},
	{"note", parse_note, clear_note, "up to 200 bytes of text"},
};

int mt_client_limits_apply(struct mt_store_limits *limits, size_t *count, const json_t *args,
	int64_t now, char *why, size_t why_cap)
{
	struct mt_store_limits next = *limits;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const json_t *value = json_object_get(args, fields[i].key);
		const char *text = json_string_value(value);
		int rv = 0;

		if (value == NULL) {
			continue;
		}
		if (text == NULL) {
			rv = MT_E_MALFORMED;
		} else if (is_none(text)) {
			fields[i].clear(&next);
		} else {
			rv = fields[i].parse(&next, text, now);
		}
		if (rv != 0) {
			/* for people: cut when too long */
			(void)snprintf(why, why_cap,
				"%s '%.64s' is not usable: it takes %s, or none", fields[i].key,
				text != NULL ? text : "", fields[i].takes);
			return rv;
		}
		n++;
	}
	*limits = next;
	if (count != NULL) {
		*count = n;
	}
	return 0;
}

const char *mt_quota_period_text(enum mt_quota_period period)
{
	switch (period) {
	case MT_QUOTA_DAY: return "day";
	case MT_QUOTA_MONTH: return "month";
	case MT_QUOTA_TOTAL: break;
	}
	return "none";
}
