#include "client/http.h"
#include "client/local_impl.h"

#include <stdio.h>
#include <string.h>

#define ANSWER_MAX 1024

static void refuse_with(struct mt_local *local, int code, const char *text)
{
	char buf[ANSWER_MAX];

	mt_local_finish(local, buf, mt_http_error(buf, sizeof(buf), code, text));
}

/* A plain request: head and what is there of its body, for the target's eyes. */
static void request_plain(struct mt_local *local, const struct mt_http_request *request)
{
	const uint8_t *body = local->buffer + request->head_len;
	size_t body_len = mt_http_body_bytes(request, local->fill - request->head_len);
	size_t cap = request->head_len + MT_HTTP_REWRITE_EXTRA;
	struct mt_mem *mem = local->locals->config.mem;
	uint8_t *early = mt_mem_alloc(mem, cap + body_len);
	size_t len;

	if (early == NULL || mt_http_rewrite(request, (char *)early, cap, &len) < 0) {
		mt_mem_release(mem, early);
		refuse_with(local, 502, "the request could not be forwarded");
		return;
	}
	memcpy(early + len, body, body_len);
	local->protocol = &mt_local_http_plain;
	local->fill = 0;
	mt_local_request(local, request->host, request->host_len, request->port, early,
		len + body_len, request->is_safe && !request->chunked);
}

static bool on_data(struct mt_local *local)
{
	struct mt_http_request request;
	const char *why = "the request is malformed";
	int err = mt_http_parse(&request, (const char *)local->buffer, local->fill, &why);

	if (err == MT_E_AGAIN) {
		return true;
	}
	if (err < 0) {
		refuse_with(local, err == MT_E_TOO_LONG ? 431 : 400, why);
	} else if (request.is_connect) {
		mt_local_consume(local, request.head_len);
		mt_local_request(
			local, request.host, request.host_len, request.port, NULL, 0, false);
	} else {
		request_plain(local, &request);
	}
	return false;
}

static size_t accept_connect(uint8_t *buf, size_t cap)
{
	static const char text[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	if (cap < sizeof(text) - 1) {
		return 0;
	}
	memcpy(buf, text, sizeof(text) - 1);
	return sizeof(text) - 1;
}

/* The target itself answers. */
static size_t accept_plain(uint8_t *buf, size_t cap)
{
	(void)buf;
	(void)cap;
	return 0;
}

static size_t refuse_request(uint8_t *buf, size_t cap, uint8_t status, const char *reason)
{
	char text[ANSWER_MAX / 2];
	int code = 502;

	if (status == MT_STATUS_NOT_ALLOWED) {
		code = 403;
	} else if (status == MT_STATUS_TIMED_OUT) {
		code = 504;
	}
	(void)snprintf(text, sizeof(text), "mytunnel: %s", reason); /* a longer reason is cut */
	return mt_http_error((char *)buf, cap, code, text);
}

const struct mt_local_protocol mt_local_http = {
	.on_data = on_data,
	.accept = accept_connect,
	.refuse = refuse_request,
};

const struct mt_local_protocol mt_local_http_plain = {
	.on_data = on_data,
	.accept = accept_plain,
	.refuse = refuse_request,
};
