#include "tests/bench/lib/watch.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

/* In nanoseconds, unlike /proc/PID/stat. */
static uint64_t cpu_ns(pid_t pid)
{
	unsigned long long ns, total = 0;
	struct dirent *entry;
	char path[320];
	DIR *tasks;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid); /* fits */
	tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid,
			entry->d_name); /* names of threads are numbers */
		file = fopen(path, "re");
		if (file != NULL) {
			total += fscanf(file, "%llu", &ns) == 1 ? ns : 0;
			(void)fclose(file); /* was only read */
		}
	}
	if (tasks != NULL) {
		(void)closedir(tasks); /* was only read */
	}
	return total;
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
	usage.cpu_s = (double)cpu_ns(pid) / 1e9;
	return usage;
}
