/* Messages for people, on standard error. */
#pragma once

/* "mytunnel: " and the text, on a line of its own. */
void mt_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
