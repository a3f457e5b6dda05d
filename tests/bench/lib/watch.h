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
