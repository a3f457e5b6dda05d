/* The head of a proxy request in HTTP/1 (RFC 9110, RFC 9112), read and rewritten without I/O.
 * Strict: what two parsers could understand differently is refused.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_HTTP_HEAD_MAX (64 * 1024) /* request line, fields and the empty line */

struct mt_http_request {
	bool is_connect;
	bool is_safe; /* GET, HEAD, OPTIONS, TRACE: sending it twice does no harm */
	bool chunked;
	uint64_t content_length; /* 0 when there is none */
	size_t head_len;         /* bytes up to and with the empty line */
	char host[256];          /* NUL-terminated, IPv6 without brackets */
	size_t host_len;
	uint16_t port;
	/* Borrowed from the input, for mt_http_rewrite. */
	const char *method;
	size_t method_len;
	const char *authority; /* as written, without user and path */
	size_t authority_len;
	const char *path; /* from the first '/' or '?' on; may be empty */
	size_t path_len;
	uint8_t minor; /* HTTP/1.minor */
	const char *fields;
};

/* Reads a head from the front of `data`. 0; MT_E_AGAIN when incomplete; MT_E_TOO_LONG beyond
 * MT_HTTP_HEAD_MAX; MT_E_UNSUPPORTED for a form that a proxy does not serve (another scheme, no
 * absolute URI); MT_E_MALFORMED. On errors other than MT_E_AGAIN `*why` is a static phrase.
 */
int mt_http_parse(
	struct mt_http_request *out, const char *data, size_t len, const char **why) MT_MUST_CHECK;

/* Bytes behind the head that may belong to the request's body, of the `len` that are there: what
 * follows belongs to another request and must not reach this one's target.
 */
size_t mt_http_body_bytes(const struct mt_http_request *request, size_t len);

/* Writes the request in origin form: Host is that of the URI, hop-by-hop fields are dropped,
 * "Connection: close" is added. 0 and `*written` set, MT_E_TOO_LONG. A `cap` of head_len +
 * MT_HTTP_REWRITE_EXTRA is always enough.
 */
#define MT_HTTP_REWRITE_EXTRA 64
int mt_http_rewrite(const struct mt_http_request *request, char *out, size_t cap,
	size_t *written) MT_MUST_CHECK;

/* Writes an answer of the proxy's own with one line of text. Returns its length (cut to `cap`). */
size_t mt_http_error(char *buf, size_t cap, int code, const char *text);
