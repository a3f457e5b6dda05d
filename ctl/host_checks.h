/* What `doctor` can see of the host without the daemon. */
#pragma once

#include <jansson.h>

#define MT_HOST_SYS "/proc/sys"

/* Appends {"check", "verdict", "text", "next"} objects to `list`, from the kernel's settings in the
 * folder `sys` (MT_HOST_SYS). */
void mt_host_checks(json_t *list, const char *sys);
