/* links: client/socks.c proto/wire/bytes.c proto/wire/addr.c proto/wire/err.c */
#include "client/socks.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const uint8_t *data, size_t size)
{
	struct mt_socks_target target, again;
	uint8_t command = 0;
	size_t used = 0;
	int err = mt_socks_request_decode(&command, &target, &used, data, size);

	assert(err != MT_E_AGAIN || size < MT_SOCKS_REQUEST_MAX);
	if (err != 0) {
		return;
	}
	assert(used <= size && used <= MT_SOCKS_REQUEST_MAX && data[0] == MT_SOCKS_VERSION);
	assert(target.host_len >= 1 && target.host_len <= 255);
	assert(target.host[target.host_len] == '\0');
	for (size_t part = 0; part < used; part++) {
		assert(mt_socks_request_decode(&command, &again, &used, data, part) == MT_E_AGAIN);
	}
}

/* What is read from an application's datagram is written back so that it means the same. */
static void check_datagram(const uint8_t *data, size_t size)
{
	uint8_t header[MT_SOCKS_UDP_HEADER_MAX];
	struct mt_socks_target target, again;
	size_t payload = 0, ignored = 0, len;

	if (mt_socks_udp_decode(&target, &payload, data, size) != 0) {
		return;
	}
	assert(payload <= size && data[2] == 0);
	len = mt_socks_udp_header_encode(
		header, sizeof(header), target.host, target.host_len, target.port);
	assert(len > 0);
	assert(mt_socks_udp_decode(&again, &ignored, header, len) == 0 && ignored == len);
	assert(again.port == target.port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool no_auth = false;
	size_t used = 0;
	int err = mt_socks_greeting_decode(&no_auth, &used, data, size);

	assert(err != MT_E_AGAIN || size < MT_SOCKS_GREETING_MAX);
	assert(err != 0 || used <= size);
	check_request(data, size);
	check_datagram(data, size);
	return 0;
}
