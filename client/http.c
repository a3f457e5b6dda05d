#include "client/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct text {
	const char *at;
	size_t len;
};

static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct text t)
{
	for (size_t i = 0; i < t.len; i++) {
		if (!is_token_char(t.at[i])) {
			return false;
		}
	}
	return t.len > 0;
}

static bool text_is(struct text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

/* Methods are case-sensitive (RFC 9110, section 9.1). */
static bool method_is(struct text t, const char *word)
{
	return t.len == strlen(word) && memcmp(t.at, word, t.len) == 0;
}

static struct text trim(struct text t)
{
	while (t.len > 0 && (t.at[0] == ' ' || t.at[0] == '\t')) {
		t.at++;
		t.len--;
	}
	while (t.len > 0 && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t')) {
		t.len--;
	}
	return t;
}

static int parse_decimal(struct text t, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (t.len == 0 || t.len > 18) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < t.len; i++) {
		if (t.at[i] < '0' || t.at[i] > '9') {
			return MT_E_MALFORMED;
		}
		value = value * 10 + (uint64_t)(t.at[i] - '0');
	}
	if (value > max) {
		return MT_E_MALFORMED;
	}
	*out = value;
	return 0;
}

/* "host:port", "[v6]:port", and without the port when `fallback` is not 0. */
static int parse_authority(struct mt_http_request *out, struct text t, uint16_t fallback)
{
	struct text host = t;
	struct text port = {NULL, 0};
	uint64_t number = fallback;

	if (t.len > 0 && t.at[0] == '[') {
		const char *close = memchr(t.at, ']', t.len);

		if (close == NULL) {
			return MT_E_MALFORMED;
		}
		host = (struct text){t.at + 1, (size_t)(close - t.at) - 1};
		port = (struct text){close + 1, t.len - host.len - 2};
		if (port.len > 0 && port.at[0] != ':') {
			return MT_E_MALFORMED;
		}
	} else {
		const char *colon = memchr(t.at, ':', t.len);

		if (colon != NULL) {
			host.len = (size_t)(colon - t.at);
			port = (struct text){colon, t.len - host.len};
		}
	}
	if (port.len > 1) {
		port = (struct text){port.at + 1, port.len - 1};
		if (parse_decimal(port, 65535, &number) < 0) {
			return MT_E_MALFORMED;
		}
	} else if (port.len == 1 && fallback == 0) {
		return MT_E_MALFORMED;
	}
	if (host.len == 0 || host.len > 255 || number == 0) {
		return MT_E_MALFORMED;
	}
	memcpy(out->host, host.at, host.len);
	out->host[host.len] = '\0';
	out->host_len = host.len;
	out->port = (uint16_t)number;
	return 0;
}

static int parse_target(struct mt_http_request *out, struct text target, const char **why)
{
	static const char scheme[] = "http://";
	const size_t scheme_len = sizeof(scheme) - 1;
	struct text authority;
	size_t end = 0;

	if (out->is_connect) {
		authority = target;
	} else {
		if (target.len < scheme_len || strncasecmp(target.at, scheme, scheme_len) != 0) {
			*why = "this is a proxy: the request must name an absolute http:// URI or "
			       "use CONNECT";
			return MT_E_UNSUPPORTED;
		}
		authority = (struct text){target.at + scheme_len, target.len - scheme_len};
		while (end < authority.len && authority.at[end] != '/' &&
			authority.at[end] != '?') {
			end++;
		}
		out->path = authority.at + end;
		out->path_len = authority.len - end;
		authority.len = end;
	}
	if (memchr(authority.at, '@', authority.len) != NULL) {
		*why = "user names in the URI are not accepted";
		return MT_E_MALFORMED;
	}
	out->authority = authority.at;
	out->authority_len = authority.len;
	if (parse_authority(out, authority, out->is_connect ? 0 : 80) < 0) {
		*why = "the target is not HOST:PORT";
		return MT_E_MALFORMED;
	}
	return 0;
}

