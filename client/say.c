#include "client/say.h"

#include <stdarg.h>
#include <stdio.h>

void mt_say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args); /* a longer message is cut */
	va_end(args);
	(void)fprintf(stderr, "mytunnel: %s\n", line); /* nowhere to report a failure to */
}
