#include "tests/bench/lib/watch.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* In nanoseconds, and with the threads that are gone, unlike what /proc tells. */
static double cpu_s(pid_t pid)
{
	struct timespec t = {0};
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) {
		return 0;
	}
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct bench_usage bench_usage(pid_t pid)
{
	struct bench_usage usage = {0};
	unsigned long long size, resident;
	char path[64];
	FILE *file;

	if (pid <= 0) {
		return usage;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid); /* fits */
	file = fopen(path, "re");
	if (file != NULL) {
		if (fscanf(file, "%llu %llu", &size, &resident) == 2) {
			usage.rss_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
		}
		(void)fclose(file); /* was only read */
	}
	usage.cpu_s = cpu_s(pid);
	return usage;
}
