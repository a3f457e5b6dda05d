#include "ctl/host_checks.h"

#include "proto/wire/verdict.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_WANTED 4194304 /* bytes that the daemon asks for */
#define PIPE_PAGES    262144  /* for 512 tunnels over TCP with two pipes of 1 MiB each */
#define CLOCK_FLOOR   INT64_C(1767225600) /* 2026-01-01: no machine that runs this is older */
#define PATH_CAP      512
#define NEXT_CAP      128
#define FILES_WANTED  1048576 /* LimitNOFILE of the service */
#define BACKLOG       4096    /* of the listener for TLS */
#define TRACKED_FULL  10      /* parts of the table: 9 of them taken are too many */
#define UDP_MIB       64      /* for a few busy workers and their clients' UDP */

/* The first line of a file below `sys`, /proc/sys on a real machine; false when it is not there. */
static bool read_line(const char *sys, const char *name, char *out, size_t cap)
{
	char path[PATH_CAP];
	int n = snprintf(path, sizeof(path), "%s/%s", sys, name);
	FILE *in = n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
	bool found = in != NULL && fgets(out, (int)cap, in) != NULL;

	if (in != NULL) {
		(void)fclose(in); /* it was only read */
	}
	if (found) {
		out[strcspn(out, "\n")] = '\0';
	}
	return found;
}

static long read_number(const char *sys, const char *name)
{
	char text[64];

	return read_line(sys, name, text, sizeof(text)) ? strtol(text, NULL, 10) : -1;
}

static void check_buffers(json_t *list, const char *sys)
{
	long in = read_number(sys, "net/core/rmem_max");
	long out = read_number(sys, "net/core/wmem_max");
	char next[NEXT_CAP];

	if (in < 0 || out < 0) {
		mt_verdict_add(list, "kernel buffers", "info", "",
			"net.core.rmem_max cannot be read here (a container?)");
	} else if (in < BUFFER_WANTED || out < BUFFER_WANTED) {
		/* Only what is too low is named: the rest would become less. */
		(void)snprintf(next, sizeof(next), "sudo sysctl -w%s%s",
			in < BUFFER_WANTED ? " net.core.rmem_max=4194304" : "",
			out < BUFFER_WANTED ? " net.core.wmem_max=4194304" : ""); /* fits */
		mt_verdict_add(list, "kernel buffers", "warn", next,
			"net.core.rmem_max is %ld and net.core.wmem_max %ld: at high rates a "
			"daemon without CAP_NET_ADMIN %s",
			in, out, in < BUFFER_WANTED ? "loses packets" : "waits for room to send");
	} else {
		mt_verdict_add(list, "kernel buffers", "ok", "",
			"net.core.rmem_max %ld, net.core.wmem_max %ld", in, out);
	}
}

/* Above the limit the kernel gives a user smaller pipes: spliced tunnels go on, with more calls. */
static void check_pipes(json_t *list, const char *sys)
{
	long pages = read_number(sys, "fs/pipe-user-pages-soft");

	if (pages < 0) {
		mt_verdict_add(list, "kernel pipes", "info", "",
			"fs.pipe-user-pages-soft cannot be read here (a container?)");
	} else if (pages != 0 && pages < PIPE_PAGES) { /* 0: no limit */
		mt_verdict_add(list, "kernel pipes", "info",
			"sudo sysctl -w fs.pipe-user-pages-soft=262144",
			"fs.pipe-user-pages-soft is %ld: many tunnels over TCP at once get small "
			"pipes and cost more",
			pages);
	} else {
		mt_verdict_add(
			list, "kernel pipes", "ok", "", "fs.pipe-user-pages-soft %ld", pages);
	}
}

static void check_queueing(json_t *list, const char *sys)
{
	char qdisc[64];
	char control[64];

	if (!read_line(sys, "net/core/default_qdisc", qdisc, sizeof(qdisc))) {
		(void)snprintf(qdisc, sizeof(qdisc), "unknown"); /* fits */
	}
	if (!read_line(sys, "net/ipv4/tcp_congestion_control", control, sizeof(control))) {
		(void)snprintf(control, sizeof(control), "unknown"); /* fits */
	}
	/* Of the TCP connections to targets: the tunnel itself brings its own. */
	if (strcmp(qdisc, "fq") == 0 && strcmp(control, "bbr") == 0) {
		mt_verdict_add(
			list, "queueing", "ok", "", "default queue fq, TCP to targets by bbr");
	} else {
		mt_verdict_add(list, "queueing", "info",
			"sudo sysctl -w net.core.default_qdisc=fq "
			"net.ipv4.tcp_congestion_control=bbr",
			"default queue %s, TCP to targets by %s; fq with bbr is often faster over "
			"long lines",
			qdisc, control);
	}
}

static void check_ktls(json_t *list, const char *sys)
{
	char names[256];

	if (read_line(sys, "net/ipv4/tcp_available_ulp", names, sizeof(names)) &&
		strstr(names, "tls") != NULL) {
		mt_verdict_add(list, "kernel TLS", "info", "", "available");
	} else {
		mt_verdict_add(list, "kernel TLS", "info", "sudo modprobe tls",
			"the module tls is not loaded; QUIC does not need it");
	}
}

