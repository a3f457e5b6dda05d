/* links: proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/request.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Header and payload are the whole datagram, and the header is written back as the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[MT_DATAGRAM_HEADER_MAX];
	struct mt_datagram d;
	size_t header = 0;
	int err = mt_datagram_decode(&d, data, size);

	assert(err == 0 || err == MT_E_UNSUPPORTED || err == MT_E_MALFORMED);
	if (err != 0) {
		return 0;
	}
	header = mt_datagram_header_encode(buf, sizeof(buf), d.port, d.host, d.host_len);
	assert(header == 3u + d.host_len && header + d.payload_len == size);
	assert(memcmp(buf, data, header) == 0 && d.payload == data + header);
	return 0;
}
