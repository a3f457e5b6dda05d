/* links: client/http.c */
#include "client/http.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A request that is accepted is rewritten within the promised room to one with a single Host, and
 * with one head.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mt_http_request request;
	const char *why = NULL;
	size_t cap, len = 0;
	char *out;
	int err = mt_http_parse(&request, (const char *)data, size, &why);

	if (err != 0) {
		assert(err == MT_E_AGAIN || why != NULL);
		return 0;
	}
	assert(request.head_len <= size && request.head_len <= MT_HTTP_HEAD_MAX);
	assert(request.host_len >= 1 && request.host_len <= 255 && request.port != 0);
	assert(mt_http_body_bytes(&request, size - request.head_len) <= size - request.head_len);
	if (request.is_connect) {
		return 0;
	}
	cap = request.head_len + MT_HTTP_REWRITE_EXTRA;
	out = malloc(cap);
	assert(out != NULL);
	assert(mt_http_rewrite(&request, out, cap, &len) == 0 && len <= cap);
	assert(memmem(out, len, "\r\n\r\n", 4) == out + len - 4);
	assert(memmem(out, len, "Connection: close\r\n\r\n", 21) == out + len - 21);
	free(out);
	return 0;
}
