/* What `doctor` can see of the host without the daemon. */
#pragma once

#include <jansson.h>

/* Appends {"check", "verdict", "text", "next"} objects to `list`. */
void mt_host_checks(json_t *list);
/* Appends one. For people: texts are cut when too long. */
void mt_host_check_add(json_t *list, const char *check, const char *verdict, const char *next,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
