#include "daemon/memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#define GROUP_ROOT "/sys/fs/cgroup"
/* An empty heap page is worth giving back only when many went. */
#define TRIM_ENDED 1000u

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t read_max(const char *root, const char *path, size_t path_len)
{
	char name[512];
	unsigned long long bytes;
	uint64_t max = UINT64_MAX;
	FILE *file;

	if ((size_t)snprintf(name, sizeof(name), "%s%.*s/memory.max", root, (int)path_len, path) >=
		sizeof(name)) {
		return UINT64_MAX;
	}
	file = fopen(name, "re");
	if (file != NULL) {
		if (fscanf(file, "%llu", &bytes) == 1) { /* "max" is no number */
			max = bytes;
		}
		(void)fclose(file); /* was only read */
	}
	return max;
}

uint64_t mt_memory_of_group(const char *root, const char *path)
{
	uint64_t least = UINT64_MAX;
	size_t len = strlen(path);

	while (len > 0) {
		least = smaller(least, read_max(root, path, len));
		do {
			len--;
		} while (len > 0 && path[len] != '/');
	}
	return smaller(least, read_max(root, "", 0));
}

static uint64_t group_limit(void)
{
	uint64_t limit = UINT64_MAX;
	char line[512];
	FILE *file = fopen("/proc/self/cgroup", "re");

	if (file == NULL) {
		return limit;
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) == 0) {
			limit = mt_memory_of_group(GROUP_ROOT, line + 3);
		}
	}
	(void)fclose(file); /* was only read */
	return limit;
}

uint64_t mt_memory_limit(const struct mt_settings *settings)
{
	int64_t mib = mt_settings_int(settings, MT_SET_LIMITS_MAX_MEMORY_MB);
	struct sysinfo info;

	if (mib > 0) {
		return (uint64_t)mib << 20;
	}
	if (sysinfo(&info) != 0) { /* fails for a bad pointer only */
		return 0;
	}
	return smaller((uint64_t)info.totalram * info.mem_unit, group_limit()) / 4 * 3;
}

void mt_memory_trim(struct mt_memory_trim *trim, uint64_t ended)
{
	if (ended - trim->ended_then >= TRIM_ENDED) {
		trim->ended_then = ended;
		(void)malloc_trim(0); /* says whether there was anything */
	}
}
