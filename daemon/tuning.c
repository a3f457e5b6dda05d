#include "daemon/tuning.h"

#include "proto/wire/verdict.h"

#include <inttypes.h>
#include <stdio.h>

#define KIB          1024
#define MIB          (1024 * 1024)
#define FILES_LEAST  16384
#define FILES_WARN   10 /* parts of the limit: 9 of them in use are too many */
#define NEXT_MAX     256
#define THROTTLED_PC 1 /* percent of the periods */

/* A tunnel over QUIC takes one descriptor, an application's UDP one or two. Over TLS a connection
 * is a tunnel: two sockets, and two pipes where the kernel joins them.
 */
static uint64_t files_wanted(const struct mt_tuning *t)
{
	uint64_t each = t->tls_enabled ? 6 : 2;
	uint64_t wanted = t->max_connections * each;

	return wanted > FILES_LEAST ? wanted : FILES_LEAST;
}

static void check_files(json_t *list, const struct mt_tuning *t)
{
	uint64_t wanted = files_wanted(t);
	char next[NEXT_MAX];

	if (t->files_max == 0) {
		return;
	}
	(void)snprintf(next, sizeof(next), /* fits: two numbers of 20 digits at most */
		"sudo systemctl edit mytunnel (in [Service]: LimitNOFILE=%" PRIu64
		"), then restart it",
		wanted > 1048576 ? wanted : 1048576);
	if (t->files_used > t->files_max / FILES_WARN * (FILES_WARN - 1)) {
		mt_verdict_add(list, "open files", "fail", next,
			"%" PRIu64 " of %" PRIu64
			" are in use: soon tunnels and connections fail for want of one",
			t->files_used, t->files_max);
	} else if (t->files_max < FILES_LEAST) {
		mt_verdict_add(list, "open files", "warn", next,
			"at most %" PRIu64 " open files, %" PRIu64
			" in use: each tunnel takes one, over TLS up to six",
			t->files_max, t->files_used);
	} else if (t->files_max < wanted) {
		mt_verdict_add(list, "open files", "info", next,
			"%" PRIu64 " of %" PRIu64 " in use; quic.max_connections %" PRIu64
			" with a tunnel each would take up to %" PRIu64,
			t->files_used, t->files_max, t->max_connections, wanted);
	} else {
		mt_verdict_add(list, "open files", "ok", "", "%" PRIu64 " of %" PRIu64 " in use",
			t->files_used, t->files_max);
	}
}

static void check_buffers(json_t *list, const struct mt_tuning *t)
{
	const bool in = t->receive_buffer < MT_TUNING_BUFFER;
	const bool out = t->send_buffer < MT_TUNING_BUFFER;
	char costs[NEXT_MAX] = "packets wait for room, which costs time but none of them";
	char next[NEXT_MAX];

	if (t->socket_error != NULL) {
		mt_verdict_add(list, "udp buffers", "fail", "sudo systemctl restart mytunnel",
			"no UDP socket can be opened: %s", t->socket_error);
	} else if (in || out) {
		/* Only what is too low is named: the other one would become less. */
		(void)snprintf(next, sizeof(next),
			"sudo sysctl -w%s%s && sudo systemctl restart mytunnel",
			in ? " net.core.rmem_max=4194304" : "",
			out ? " net.core.wmem_max=4194304" : ""); /* fits */
		if (in) {
			/* What a worker may be away for, at 1 Gbit/s and half of the memory
			 * book-keeping. */
			(void)snprintf(costs, sizeof(costs),
				"at 1 Gbit/s a worker that is busy for %.1f ms loses packets",
				(double)t->receive_buffer * 8 / 2 / 1e6); /* fits */
		}
		mt_verdict_add(list, "udp buffers", "warn", next,
			"%" PRId64 " KiB to receive and %" PRId64 " KiB to send instead of %d: %s",
			t->receive_buffer / KIB, t->send_buffer / KIB, MT_TUNING_BUFFER / KIB,
			costs);
	} else {
		mt_verdict_add(list, "udp buffers", "ok", "",
			"%" PRId64 " KiB to receive, %" PRId64 " KiB to send",
			t->receive_buffer / KIB, t->send_buffer / KIB);
	}
}