static void check_files(json_t *list, const char *sys)
{
	long each = read_number(sys, "fs/nr_open");
	long all = read_number(sys, "fs/file-max");
	char next[NEXT_CAP];

	if (each < 0 || all < 0) {
		mt_verdict_add(list, "kernel files", "info", "",
			"fs.nr_open cannot be read here (a container?)");
	} else if (each < FILES_WANTED || all < FILES_WANTED) {
		(void)snprintf(next, sizeof(next),
			"sudo sysctl -w%s%s && sudo systemctl restart mytunnel",
			each < FILES_WANTED ? " fs.nr_open=1048576" : "",
			all < FILES_WANTED ? " fs.file-max=2097152" : ""); /* fits */
		mt_verdict_add(list, "kernel files", "warn", next,
			"fs.nr_open is %ld and fs.file-max %ld: the daemon gets fewer open files "
			"than the %d of its service, and tunnels fail without one",
			each, all, FILES_WANTED);
	} else {
		mt_verdict_add(list, "kernel files", "ok", "", "fs.nr_open %ld, fs.file-max %ld",
			each, all);
	}
}

/* Memory of all UDP sockets: the third number is the end, in pages. */
static void check_udp_memory(json_t *list, const char *sys)
{
	char text[128];
	long mib = -1;
	char *at = text;

	if (read_line(sys, "net/ipv4/udp_mem", text, sizeof(text))) {
		for (int i = 0; i < 3; i++) {
			mib = strtol(at, &at, 10);
		}
		mib = mib * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
	}
	if (mib < 0) {
		return; /* of another network namespace: not ours to change */
	}
	if (mib < UDP_MIB) {
		mt_verdict_add(list, "udp memory", "warn",
			"sudo sysctl -w net.ipv4.udp_mem='16384 24576 32768'",
			"net.ipv4.udp_mem lets all UDP sockets together hold %ld MiB: with many "
			"busy "
			"clients packets are lost whatever each socket's buffer",
			mib);
	} else {
		mt_verdict_add(list, "udp memory", "ok", "", "%ld MiB for all UDP sockets", mib);
	}
}

/* The listener for TLS waits with so many connections that nobody has taken yet. */
static void check_backlog(json_t *list, const char *sys)
{
	long max = read_number(sys, "net/core/somaxconn");

	if (max >= 0 && max < BACKLOG) {
		mt_verdict_add(list, "backlog", "warn",
			"sudo sysctl -w net.core.somaxconn=4096 && sudo systemctl restart mytunnel",
			"net.core.somaxconn is %ld: when more clients than that come at once by "
			"TLS, "
			"their first packets are lost and they wait a second",
			max);
	} else if (max >= 0) {
		mt_verdict_add(list, "backlog", "ok", "", "net.core.somaxconn %ld", max);
	}
}

/* Each tunnel's target and each UDP flow takes an entry, and so does each client. */
static void check_tracking(json_t *list, const char *sys)
{
	long max = read_number(sys, "net/netfilter/nf_conntrack_max");
	long now = read_number(sys, "net/netfilter/nf_conntrack_count");
	char next[NEXT_CAP];

	if (max <= 0 || now < 0) {
		return; /* the firewall tracks nothing */
	}
	(void)snprintf(next, sizeof(next), "sudo sysctl -w net.netfilter.nf_conntrack_max=%ld",
		max > 131072 ? max * 2 : 262144); /* fits */
	if (now > max / TRACKED_FULL * (TRACKED_FULL - 1)) {
		mt_verdict_add(list, "conntrack", "fail", next,
			"the firewall tracks %ld of %ld connections: beyond it packets of new ones "
			"are "
			"dropped",
			now, max);
	} else if (max < 131072) {
		mt_verdict_add(list, "conntrack", "info", next,
			"the firewall tracks %ld of %ld connections; each tunnel and each UDP flow "
			"takes one",
			now, max);
	} else {
		mt_verdict_add(
			list, "conntrack", "ok", "", "%ld of %ld connections tracked", now, max);
	}
}

static void check_clock(json_t *list)
{
	struct timex state = {.modes = 0};
	int64_t now = (int64_t)time(NULL);
	int rv = adjtimex(&state);

	if (now < CLOCK_FLOOR) {
		mt_verdict_add(list, "clock", "fail", "sudo timedatectl set-ntp true",
			"the clock is years behind: certificates are judged by it");
	} else if (rv == TIME_ERROR || (rv >= 0 && (state.status & STA_UNSYNC) != 0)) {
		mt_verdict_add(list, "clock", "warn", "sudo timedatectl set-ntp true",
			"the clock is not synchronised: certificates and expiry go by it");
	} else if (rv >= 0) {
		mt_verdict_add(list, "clock", "ok", "", "synchronised");
	}
}

static void check_group(json_t *list)
{
	errno = 0;
	if (getgrnam("mytunnel") != NULL) {
		mt_verdict_add(list, "group", "ok", "",
			"members of the group mytunnel may administer without sudo");
	} else {
		mt_verdict_add(list, "group", "warn", "sudo groupadd --system mytunnel",
			"there is no group mytunnel: only root may administer");
	}
}

void mt_host_checks(json_t *list, const char *sys)
{
	check_buffers(list, sys);
	check_udp_memory(list, sys);
	check_files(list, sys);
	check_backlog(list, sys);
	check_tracking(list, sys);
	check_pipes(list, sys);
	check_queueing(list, sys);
	check_ktls(list, sys);
	check_clock(list);
	check_group(list);
}
