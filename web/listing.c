#include "web/listing.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	TEXT,       /* an array of char */
	STATIC,     /* a pointer to static text */
	EMPTY_TEXT, /* as TEXT, "" is null */
	UNSIGNED,
	UINT64,
	INT64,
	NONE_INT64, /* 0 is null */
	REAL,
};

struct field {
	const char *name;
	enum kind kind;
	size_t at;
};

enum match {
	EQUAL,
	PREFIX,
	NUMBER, /* an unsigned */
};

struct filter {
	const char *name;
	enum match match;
	enum kind kind;
	size_t at;
	const char *choices; /* NULL: any text */
};

#define C(member) offsetof(struct mt_web_connection, member)
#define K(member) offsetof(struct mt_web_client, member)

static const struct field connection_fields[] = {
	{"id", TEXT, C(id)},
	{"client", TEXT, C(client)},
	{"peer", TEXT, C(peer)},
	{"transport", STATIC, C(transport)},
	{"trace", TEXT, C(trace)},
	{"worker", UNSIGNED, C(worker)},
	{"connected_at", INT64, C(connected_at)},
	{"rtt_ms", REAL, C(rtt_ms)},
	{"congestion_control", STATIC, C(congestion_control)},
	{"bytes_received", UINT64, C(bytes_received)},
	{"bytes_sent", UINT64, C(bytes_sent)},
	{"streams", UNSIGNED, C(streams)},
	{"udp_flows", UNSIGNED, C(udp_flows)},
};

static const struct field client_fields[] = {
	{"name", TEXT, K(name)},
	{"state", STATIC, K(state)},
	{"connections", UNSIGNED, K(connections)},
	{"max_connections", NONE_INT64, K(max_connections)},
	{"bytes_received", UINT64, K(bytes_received)},
	{"bytes_sent", UINT64, K(bytes_sent)},
	{"last_seen", NONE_INT64, K(last_seen)},
	{"last_address", EMPTY_TEXT, K(last_address)},
	{"expires_at", NONE_INT64, K(expires_at)},
	{"rate_bits", NONE_INT64, K(rate_bits)},
	{"quota_bytes", NONE_INT64, K(quota_bytes)},
	{"quota_used", INT64, K(quota_used)},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct table {
	const char *name; /* of the list */
	size_t row;       /* bytes */
	const struct field *fields;
	size_t field_count;
	struct filter filters[MT_LISTING_FILTERS];
} tables[MT_WEB_LISTINGS] = {
	[MT_WEB_CONNECTIONS] = {"connections", sizeof(struct mt_web_connection), connection_fields,
		COUNT(connection_fields),
		{{"client", EQUAL, TEXT, C(client), NULL},
			{"transport", EQUAL, STATIC, C(transport), "|quic|tls|"},
			{"worker", NUMBER, UNSIGNED, C(worker), NULL},
			{"peer", PREFIX, TEXT, C(peer), NULL}}},
	[MT_WEB_CLIENTS] = {"clients", sizeof(struct mt_web_client), client_fields,
		COUNT(client_fields),
		{{"state", EQUAL, STATIC, K(state), "|active|disabled|revoked|expired|over quota|"},
			{"name", PREFIX, TEXT, K(name), NULL}}},
};

static const char *text_at(const void *row, enum kind kind, size_t at)
{
	const char *place = (const char *)row + at;
	const char *text = place;

	if (kind == STATIC) {
		memcpy(&text, place, sizeof(text));
	}
	return text;
}

static double number_at(const void *row, const struct field *f)
{
	const char *place = (const char *)row + f->at;
	unsigned u;
	uint64_t u64;
	int64_t i64;
	double d;

	switch (f->kind) {
	case UNSIGNED: memcpy(&u, place, sizeof(u)); return u;
	case UINT64: memcpy(&u64, place, sizeof(u64)); return (double)u64;
	case REAL: memcpy(&d, place, sizeof(d)); return d;
	default: memcpy(&i64, place, sizeof(i64)); return (double)i64;
	}
}

static bool is_text(enum kind kind)
{
	return kind == TEXT || kind == STATIC || kind == EMPTY_TEXT;
}

/* ---- the question ---- */

void mt_listing_begin(struct mt_listing_query *q, enum mt_web_listing which)
{
	*q = (struct mt_listing_query){.which = which, .limit = MT_LISTING_LIMIT};
}

/* Digits alone, up to nine of them. */
static bool parse_number(const char *text, size_t *out)
{
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 9 || text[digits] != '\0') {
		return false;
	}
	*out = (size_t)strtoul(text, NULL, 10);
	return true;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);

	if (strchr(value, '|') != NULL) {
		return false;
	}
	for (const char *p = strchr(choices, '|'); p != NULL && p[1] != '\0';
		p = strchr(p + 1, '|')) {
		if (strncmp(p + 1, value, len) == 0 && p[1 + len] == '|') {
			return true;
		}
	}
	return false;
}

static int take_filter(struct mt_listing_query *q, size_t i, const char *value, const char **why)
{
	const struct filter *f = &tables[q->which].filters[i];
	size_t number;

	if (f->choices != NULL && !is_choice(f->choices, value)) {
		*why = "a parameter is none of its choices, see mytunnel-http(7)";
		return MT_E_MALFORMED;
	}
	if (f->match == NUMBER && !parse_number(value, &number)) {
		*why = "a parameter has to be a number";
		return MT_E_MALFORMED;
	}
	q->filters[i] = value;
	return 0;
}

