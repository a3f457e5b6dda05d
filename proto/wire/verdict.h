/* What `doctor` says of one thing: a row of its list, the daemon's and mytunnelctl's alike. */
#pragma once

#include <jansson.h>

/* Appends {"check", "verdict", "text", "next"} to the array `list`. `verdict` is ok, info, warn or
 * fail; `next` is what to run, or "". For people: a text is cut when too long, and without memory
 * for it a row is missing, which the count of checks shows. All arguments are borrowed. Any thread.
 */
void mt_verdict_add(json_t *list, const char *check, const char *verdict, const char *next,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