static int parse_request_line(struct mt_http_request *out, struct text line, const char **why)
{
	const char *first = memchr(line.at, ' ', line.len);
	struct text method;
	struct text target;
	struct text version;
	const char *second;

	*why = "the request line is malformed";
	if (first == NULL) {
		return MT_E_MALFORMED;
	}
	method = (struct text){line.at, (size_t)(first - line.at)};
	second = memchr(first + 1, ' ', line.len - method.len - 1);
	if (second == NULL || !is_token(method)) {
		return MT_E_MALFORMED;
	}
	target = (struct text){first + 1, (size_t)(second - first) - 1};
	version = (struct text){second + 1, line.len - method.len - target.len - 2};
	if (version.len != 8 || memcmp(version.at, "HTTP/1.", 7) != 0 ||
		(version.at[7] != '0' && version.at[7] != '1')) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < target.len; i++) {
		if ((unsigned char)target.at[i] <= 0x20 || target.at[i] == 0x7f) {
			return MT_E_MALFORMED;
		}
	}
	out->minor = (uint8_t)(version.at[7] - '0');
	out->method = method.at;
	out->method_len = method.len;
	out->is_connect = method_is(method, "CONNECT");
	out->is_safe = method_is(method, "GET") || method_is(method, "HEAD") ||
		       method_is(method, "OPTIONS") || method_is(method, "TRACE");
	return parse_target(out, target, why);
}

/* Takes the next line, without its CRLF, from the front of `rest`; false when there is no whole
 * one. */
static bool next_line(struct text *rest, struct text *line)
{
	const char *end = memmem(rest->at, rest->len, "\r\n", 2);

	if (end == NULL) {
		return false;
	}
	*line = (struct text){rest->at, (size_t)(end - rest->at)};
	rest->at += line->len + 2;
	rest->len -= line->len + 2;
	return true;
}

static int split_field(struct text line, struct text *name, struct text *value)
{
	const char *colon = memchr(line.at, ':', line.len);

	if (colon == NULL) {
		return MT_E_MALFORMED;
	}
	*name = (struct text){line.at, (size_t)(colon - line.at)};
	*value = trim((struct text){colon + 1, line.len - name->len - 1});
	/* A token has no blank in it: that also refuses folded lines and blanks before the colon.
	 */
	if (!is_token(*name)) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < value->len; i++) {
		unsigned char c = (unsigned char)value->at[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			return MT_E_MALFORMED;
		}
	}
	return 0;
}

static int parse_fields(struct mt_http_request *out, struct text rest, const char **why)
{
	bool has_length = false;
	struct text line;

	while (next_line(&rest, &line) && line.len > 0) {
		struct text name;
		struct text value;
		uint64_t length;

		if (split_field(line, &name, &value) < 0) {
			*why = "a header field is malformed";
			return MT_E_MALFORMED;
		}
		if (text_is(name, "content-length")) {
			if (has_length || parse_decimal(value, UINT64_MAX, &length) < 0) {
				*why = "Content-Length is malformed";
				return MT_E_MALFORMED;
			}
			has_length = true;
			out->content_length = length;
		} else if (text_is(name, "transfer-encoding")) {
			if (out->chunked || !text_is(value, "chunked")) {
				*why = "this Transfer-Encoding is not supported";
				return MT_E_MALFORMED;
			}
			out->chunked = true;
		}
	}
	if (has_length && out->chunked) {
		*why = "Content-Length and Transfer-Encoding exclude each other";
		return MT_E_MALFORMED;
	}
	return 0;
}

int mt_http_parse(struct mt_http_request *out, const char *data, size_t len, const char **why)
{
	size_t seen = len < MT_HTTP_HEAD_MAX ? len : MT_HTTP_HEAD_MAX;
	const char *end = memmem(data, seen, "\r\n\r\n", 4);
	struct mt_http_request request = {0};
	struct text rest;
	struct text line;
	int err;

	if (end == NULL) {
		if (len >= MT_HTTP_HEAD_MAX) {
			*why = "the request's head is too long";
			return MT_E_TOO_LONG;
		}
		/* Not HTTP at all: say so at once instead of waiting for a line that never ends. */
		if (len > 0 && !is_token_char(data[0])) {
			*why = "this is neither SOCKS5 nor HTTP";
			return MT_E_MALFORMED;
		}
		return MT_E_AGAIN;
	}
	request.head_len = (size_t)(end - data) + 4;
	rest = (struct text){data, request.head_len};
	if (!next_line(&rest, &line)) {
		*why = "the request line is malformed";
		return MT_E_MALFORMED;
	}
	err = parse_request_line(&request, line, why);
	if (err < 0) {
		return err;
	}
	request.fields = rest.at;
	err = parse_fields(&request, rest, why);
	if (err < 0) {
		return err;
	}
	*out = request;
	return 0;
}

