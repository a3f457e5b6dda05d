#include "daemon/front.h"

#include <string.h>

#define PIECES 8 /* of 16 KiB each, but for the first and the last */

size_t mt_stream_front(const struct mt_stream *s, uint8_t *out, size_t cap)
{
	struct iovec iov[PIECES];
	size_t n = mt_stream_peek(s, iov, PIECES);
	size_t len = 0;

	for (size_t i = 0; i < n && len < cap; i++) {
		size_t part = iov[i].iov_len < cap - len ? iov[i].iov_len : cap - len;

		memcpy(out + len, iov[i].iov_base, part);
		len += part;
	}
	return len;
}