static void check_offload(json_t *list, const struct mt_tuning *t)
{
	if (t->socket_error != NULL) {
		return;
	}
	if (!t->gso || !t->gro) {
		mt_verdict_add(list, "offload", "warn", "run a kernel of version 5.0 or later",
			"the kernel lacks %s%s%s: packets go one by one, for about twice the CPU",
			t->gso ? "" : "UDP_SEGMENT", t->gso || t->gro ? "" : " and ",
			t->gro ? "" : "UDP_GRO");
	} else if (t->gso_fallbacks > 0) {
		mt_verdict_add(list, "offload", "warn", "ethtool -k DEVICE | grep udp-segmentation",
			"the network device refused batches %" PRIu64
			" times: packets are sent one by one, for about twice the CPU",
			t->gso_fallbacks);
	} else {
		mt_verdict_add(list, "offload", "ok", "",
			"UDP batches in both directions (GSO, GRO), none refused in %" PRIu64
			" messages",
			t->messages);
	}
}

static void check_cpus(json_t *list, const struct mt_tuning *t)
{
	char next[NEXT_MAX];

	if (t->cpus <= 0) {
		mt_verdict_add(list, "cpu", "ok", "", "%u workers, no quota of the control group",
			t->workers);
		return;
	}
	(void)snprintf(next, sizeof(next), /* fits */
		"sudo systemctl set-property mytunnel CPUQuota=%u%%, or mytunnelctl set "
		"server.workers %u",
		t->workers * 100, t->cpus < 1 ? 1 : (unsigned)t->cpus);
	if (t->periods > 0 && t->throttled * 100 > t->periods * THROTTLED_PC) {
		mt_verdict_add(list, "cpu", "warn", next,
			"the control group's quota of %.2f processors was used up in %" PRIu64
			" of %" PRIu64 " periods: the daemon stood still for %" PRIu64
			" ms in all, and its packets with it",
			t->cpus, t->throttled, t->periods, t->throttled_ms);
	} else if (t->cpus < t->workers) {
		mt_verdict_add(list, "cpu", "info", next,
			"%u workers share the control group's quota of %.2f processors: once it is "
			"used up all stand still for the rest of a period",
			t->workers, t->cpus);
	} else {
		mt_verdict_add(list, "cpu", "ok", "",
			"%u workers, a quota of %.2f processors, used up in %" PRIu64 " of %" PRIu64
			" periods",
			t->workers, t->cpus, t->throttled, t->periods);
	}
}

static void check_memory(json_t *list, const struct mt_tuning *t)
{
	uint64_t has = t->machine_memory;
	char next[NEXT_MAX];
	bool by_group = t->group_memory > 0 && (has == 0 || t->group_memory < has);

	has = by_group ? t->group_memory : has;
	if (has == 0) {
		return;
	}
	(void)snprintf(next, sizeof(next), "mytunnelctl set limits.max_memory_mb %" PRIu64,
		has / MIB * 3 / 4); /* fits */
	if (t->memory_limit > has) {
		mt_verdict_add(list, "memory", "warn", next,
			"limits.max_memory_mb is %" PRIu64 ", %s has %" PRIu64
			" MiB: the kernel would end the daemon before it sheds connections",
			t->memory_limit / MIB, by_group ? "the control group" : "the machine",
			has / MIB);
	} else {
		mt_verdict_add(list, "memory", "ok", "",
			"connections may take %" PRIu64 " MiB of %s's %" PRIu64,
			(t->memory_limit > 0 ? t->memory_limit : has / 4 * 3) / MIB,
			by_group ? "the control group" : "the machine", has / MIB);
	}
}

void mt_tuning_checks(json_t *list, const struct mt_tuning *t)
{
	check_files(list, t);
	check_buffers(list, t);
	check_offload(list, t);
	check_cpus(list, t);
	check_memory(list, t);
}
