#include "proto/wire/trace.h"

#include <inttypes.h>
#include <stdio.h>

char *mt_trace_format(char *buf, uint64_t connection, int64_t stream)
{
	(void)snprintf(buf, MT_TRACE_TEXT_MAX, "%016" PRIx64 "-%" PRId64, connection,
		stream); /* 16 + 1 + 20 characters at most */
	return buf;
}

char *mt_trace_format_connection(char *buf, uint64_t connection)
{
	(void)snprintf(buf, MT_TRACE_TEXT_MAX, "%016" PRIx64, connection); /* always fits */
	return buf;
}
