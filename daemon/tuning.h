/* What the machine grants the daemon against what its settings ask for: facts that are read here,
 * and verdicts that follow from them alone. Control thread. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Zero stands for "not known" where nothing else is said. */
struct mt_tuning {
	/* settings */
	uint64_t max_connections;
	uint64_t memory_limit; /* limits.max_memory_mb in bytes, 0 = three quarters of what there is
				*/
	unsigned workers;
	bool tls_enabled;
	/* files */
	uint64_t files_max; /* UINT64_MAX = no limit */
	uint64_t files_used;
	/* UDP sockets */
	const char *socket_error; /* why none can be opened, or NULL */
	int64_t receive_buffer;   /* bytes granted of MT_TUNING_BUFFER */
	int64_t send_buffer;
	bool gso; /* the kernel knows them */
	bool gro;
	uint64_t messages;
	uint64_t gso_fallbacks;
	/* control group */
	double cpus;             /* its quota, 0 = none */
	uint64_t periods;        /* of the quota so far */
	uint64_t throttled;      /* of them: those in which it was used up */
	uint64_t throttled_ms;   /* what the daemon was held up in them */
	uint64_t group_memory;   /* bytes, 0 = no limit */
	uint64_t machine_memory; /* bytes */
};

#define MT_TUNING_BUFFER (4 * 1024 * 1024) /* what workers ask for, each way */

/* Fills what process, kernel and control group say; settings and counters are the caller's. */
void mt_tuning_read(struct mt_tuning *t);
/* The group's part: `self` is a /proc/PID/cgroup, `root` where control groups are mounted. The
 * tightest limit on the way up counts. Only version 2 is known.
 */
void mt_tuning_read_group(struct mt_tuning *t, const char *self, const char *root);
/* Appends {"check", "verdict", "text", "next"} for each. */
void mt_tuning_checks(json_t *list, const struct mt_tuning *t);
