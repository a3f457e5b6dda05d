#include "ctl/host_checks.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
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
#define TEXT_MAX      512

void mt_host_check_add(json_t *list, const char *check, const char *verdict, const char *next,
	const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* cut when too long */
	va_end(args);
	/* Without memory for it a line is missing. */
	(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "check", check,
						  "verdict", verdict, "text", text, "next", next));
}

/* The first line of a file of the kernel; false when it is not there. */
static bool read_line(const char *path, char *out, size_t cap)
{
	FILE *in = fopen(path, "re");
	bool found = in != NULL && fgets(out, (int)cap, in) != NULL;

	if (in != NULL) {
		(void)fclose(in); /* it was only read */
	}
	if (found) {
		out[strcspn(out, "\n")] = '\0';
	}
	return found;
}

static long read_number(const char *path)
{
	char text[64];

	return read_line(path, text, sizeof(text)) ? strtol(text, NULL, 10) : -1;
}

static void check_buffers(json_t *list)
{
	long in = read_number("/proc/sys/net/core/rmem_max");
	long out = read_number("/proc/sys/net/core/wmem_max");

	if (in < 0 || out < 0) {
		mt_host_check_add(list, "kernel buffers", "info", "",
			"net.core.rmem_max cannot be read here (a container?)");
	} else if (in < BUFFER_WANTED || out < BUFFER_WANTED) {
		mt_host_check_add(list, "kernel buffers", "warn",
			"sudo sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304",
			"net.core.rmem_max is %ld and net.core.wmem_max %ld: a daemon without "
			"CAP_NET_ADMIN loses packets at high rates",
			in, out);
	} else {
		mt_host_check_add(list, "kernel buffers", "ok", "",
			"net.core.rmem_max %ld, net.core.wmem_max %ld", in, out);
	}
}

/* Above the limit the kernel gives a user smaller pipes: spliced tunnels go on, with more calls. */
static void check_pipes(json_t *list)
{
	long pages = read_number("/proc/sys/fs/pipe-user-pages-soft");

	if (pages < 0) {
		mt_host_check_add(list, "kernel pipes", "info", "",
			"fs.pipe-user-pages-soft cannot be read here (a container?)");
	} else if (pages != 0 && pages < PIPE_PAGES) { /* 0: no limit */
		mt_host_check_add(list, "kernel pipes", "info",
			"sudo sysctl -w fs.pipe-user-pages-soft=262144",
			"fs.pipe-user-pages-soft is %ld: many tunnels over TCP at once get small "
			"pipes and cost more",
			pages);
	} else {
		mt_host_check_add(
			list, "kernel pipes", "ok", "", "fs.pipe-user-pages-soft %ld", pages);
	}
}

static void check_queueing(json_t *list)
{
	char qdisc[64];
	char control[64];

	if (!read_line("/proc/sys/net/core/default_qdisc", qdisc, sizeof(qdisc))) {
		(void)snprintf(qdisc, sizeof(qdisc), "unknown"); /* fits */
	}
	if (!read_line("/proc/sys/net/ipv4/tcp_congestion_control", control, sizeof(control))) {
		(void)snprintf(control, sizeof(control), "unknown"); /* fits */
	}
	/* Of the TCP connections to targets: the tunnel itself brings its own. */
	if (strcmp(qdisc, "fq") == 0 && strcmp(control, "bbr") == 0) {
		mt_host_check_add(
			list, "queueing", "ok", "", "default queue fq, TCP to targets by bbr");
	} else {
		mt_host_check_add(list, "queueing", "info",
			"sudo sysctl -w net.core.default_qdisc=fq "
			"net.ipv4.tcp_congestion_control=bbr",
			"default queue %s, TCP to targets by %s; fq with bbr is often faster over "
			"long lines",
			qdisc, control);
	}
}

static void check_ktls(json_t *list)
{
	char names[256];

	if (read_line("/proc/sys/net/ipv4/tcp_available_ulp", names, sizeof(names)) &&
		strstr(names, "tls") != NULL) {
		mt_host_check_add(list, "kernel TLS", "info", "", "available");
	} else {
		mt_host_check_add(list, "kernel TLS", "info", "sudo modprobe tls",
			"the module tls is not loaded; QUIC does not need it");
	}
}

static void check_clock(json_t *list)
{
	struct timex state = {.modes = 0};
	int64_t now = (int64_t)time(NULL);
	int rv = adjtimex(&state);

	if (now < CLOCK_FLOOR) {
		mt_host_check_add(list, "clock", "fail", "sudo timedatectl set-ntp true",
			"the clock is years behind: certificates are judged by it");
	} else if (rv == TIME_ERROR || (rv >= 0 && (state.status & STA_UNSYNC) != 0)) {
		mt_host_check_add(list, "clock", "warn", "sudo timedatectl set-ntp true",
			"the clock is not synchronised: certificates and expiry go by it");
	} else if (rv >= 0) {
		mt_host_check_add(list, "clock", "ok", "", "synchronised");
	}
}

static void check_group(json_t *list)
{
	errno = 0;
	if (getgrnam("mytunnel") != NULL) {
		mt_host_check_add(list, "group", "ok", "",
			"members of the group mytunnel may administer without sudo");
	} else {
		mt_host_check_add(list, "group", "warn", "sudo groupadd --system mytunnel",
			"there is no group mytunnel: only root may administer");
	}
}

void mt_host_checks(json_t *list)
{
	check_buffers(list);
	check_pipes(list);
	check_queueing(list);
	check_ktls(list);
	check_clock(list);
	check_group(list);
}