int mt_listing_take(
	struct mt_listing_query *q, const char *name, const char *value, const char **why)
{
	const struct table *t = &tables[q->which];

	if (value == NULL || *value == '\0') {
		*why = "a parameter has no value";
		return MT_E_MALFORMED;
	}
	if (strcmp(name, "limit") == 0) {
		*why = "limit is a number from 1 to 1000";
		return parse_number(value, &q->limit) && q->limit >= 1 && q->limit <= MT_LISTING_MAX
			       ? 0
			       : MT_E_MALFORMED;
	}
	if (strcmp(name, "offset") == 0) {
		*why = "offset is a number";
		return parse_number(value, &q->offset) ? 0 : MT_E_MALFORMED;
	}
	if (strcmp(name, "sort") == 0) {
		for (size_t i = 0; i < t->field_count; i++) {
			if (strcmp(value, t->fields[i].name) == 0) {
				q->sort = i;
				return 0;
			}
		}
		*why = "sort is none of the fields";
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < MT_LISTING_FILTERS && t->filters[i].name != NULL; i++) {
		if (strcmp(name, t->filters[i].name) == 0) {
			return take_filter(q, i, value, why);
		}
	}
	*why = "there is no such parameter, see mytunnel-http(7)";
	return MT_E_MALFORMED;
}

/* ---- the answer ---- */

static bool passes(const struct mt_listing_query *q, const void *row)
{
	const struct table *t = &tables[q->which];

	for (size_t i = 0; i < MT_LISTING_FILTERS; i++) {
		const struct filter *f = &t->filters[i];
		const char *wanted = q->filters[i];
		const struct field field = {NULL, f->kind, f->at};
		bool same = true;

		if (wanted == NULL) {
			continue;
		}
		if (f->match == NUMBER) {
			same = number_at(row, &field) == (double)strtoul(wanted, NULL, 10);
		} else if (f->match == PREFIX) {
			same = strncmp(text_at(row, f->kind, f->at), wanted, strlen(wanted)) == 0;
		} else {
			same = strcmp(text_at(row, f->kind, f->at), wanted) == 0;
		}
		if (!same) {
			return false;
		}
	}
	return true;
}

/* Texts rise, numbers fall; what is equal goes by the first field. */
static int compare(const void *x, const void *y, void *user)
{
	const struct mt_listing_query *q = user;
	const struct table *t = &tables[q->which];
	const struct field *f = &t->fields[q->sort];
	const void *a = *(const void *const *)x;
	const void *b = *(const void *const *)y;
	int order;

	if (is_text(f->kind)) {
		order = strcmp(text_at(a, f->kind, f->at), text_at(b, f->kind, f->at));
	} else {
		double left = number_at(a, f);
		double right = number_at(b, f);

		order = (left < right) - (left > right);
	}
	return order != 0 ? order
			  : strcmp(text_at(a, TEXT, t->fields[0].at),
				    text_at(b, TEXT, t->fields[0].at));
}

static json_t *value_json(const void *row, const struct field *f)
{
	const char *place = (const char *)row + f->at;
	int64_t number;
	const char *text;

	switch (f->kind) {
	case TEXT:
	case STATIC:
	case EMPTY_TEXT:
		text = text_at(row, f->kind, f->at);
		return f->kind == EMPTY_TEXT && *text == '\0' ? json_null() : json_string(text);
	case REAL: return json_real(number_at(row, f));
	case UNSIGNED: return json_integer((json_int_t)number_at(row, f));
	default: break;
	}
	memcpy(&number, place, sizeof(number)); /* both signs: a sum fits */
	return f->kind == NONE_INT64 && number == 0 ? json_null()
						    : json_integer((json_int_t)number);
}

static json_t *row_json(const void *row, const struct table *t)
{
	json_t *o = json_object();

	for (size_t i = 0; i < t->field_count; i++) {
		if (json_object_set_new(o, t->fields[i].name, value_json(row, &t->fields[i])) !=
			0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

char *mt_listing_format(const struct mt_listing_query *q, const void *rows, size_t count)
{
	const struct table *t = &tables[q->which];
	struct mt_listing_query order = *q;
	const void **chosen = calloc(count + 1, sizeof(*chosen));
	json_t *list = json_array();
	json_t *answer = NULL;
	char *text = NULL;
	size_t n = 0;

	if (chosen == NULL || list == NULL) {
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		const void *row = (const char *)rows + i * t->row;

		if (passes(q, row)) {
			chosen[n++] = row;
		}
	}
	if (n > 0) {
		qsort_r(chosen, n, sizeof(*chosen), compare, &order);
	}
	for (size_t i = q->offset; i < n && i - q->offset < q->limit; i++) {
		if (json_array_append_new(list, row_json(chosen[i], t)) != 0) {
			goto out;
		}
	}
	answer = json_pack("{s:i, s:I, s:I, s:I, s:I, s:O}", "schema", 1, "total",
		(json_int_t)count, "matched", (json_int_t)n, "offset", (json_int_t)q->offset,
		"limit", (json_int_t)q->limit, t->name, list);
	if (answer != NULL) {
		text = json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(9));
	}
out:
	free((void *)chosen);
	json_decref(list);
	json_decref(answer);
	return text;
}
