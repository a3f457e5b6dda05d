#include "tests/bench/lib/watch.h"

#include <dirent.h>
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

double bench_waited_s(pid_t pid)
{
	unsigned long long ran = 0, waited, sum = 0;
	char path[300];
	const struct dirent *entry;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks)) != NULL) {
		FILE *file;

		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid,
			entry->d_name);
		file = fopen(path, "r");
		if (file) {
			sum += fscanf(file, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
			(void)fclose(file); /* was read only */
		}
	}
	if (tasks) {
		(void)closedir(tasks);
	}
	return (double)sum / 1e9;
}
