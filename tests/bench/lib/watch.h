/* What a process uses. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct bench_usage {
	uint64_t rss_bytes;
	double cpu_s;
};

/* Of process `pid`; zeros for 0 or a process that is gone. */
struct bench_usage bench_usage(pid_t pid);

/* How long the threads of process `pid` were ready to run and waited for a core, in seconds; 0
 * where the kernel does not tell. */
double bench_waited_s(pid_t pid);
