/* How much memory the daemon may use, and giving back what it uses no longer. Control thread. */
#pragma once

#include "proto/wire/settings.h"

#include <stddef.h>
#include <stdint.h>

/* limits.max_memory_mb in bytes; for 0, three quarters of what this process may have: the machine's
 * memory, or what its control groups (cgroup v2) grant, if that is less.
 */
uint64_t mt_memory_limit(const struct mt_settings *settings);

/* What a group at `path` (as in /proc/self/cgroup, "/system.slice/x.service") and those above it
 * grant, below the mount point `root`: the least memory.max in bytes, UINT64_MAX without any.
 */
uint64_t mt_memory_of_group(const char *root, const char *path);

/* Calls for many connections leave free heap behind that the C library keeps. */
struct mt_memory_trim {
	uint64_t ended_then; /* connections that had ended when it was last given back */
};
/* To be called now and then with the number of connections that have ended so far. */
void mt_memory_trim(struct mt_memory_trim *trim, uint64_t ended);
