/* links: proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/request.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted is written back as the same bytes, no prefix of it is judged differently, and
 * MT_REQUEST_MAX bytes always suffice.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[MT_REQUEST_MAX];
	struct mt_request request, again;
	size_t used = 0, ignored = 0;
	int err = mt_request_decode(&request, &used, data, size);

	assert(err == 0 || err == MT_E_AGAIN || err == MT_E_UNSUPPORTED || err == MT_E_MALFORMED);
	assert(err != MT_E_AGAIN || size < MT_REQUEST_MAX);
	if (err != 0) {
		return 0;
	}
	assert(used >= 1 && used <= size && used <= MT_REQUEST_MAX);
	for (size_t part = 0; part < used; part++) {
		assert(mt_request_decode(&again, &ignored, data, part) == MT_E_AGAIN);
	}
	if (request.type == MT_REQUEST_CONTROL || request.type == MT_REQUEST_UDP_STREAM) {
		assert(used == 1);
		return 0;
	}
	assert(request.type == MT_REQUEST_TCP && request.host[request.host_len] == '\0');
	assert(mt_request_encode(buf, sizeof(buf), request.port, request.host, request.host_len) ==
		used);
	assert(memcmp(buf, data, used) == 0);
	return 0;
}
