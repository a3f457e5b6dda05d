#include "proto/wire/settings.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Below it a piece of a packet would take longer than any peer waits. */
#define BANDWIDTH_MIN 10000

#define KEY_MAX 64 /* longest text that is compared with keys */

const struct mt_setting *mt_setting_find(const char *key)
{
	const struct mt_setting *table = mt_settings_table();

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (strcmp(table[i].key, key) == 0) {
			return &table[i];
		}
	}
	return NULL;
}

/* Letters to insert, delete or exchange (Levenshtein), ignoring their case. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);
	size_t row[KEY_MAX + 1];

	if (a_len > KEY_MAX || b_len > KEY_MAX) {
		return SIZE_MAX;
	}
	for (size_t j = 0; j <= b_len; j++) {
		row[j] = j;
	}
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			bool same = tolower((unsigned char)a[i - 1]) ==
				    tolower((unsigned char)b[j - 1]);
			size_t best = diagonal + (same ? 0 : 1);

			diagonal = row[j];
			best = row[j] + 1 < best ? row[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return row[b_len];
}

const char *mt_setting_suggest(const char *key)
{
	const struct mt_setting *table = mt_settings_table();
	const char *nearest = NULL;
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		/* People forget the section; then only what follows it can be near. */
		const char *known =
			strchr(key, '.') != NULL ? table[i].key : strchr(table[i].key, '.') + 1;
		size_t distance = edit_distance(key, known);

		if (distance < least && distance <= 1 + strlen(known) / 5) {
			least = distance;
			nearest = table[i].key;
		}
	}
	return nearest;
}

const char *mt_setting_applies_text(enum mt_setting_applies applies)
{
	switch (applies) {
	case MT_APPLIES_LIVE: return "at once";
	case MT_APPLIES_NEW: return "at once, to new connections";
	case MT_APPLIES_RESTART: return "at the next start of the daemon";
	}
	return "unknown";
}

struct suffix {
	const char *text;
	int64_t factor;
};

static const struct suffix size_suffixes[] = {
	{"", 1},
	{"K", INT64_C(1000)},
	{"M", INT64_C(1000000)},
	{"G", INT64_C(1000000000)},
	{"T", INT64_C(1000000000000)},
	{"Ki", INT64_C(1) << 10},
	{"Mi", INT64_C(1) << 20},
	{"Gi", INT64_C(1) << 30},
	{"Ti", INT64_C(1) << 40},
	{NULL, 0},
};

static const struct suffix duration_suffixes[] = {
	{"", 1},
	{"s", 1},
	{"m", 60},
	{"h", 3600},
	{"d", 86400},
	{NULL, 0},
};

static const struct suffix no_suffixes[] = {
	{"", 1},
	{NULL, 0},
};

static const struct suffix *suffixes_of(enum mt_setting_type type)
{
	if (type == MT_SETTING_SIZE) {
		return size_suffixes;
	}
	return type == MT_SETTING_DURATION ? duration_suffixes : no_suffixes;
}

/* Digits and a suffix. MT_E_RANGE beyond int64_t. */
static int parse_number(int64_t *out, const char *text, size_t len, const struct suffix *suffixes)
{
	int64_t v = 0;
	size_t digits = 0;

	while (digits < len && text[digits] >= '0' && text[digits] <= '9') {
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, text[digits] - '0', &v)) {
			return MT_E_RANGE;
		}
		digits++;
	}
	if (digits == 0) {
		return MT_E_MALFORMED;
	}
	for (; suffixes->text != NULL; suffixes++) {
		if (strlen(suffixes->text) == len - digits &&
			memcmp(suffixes->text, text + digits, len - digits) == 0) {
			if (__builtin_mul_overflow(v, suffixes->factor, &v)) {
				return MT_E_RANGE;
			}
			*out = v;
			return 0;
		}
	}
	return MT_E_MALFORMED;
}

int mt_setting_parse_number(enum mt_setting_type type, const char *text, size_t len, int64_t *out)
{
	return parse_number(out, text, len, suffixes_of(type));
}

