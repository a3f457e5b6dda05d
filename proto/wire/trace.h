/* Trace ids: what both ends call the same tunnel, in their logs. The server makes one number for
 * each connection and tells it in its Hello; with the stream's number it names a tunnel.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MT_TRACE_TEXT_MAX 40 /* 16 hexadecimal digits, '-', a number, NUL */

/* "8f2c51d00b7e93a4-12". Returns `buf`, of MT_TRACE_TEXT_MAX bytes. */
char *mt_trace_format(char *buf, uint64_t connection, int64_t stream);
/* "8f2c51d00b7e93a4", the connection alone. */
char *mt_trace_format_connection(char *buf, uint64_t connection);
