/* Where the facts about the machine come from. */
#include "daemon/memory.h"
#include "daemon/process.h"
#include "daemon/tuning.h"
#include "proto/io/udp.h"
#include "proto/wire/addr.h"

#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATH_CAP 1024
#define LINE_CAP 256

static int64_t buffer_of(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	/* The kernel doubles it, for its own book-keeping. */
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value / 2 : 0;
}

static void read_socket(struct mt_tuning *t)
{
	struct mt_addr any = {.len = sizeof(struct sockaddr_in),
		.v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
	struct mt_udp_options options = {.buffer_bytes = MT_TUNING_BUFFER};
	struct mt_udp_socket s = {.fd = -1};
	int segment = 1200;
	int on = 1;
	int rv = mt_udp_open(&s, &any, &options);

	t->socket_error = NULL;
	if (rv != 0) {
		t->socket_error = mt_strerror(rv);
		return;
	}
	t->receive_buffer = buffer_of(s.fd, SO_RCVBUF);
	t->send_buffer = buffer_of(s.fd, SO_SNDBUF);
	t->gso = setsockopt(s.fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0;
	t->gro = setsockopt(s.fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;
	mt_udp_close(&s);
}

/* Opens root/group/name. */
static FILE *open_file(const char *root, const char *group, const char *name)
{
	char path[PATH_CAP];
	int n = snprintf(path, sizeof(path), "%s%s/%s", root, group, name);

	return n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
}

static void read_quota(struct mt_tuning *t, const char *root, const char *group)
{
	FILE *in = open_file(root, group, "cpu.max");
	char line[LINE_CAP] = "";
	char *at = line;
	double quota;
	double period;

	if (in == NULL) {
		return;
	}
	if (fgets(line, sizeof(line), in) == NULL) {
		line[0] = '\0';
	}
	(void)fclose(in); /* it was only read */
	quota = strtod(line, &at);
	period = strtod(at, NULL);
	if (at == line || quota <= 0 || period <= 0) {
		return; /* "max" */
	}
	if (t->cpus > 0 && t->cpus <= quota / period) {
		return;
	}
	t->cpus = quota / period;
	in = open_file(root, group, "cpu.stat");
	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		uint64_t value;

		at = strchr(line, ' ');
		if (at == NULL) {
			continue;
		}
		*at = '\0';
		value = strtoull(at + 1, NULL, 10);
		if (strcmp(line, "nr_periods") == 0) {
			t->periods = value;
		} else if (strcmp(line, "nr_throttled") == 0) {
			t->throttled = value;
		} else if (strcmp(line, "throttled_usec") == 0) {
			t->throttled_ms = value / 1000;
		}
	}
	if (in != NULL) {
		(void)fclose(in); /* it was only read */
	}
}

void mt_tuning_read_group(struct mt_tuning *t, const char *self, const char *root)
{
	static const char mark[] = "0::"; /* of version 2 */
	FILE *in = fopen(self, "re");
	char line[PATH_CAP];
	char group[PATH_CAP] = "";
	uint64_t memory;
	char *end;

	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		if (strncmp(line, mark, sizeof(mark) - 1) == 0) {
			line[strcspn(line, "\n")] = '\0';
			(void)snprintf(group, sizeof(group), "%s", line + sizeof(mark) - 1);
		}
	}
	if (in != NULL) {
		(void)fclose(in); /* it was only read */
	}
	if (strcmp(group, "/") == 0) {
		group[0] = '\0';
	}
	memory = mt_memory_of_group(root, group);
	t->group_memory = memory == UINT64_MAX ? 0 : memory;
	for (;;) {
		read_quota(t, root, group);
		end = strrchr(group, '/');
		if (end == NULL) {
			break; /* the root of what can be seen from here */
		}
		*end = '\0';
	}
}

void mt_tuning_read(struct mt_tuning *t)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page = sysconf(_SC_PAGESIZE);
	struct mt_process process;

	mt_process_read(&process);
	t->files_max = process.max_fds;
	t->files_used = process.open_fds;
	t->machine_memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
	read_socket(t);
	mt_tuning_read_group(t, "/proc/self/cgroup", "/sys/fs/cgroup");
}