/* A size gets the suffix that leaves the smallest number, so that 8388608 reads as 8Mi and
 * 50000000 as 50M; whoever wrote either form finds it again.
 */
static void format_number(char *out, size_t cap, int64_t v, enum mt_setting_type type)
{
	const struct suffix *best = &no_suffixes[0];

	for (const struct suffix *s = size_suffixes;
		type == MT_SETTING_SIZE && v > 0 && s->text != NULL; s++) {
		if (v % s->factor == 0 && s->factor > best->factor) {
			best = s;
		}
	}
	(void)snprintf(out, cap, "%" PRId64 "%s", v / best->factor, best->text); /* 22 at most */
}

static int normalize_number(const struct mt_setting *s, const char *text, size_t len, char *out)
{
	int64_t v = 0;
	int err = parse_number(&v, text, len, suffixes_of(s->type));

	if (err < 0) {
		return err;
	}
	if (v < s->minimum || v > s->maximum) {
		return MT_E_RANGE;
	}
	format_number(out, MT_SETTING_VALUE_MAX, v, s->type);
	return 0;
}

static int normalize_bool(const char *text, size_t len, char *out)
{
	static const char *const words[][2] = {
		{"on", "on"},
		{"true", "on"},
		{"yes", "on"},
		{"1", "on"},
		{"off", "off"},
		{"false", "off"},
		{"no", "off"},
		{"0", "off"},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i][0]) == len && strncasecmp(words[i][0], text, len) == 0) {
			(void)snprintf(out, MT_SETTING_VALUE_MAX, "%s", words[i][1]); /* fits */
			return 0;
		}
	}
	return MT_E_MALFORMED;
}

static int normalize_enum(const struct mt_setting *s, const char *text, size_t len, char *out)
{
	const char *choice = s->choices;

	while (*choice != '\0') {
		size_t n = strcspn(choice, "|");

		if (n == len && strncasecmp(choice, text, len) == 0) {
			memcpy(out, choice, n);
			out[n] = '\0';
			return 0;
		}
		choice += n;
		choice += *choice == '|' ? 1 : 0;
	}
	return MT_E_MALFORMED;
}

static void trim(const char **text, size_t *len)
{
	while (*len > 0 && (**text == ' ' || **text == '\t')) {
		(*text)++;
		(*len)--;
	}
	while (*len > 0 && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t')) {
		(*len)--;
	}
}

/* Reads up to `cap` addresses of a comma list. MT_E_LIMIT beyond, MT_E_EXISTS for the same address
 * twice (port 0 stands for any free port and may be repeated).
 */
static int parse_addrs(struct mt_addr *out, size_t cap, size_t *count, const char *text, size_t len)
{
	size_t n = 0;

	while (len > 0) {
		const char *comma = memchr(text, ',', len);
		const char *item = text;
		size_t item_len = comma != NULL ? (size_t)(comma - text) : len;
		char copy[MT_ADDR_TEXT_MAX];
		int err = 0;

		text += item_len;
		len -= item_len;
		if (comma != NULL) {
			text++;
			len--;
			if (len == 0) {
				return MT_E_MALFORMED;
			}
		}
		trim(&item, &item_len);
		if (item_len == 0 || item_len >= sizeof(copy)) {
			return MT_E_MALFORMED;
		}
		if (n == cap) {
			return MT_E_LIMIT;
		}
		memcpy(copy, item, item_len);
		copy[item_len] = '\0';
		err = mt_addr_parse(&out[n], copy);
		if (err < 0) {
			return err;
		}
		for (size_t i = 0; i < n; i++) {
			if (mt_addr_port(&out[n]) != 0 && mt_addr_equal(&out[i], &out[n])) {
				return MT_E_EXISTS;
			}
		}
		n++;
	}
	*count = n;
	return 0;
}

