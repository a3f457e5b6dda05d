#include "daemon/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The start of a small file, as a string. */
static void read_file(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd >= 0) {
		n = read(fd, out, cap - 1);
		(void)close(fd); /* nothing was written */
	}
	out[n > 0 ? n : 0] = '\0';
}

static uint64_t page_bytes(const char *number)
{
	long size = sysconf(_SC_PAGESIZE);

	return size > 0 ? strtoull(number, NULL, 10) * (uint64_t)size : 0;
}

void mt_process_read_quickly(struct mt_process *out)
{
	struct mt_process p = {0};
	struct timespec used;
	char text[1024];
	const char *field;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0) {
		p.cpu_ns = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
	}
	read_file("/proc/self/statm", text, sizeof(text));
	field = strchr(text, ' ');
	if (field != NULL) {
		p.virtual_bytes = page_bytes(text);
		p.resident_bytes = page_bytes(field + 1);
	}
	*out = p;
}

/* The name may hold anything, so fields are counted from the last bracket on. */
static uint64_t count_threads(void)
{
	char text[1024];
	const char *field;

	read_file("/proc/self/stat", text, sizeof(text));
	field = strrchr(text, ')');
	for (unsigned i = 2; field != NULL && i < 20; i++) { /* num_threads is the 20th */
		field = strchr(field + 1, ' ');
	}
	return field != NULL ? strtoull(field + 1, NULL, 10) : 0;
}

static uint64_t count_fds(void)
{
	struct stat st;
	uint64_t count = 0;
	DIR *dir;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) {
		return (uint64_t)st.st_size;
	}
	dir = opendir("/proc/self/fd");
	if (dir == NULL) {
		return 0;
	}
	while (readdir(dir) != NULL) {
		count++;
	}
	(void)closedir(dir);              /* nothing was written */
	return count > 3 ? count - 3 : 0; /* "." and "..", and the folder itself */
}

void mt_process_read(struct mt_process *out)
{
	struct rlimit files;

	mt_process_read_quickly(out);
	out->threads = count_threads();
	out->open_fds = count_fds();
	out->max_fds = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
}
