/* links: client/http.c */
#include "client/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static int parse(struct mt_http_request *out, const char *text, const char **why)
{
	*why = "";
	return mt_http_parse(out, text, strlen(text), why);
}

static void assert_refused(const char *text, int err)
{
	struct mt_http_request request;
	const char *why;

	assert_int_equal(parse(&request, text, &why), err);
	assert_true(why[0] != '\0');
}

static void assert_rewritten(const char *from, const char *to)
{
	struct mt_http_request request;
	const char *why;
	char out[1024];
	size_t len = 0;

	assert_int_equal(parse(&request, from, &why), 0);
	assert_int_equal(request.head_len, strlen(from));
	assert_int_equal(
		mt_http_rewrite(&request, out, request.head_len + MT_HTTP_REWRITE_EXTRA, &len), 0);
	assert_true(len < sizeof(out));
	out[len] = '\0';
	assert_string_equal(out, to);
}

static void test_parse_connect(void **state)
{
	struct mt_http_request request;
	const char *why;

	(void)state;
	assert_int_equal(
		parse(&request, "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", &why), 0);
	assert_true(request.is_connect);
	assert_string_equal(request.host, "example.com");
	assert_int_equal(request.port, 443);
	assert_int_equal(parse(&request, "CONNECT [2001:db8::1]:22 HTTP/1.0\r\n\r\nrest", &why), 0);
	assert_string_equal(request.host, "2001:db8::1");
	assert_int_equal(request.port, 22);
	assert_int_equal(request.head_len, strlen("CONNECT [2001:db8::1]:22 HTTP/1.0\r\n\r\n"));
}

static void test_parse_every_split(void **state)
{
	static const char text[] = "GET http://example.com/a HTTP/1.1\r\nAccept: */*\r\n\r\n";
	struct mt_http_request request;
	const char *why = "";

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		char *copy = malloc(len + 1);

		assert_non_null(copy);
		memcpy(copy, text, len);
		assert_int_equal(mt_http_parse(&request, copy, len, &why), MT_E_AGAIN);
		free(copy);
	}
	assert_int_equal(mt_http_parse(&request, text, sizeof(text) - 1, &why), 0);
	assert_true(request.is_safe);
	assert_int_equal(request.port, 80);
}

static void test_parse_refused(void **state)
{
	(void)state;
	assert_refused("GET / HTTP/1.1\r\nHost: x\r\n\r\n", MT_E_UNSUPPORTED);
	assert_refused("GET https://x/ HTTP/1.1\r\n\r\n", MT_E_UNSUPPORTED);
	assert_refused("GET http://user@x/ HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http:///a HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x:0/ HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x:65536/ HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("CONNECT example.com HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("CONNECT example.com: HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("CONNECT [::1:443 HTTP/1.1\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x/ HTTP/2.0\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x/ HTTP/1.1\r\nA : b\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n", MT_E_MALFORMED);
	assert_refused("GET http://x/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n", MT_E_MALFORMED);
	assert_refused("\x16\x03\x01", MT_E_MALFORMED);
}

static void test_parse_framing(void **state)
{
	struct mt_http_request request;
	const char *why;

	(void)state;
	assert_int_equal(
		parse(&request, "POST http://x/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello more",
			&why),
		0);
	assert_false(request.is_safe);
	assert_int_equal(mt_http_body_bytes(&request, 10), 5);
	assert_int_equal(mt_http_body_bytes(&request, 3), 3);
	assert_int_equal(
		parse(&request, "PUT http://x/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
			&why),
		0);
	assert_int_equal(mt_http_body_bytes(&request, 10), 10);
	assert_refused("POST http://x/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		MT_E_MALFORMED);
	assert_refused("POST http://x/ HTTP/1.1\r\nContent-Length: +5\r\n\r\n", MT_E_MALFORMED);
	assert_refused("POST http://x/ HTTP/1.1\r\nContent-Length: 5\r\n"
		       "Transfer-Encoding: chunked\r\n\r\n",
		MT_E_MALFORMED);
	assert_refused("POST http://x/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		MT_E_MALFORMED);
}

static void test_parse_too_long(void **state)
{
	struct mt_http_request request;
	const char *why = "";
	char *text = malloc(MT_HTTP_HEAD_MAX);

	(void)state;
	assert_non_null(text);
	memset(text, 'a', MT_HTTP_HEAD_MAX);
	assert_int_equal(mt_http_parse(&request, text, MT_HTTP_HEAD_MAX - 1, &why), MT_E_AGAIN);
	assert_int_equal(mt_http_parse(&request, text, MT_HTTP_HEAD_MAX, &why), MT_E_TOO_LONG);
	free(text);
}

static void test_rewrite_origin_form(void **state)
{
	(void)state;
	assert_rewritten(
		"GET http://example.com/a?b=c HTTP/1.1\r\nHost: other\r\nAccept: */*\r\n\r\n",
		"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n"
		"Connection: close\r\n\r\n");
	assert_rewritten("GET http://example.com:8080 HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: example.com:8080\r\nConnection: close\r\n\r\n");
	assert_rewritten("GET http://[::1]?q HTTP/1.1\r\n\r\n",
		"GET /?q HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n");
}

static void test_rewrite_drops_hop_by_hop(void **state)
{
	(void)state;
	assert_rewritten("POST http://x/ HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\n"
			 "Connection: keep-alive, X-Hop,Content-Length\r\nX-Hop: 1\r\nX-End: 2\r\n"
			 "Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n"
			 "Content-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nX-End: 2\r\nContent-Length: 0\r\n"
		"Connection: close\r\n\r\n");
}

static void test_rewrite_without_room(void **state)
{
	static const char text[] = "GET http://x/ HTTP/1.1\r\n\r\n";
	struct mt_http_request request;
	const char *why;
	char out[16];
	size_t len = 0;

	(void)state;
	assert_int_equal(parse(&request, text, &why), 0);
	assert_int_equal(mt_http_rewrite(&request, out, sizeof(out), &len), MT_E_TOO_LONG);
}

static void test_error_text(void **state)
{
	char buf[512];
	size_t len = mt_http_error(buf, sizeof(buf), 403, "no");

	(void)state;
	assert_int_equal(len, strlen(buf));
	assert_non_null(strstr(buf, "HTTP/1.1 403 Forbidden\r\n"));
	assert_non_null(strstr(buf, "Content-Length: 3\r\n"));
	assert_non_null(strstr(buf, "\r\n\r\nno\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_connect),
		cmocka_unit_test(test_parse_every_split),
		cmocka_unit_test(test_parse_refused),
		cmocka_unit_test(test_parse_framing),
		cmocka_unit_test(test_parse_too_long),
		cmocka_unit_test(test_rewrite_origin_form),
		cmocka_unit_test(test_rewrite_drops_hop_by_hop),
		cmocka_unit_test(test_rewrite_without_room),
		cmocka_unit_test(test_error_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