size_t mt_http_body_bytes(const struct mt_http_request *request, size_t len)
{
	if (request->is_connect || request->chunked) {
		return len;
	}
	return request->content_length < len ? (size_t)request->content_length : len;
}

/* Whether a Connection field of the head names `name` as meant for this hop only. */
static bool is_nominated(struct text all, struct text name)
{
	struct text rest = all;
	struct text line;

	while (next_line(&rest, &line) && line.len > 0) {
		struct text field;
		struct text value;

		if (split_field(line, &field, &value) < 0 || !text_is(field, "connection")) {
			continue;
		}
		while (value.len > 0) {
			const char *comma = memchr(value.at, ',', value.len);
			size_t len = comma == NULL ? value.len : (size_t)(comma - value.at);
			struct text item = trim((struct text){value.at, len});

			if (item.len == name.len && strncasecmp(item.at, name.at, name.len) == 0) {
				return true;
			}
			len += comma == NULL ? 0 : 1;
			value.at += len;
			value.len -= len;
		}
	}
	return false;
}

static bool is_hop_by_hop(struct text name)
{
	static const char *const dropped[] = {"host", "connection", "proxy-connection",
		"keep-alive", "proxy-authorization", "proxy-authenticate", "te", "upgrade"};

	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
		if (text_is(name, dropped[i])) {
			return true;
		}
	}
	return false;
}

/* The framing of the body must stay even when Connection names it. */
static bool is_framing(struct text name)
{
	return text_is(name, "content-length") || text_is(name, "transfer-encoding");
}

struct out {
	char *at;
	size_t left;
	bool failed;
};

static void put(struct out *o, const char *data, size_t len)
{
	if (o->failed || len > o->left) {
		o->failed = true;
		return;
	}
	if (len > 0) {
		memcpy(o->at, data, len);
		o->at += len;
		o->left -= len;
	}
}

static void put_text(struct out *o, const char *text)
{
	put(o, text, strlen(text));
}

int mt_http_rewrite(const struct mt_http_request *request, char *out, size_t cap, size_t *written)
{
	const char *head_end = request->method + request->head_len;
	struct text all = {request->fields, (size_t)(head_end - request->fields)};
	struct text rest = all;
	struct text line;
	struct out o = {out, cap, false};

	put(&o, request->method, request->method_len);
	put_text(&o, " ");
	if (request->path_len == 0 || request->path[0] != '/') {
		put_text(&o, "/");
	}
	put(&o, request->path, request->path_len);
	put_text(&o, request->minor == 0 ? " HTTP/1.0\r\nHost: " : " HTTP/1.1\r\nHost: ");
	put(&o, request->authority, request->authority_len);
	put_text(&o, "\r\n");
	while (next_line(&rest, &line) && line.len > 0) {
		struct text name;
		struct text value;

		if (split_field(line, &name, &value) < 0 || is_hop_by_hop(name) ||
			(!is_framing(name) && is_nominated(all, name))) {
			continue;
		}
		put(&o, line.at, line.len + 2);
	}
	put_text(&o, "Connection: close\r\n\r\n");
	if (o.failed) {
		return MT_E_TOO_LONG;
	}
	*written = cap - o.left;
	return 0;
}

static const char *phrase(int code)
{
	switch (code) {
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 405: return "Method Not Allowed";
	case 431: return "Request Header Fields Too Large";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	default: return "Error";
	}
}

size_t mt_http_error(char *buf, size_t cap, int code, const char *text)
{
	int n = snprintf(buf, cap,
		"HTTP/1.1 %d %s\r\n"
		"Content-Type: text/plain; charset=utf-8\r\n"
		"Content-Length: %zu\r\n"
		"Connection: close\r\n"
		"\r\n"
		"%s\n",
		code, phrase(code), strlen(text) + 1, text);

	if (n < 0) {
		return 0;
	}
	return (size_t)n < cap ? (size_t)n : cap - 1;
}