static int normalize_addrs(const struct mt_setting *s, const char *text, size_t len, char *out)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	size_t count = 0, used = 0;
	int err = parse_addrs(addrs, (size_t)s->maximum, &count, text, len);

	_Static_assert(MT_SETTING_ADDRS_MAX * MT_ADDR_TEXT_MAX > MT_SETTING_VALUE_MAX,
		"the length is checked below for this reason");
	if (err < 0) {
		return err;
	}
	if (count < (size_t)s->minimum) {
		return MT_E_RANGE;
	}
	out[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		char item[MT_ADDR_TEXT_MAX];
		size_t item_len = strlen(mt_addr_format(&addrs[i], item, sizeof(item)));

		if (used + item_len + 2 > MT_SETTING_VALUE_MAX) {
			return MT_E_TOO_LONG;
		}
		if (i > 0) {
			out[used++] = ',';
		}
		memcpy(out + used, item, item_len + 1);
		used += item_len;
	}
	return 0;
}

static int normalize_text(const struct mt_setting *s, const char *text, size_t len, char *out)
{
	const char *host = NULL;
	size_t host_len = 0;
	uint16_t port = 0;

	if (len < (size_t)s->minimum || len > (size_t)s->maximum) {
		return MT_E_RANGE;
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
			return MT_E_MALFORMED;
		}
	}
	if (s->id == MT_SET_SERVER_PUBLIC_ADDR && len > 0) {
		int err = mt_host_split(&host, &host_len, &port, text, len);

		if (err < 0) {
			return err;
		}
	}
	memcpy(out, text, len);
	out[len] = '\0';
	return 0;
}

/* What would be accepted, as the end of a sentence. */
static void describe_accepted(const struct mt_setting *s, char *out, size_t cap)
{
	char low[32], high[32], list[64];
	size_t used = 0;

	switch (s->type) {
	case MT_SETTING_BOOL: (void)snprintf(out, cap, "on or off"); break;
	case MT_SETTING_ENUM:
		for (const char *c = s->choices; *c != '\0' && used + 3 < sizeof(list); c++) {
			list[used++] = *c == '|' ? ',' : *c;
			if (*c == '|') {
				list[used++] = ' ';
			}
		}
		list[used] = '\0';
		(void)snprintf(out, cap, "one of %s", list);
		break;
	case MT_SETTING_ADDRS:
		if (s->maximum == 1) {
			(void)snprintf(out, cap, "an address such as 127.0.0.1:443 or [::1]:443");
		} else {
			(void)snprintf(out, cap,
				"a comma list of %" PRId64 " to %" PRId64
				" different addresses such as 0.0.0.0:443,[::]:443",
				s->minimum, s->maximum);
		}
		break;
	case MT_SETTING_TEXT:
		(void)snprintf(out, cap, "%sup to %" PRId64 " bytes of text",
			s->id == MT_SET_SERVER_PUBLIC_ADDR ? "HOST or HOST:PORT, " : "",
			s->maximum);
		break;
	default:
		format_number(low, sizeof(low), s->minimum, s->type);
		format_number(high, sizeof(high), s->maximum, s->type);
		(void)snprintf(out, cap, "%s to %s %s%s", low, high, s->unit,
			s->type == MT_SETTING_SIZE       ? " (suffixes K M G T, Ki Mi Gi Ti)"
			: s->type == MT_SETTING_DURATION ? " (suffixes s m h d)"
							 : "");
		break;
	}
	/* Texts above are shorter than any buffer that callers have; a cut one would still tell. */
}

