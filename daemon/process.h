/* What the system knows of this process (/proc/self). Any thread. */
#pragma once

#include <stdint.h>

struct mt_process {
	uint64_t cpu_ns; /* user and system, all threads */
	uint64_t resident_bytes;
	uint64_t virtual_bytes;
	uint64_t open_fds;
	uint64_t max_fds;
	uint64_t threads;
};

/* What cannot be read is 0. Cheap but for `open_fds`, whose count walks a folder on kernels before
 * 6.2; mt_process_read_quickly leaves it and `max_fds` 0.
 */
void mt_process_read(struct mt_process *out);
void mt_process_read_quickly(struct mt_process *out);
