#include "proto/wire/verdict.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_MAX 640

void mt_verdict_add(json_t *list, const char *check, const char *verdict, const char *next,
	const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* cut when too long */
	va_end(args);
	/* Without memory for it the row is missing. */
	(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "check", check,
						  "verdict", verdict, "text", text, "next", next));
}