static void explain(const struct mt_setting *s, const char *text, char *why, size_t why_cap)
{
	char shown[48], accepted[160];
	size_t n = 0;

	/* The value goes to terminals and logs: no control characters, no half characters. */
	for (; n < sizeof(shown) - 1 && text[n] != '\0'; n++) {
		shown[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
	}
	shown[n] = '\0';
	describe_accepted(s, accepted, sizeof(accepted));
	(void)snprintf(why, why_cap, "%s does not take '%s%s': expected %s", s->key, shown,
		text[n] != '\0' ? "..." : "", accepted); /* cut only by the caller's own cap */
}

int mt_setting_normalize(
	const struct mt_setting *s, const char *text, char *canonical, char *why, size_t why_cap)
{
	char out[MT_SETTING_VALUE_MAX];
	const char *start = text;
	size_t len = strlen(text);
	int err = MT_E_TOO_LONG;

	trim(&start, &len);
	if (len < sizeof(out)) {
		switch (s->type) {
		case MT_SETTING_BOOL: err = normalize_bool(start, len, out); break;
		case MT_SETTING_ENUM: err = normalize_enum(s, start, len, out); break;
		case MT_SETTING_ADDRS: err = normalize_addrs(s, start, len, out); break;
		case MT_SETTING_TEXT: err = normalize_text(s, start, len, out); break;
		default: err = normalize_number(s, start, len, out); break;
		}
	}
	if (err < 0) {
		explain(s, text, why, why_cap);
		return err;
	}
	memcpy(canonical, out, strlen(out) + 1);
	return 0;
}

void mt_settings_init(struct mt_settings *settings)
{
	const struct mt_setting *table = mt_settings_table();

	memset(settings, 0, sizeof(*settings));
	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		memcpy(settings->text[i], table[i].initial, strlen(table[i].initial) + 1);
	}
}

bool mt_settings_bool(const struct mt_settings *settings, enum mt_setting_id id)
{
	assert(mt_settings_table()[id].type == MT_SETTING_BOOL);
	return strcmp(settings->text[id], "on") == 0;
}

int64_t mt_settings_int(const struct mt_settings *settings, enum mt_setting_id id)
{
	const char *text = settings->text[id];
	int64_t v = 0;
	int err = parse_number(&v, text, strlen(text), suffixes_of(mt_settings_table()[id].type));

	assert(err == 0); /* canonical text only */
	return err == 0 ? v : 0;
}

const char *mt_settings_text(const struct mt_settings *settings, enum mt_setting_id id)
{
	return settings->text[id];
}

size_t mt_settings_addrs(
	const struct mt_settings *settings, enum mt_setting_id id, struct mt_addr *out, size_t cap)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	const char *text = settings->text[id];
	size_t count = 0;
	int err = parse_addrs(addrs, MT_SETTING_ADDRS_MAX, &count, text, strlen(text));

	assert(err == 0); /* canonical text only */
	if (err < 0) {
		return 0;
	}
	count = count < cap ? count : cap;
	for (size_t i = 0; i < count; i++) {
		out[i] = addrs[i];
	}
	return count;
}

int mt_settings_check(const struct mt_settings *settings, char *why, size_t why_cap)
{
	int64_t stream = mt_settings_int(settings, MT_SET_QUIC_MAX_STREAM_WINDOW);
	int64_t conn = mt_settings_int(settings, MT_SET_QUIC_MAX_CONN_WINDOW);
	int64_t bandwidth = mt_settings_int(settings, MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN);

	if (mt_settings_bool(settings, MT_SET_QUIC_ENABLE_0RTT)) {
		(void)snprintf(why, why_cap,
			"quic.enable_0rtt cannot be on: this version has no 0-RTT"); /* as below */
		return MT_E_UNSUPPORTED;
	}
	if (bandwidth != 0 && bandwidth < BANDWIDTH_MIN) {
		(void)snprintf(why, why_cap,
			"limits.max_bandwidth_per_conn (%s) is in bits per second: 0 for none, or "
			"from "
			"10K on",
			settings->text[MT_SET_LIMITS_MAX_BANDWIDTH_PER_CONN]); /* as below */
		return MT_E_RANGE;
	}
	if (conn < stream) {
		(void)snprintf(why, why_cap,
			"quic.max_conn_window (%s) must not be below quic.max_stream_window (%s)",
			settings->text[MT_SET_QUIC_MAX_CONN_WINDOW],
			settings->text[MT_SET_QUIC_MAX_STREAM_WINDOW]); /* cut only by the cap */
		return MT_E_RANGE;
	}
	return 0;
}
