/* links: proto/wire/extended.c proto/wire/request.c proto/wire/bytes.c */
#include "proto/wire/extended.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Header and payload are the whole datagram, and the header is written back as the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[MT_EXTENDED_HEADER_MAX];
	struct mt_extended h;
	size_t header;
	int err = mt_extended_decode(&h, data, size);

	assert(err == 0 || err == MT_E_MALFORMED);
	if (err != 0) {
		return 0;
	}
	assert(mt_extended_is(data, size) && h.count > 0 && h.fragment < h.count);
	header = mt_extended_header_encode(buf, sizeof(buf), &h);
	assert(header == 13u + h.datagram.host_len && header + h.datagram.payload_len == size);
	assert(memcmp(buf, data, header) == 0 && h.datagram.payload == data + header);
	return 0;
}
