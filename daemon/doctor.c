#include "daemon/doctor.h"

#include "proto/io/udp.h"
#include "proto/wire/encode.h"
#include "store/pki.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_WANTED    (4 * 1024 * 1024) /* what the workers ask for */
#define FILES_WANTED     16384
#define CERT_WARN_DAYS   14
#define FREE_WARN_BYTES  (INT64_C(100) * 1000 * 1000)
#define FREE_FAIL_BYTES  (INT64_C(5) * 1000 * 1000)
#define TEXT_MAX         640
#define DAY_S            86400
#define NEXT_FOR_BUFFERS "sudo sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"

static void __attribute__((format(printf, 5, 6)))
add(json_t *list, const char *check, const char *verdict, const char *next, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* for people: cut when too long */
	va_end(args);
	/* Without memory for it a check is missing, which the count at the end shows. */
	(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "check", check,
						  "verdict", verdict, "text", text, "next", next));
}

static void check_ports(struct mt_appliance *a, json_t *list)
{
	const struct mt_facts *f = &a->facts;
	char text[MT_ADDR_TEXT_MAX];

	if (f->state == MT_STATE_DEGRADED) {
		add(list, "listening", "fail", f->next, "%s", f->problem);
	} else if (f->state != MT_STATE_RUNNING) {
		add(list, "listening", "warn", "restart the daemon to serve clients again",
			"new clients are refused: the daemon drains");
	}
	for (size_t i = 0; i < f->listener_count; i++) {
		add(list, "listening", "ok", "", "UDP %s serves clients (server.bind_addr)",
			mt_addr_format(&f->listeners[i], text, sizeof(text)));
	}
	for (size_t i = 0; i < f->tls_listener_count; i++) {
		add(list, "tls", "ok", "", "TCP %s serves clients by TLS (tcp.bind_addr)",
			mt_addr_format(&f->tls_listeners[i], text, sizeof(text)));
	}
	if (f->tls_problem[0] != '\0') {
		add(list, "tls", "warn", "mytunnelctl set tcp.bind_addr ADDRESS:PORT", "%s",
			f->tls_problem);
	} else if (!f->tls_enabled) {
		add(list, "tls", "info", "",
			"TLS over TCP is off (tcp.enabled): networks that block UDP cannot reach "
			"this "
			"server");
	} else {
		add(list, "tls records", f->tls_kernel ? "ok" : "info",
			f->tls_kernel ? "" : "modprobe tls, or a kernel with CONFIG_TLS",
			"%s makes them (kernel TLS: %s)", f->tls_kernel ? "the kernel" : "GnuTLS",
			f->tls_why);
	}
	if (f->notice[0] != '\0') {
		add(list, "listening", "warn", "mytunnelctl set server.bind_addr ADDRESS:PORT",
			"%s (server.bind_addr)", f->notice);
	}
	for (size_t i = 0; i < f->http_count; i++) {
		add(list, "http", "ok", "", "TCP %s serves status and metrics (metrics.bind_addr)",
			mt_addr_format(&f->http[i], text, sizeof(text)));
	}
	if (f->http_problem[0] != '\0') {
		add(list, "http", "fail", "mytunnelctl set metrics.bind_addr 127.0.0.1:9091",
			"%s (metrics.bind_addr)", f->http_problem);
	} else if (!f->http_enabled) {
		add(list, "http", "info", "", "the HTTP endpoint is off (metrics.enabled)");
	}
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (dir != NULL && readdir(dir) != NULL) {
		count++;
	}
	if (dir != NULL) {
		(void)closedir(dir); /* it was only read */
	}
	return count > 3 ? count - 3 : 0; /* ".", "..", and the folder itself */
}

static void check_files(json_t *list)
{
	struct rlimit limit;
	unsigned used = open_files();

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
		return; /* fails never for this limit */
	}
	if (limit.rlim_cur < FILES_WANTED) {
		add(list, "open files", "warn",
			"sudo systemctl edit mytunnel (in [Service]: LimitNOFILE=1048576), then "
			"restart it",
			"at most %" PRIu64 " open files, %u in use: each tunnel takes one",
			(uint64_t)limit.rlim_cur, used);
	} else if (used > limit.rlim_cur / 10 * 9) {
		add(list, "open files", "fail",
			"sudo systemctl edit mytunnel (in [Service]: LimitNOFILE=1048576), then "
			"restart it",
			"%u of %" PRIu64 " open files are in use", used, (uint64_t)limit.rlim_cur);
	} else {
		add(list, "open files", "ok", "", "%u of %" PRIu64 " in use", used,
			(uint64_t)limit.rlim_cur);
	}
}

static int buffer_of(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	/* The kernel doubles it, for its own book-keeping. */
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value / 2 : 0;
}

static void check_offload(json_t *list, int fd, const struct mt_doctor_sockets *sockets)
{
	int segment = 1200;
	int on = 1;
	bool gso = setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0;
	bool gro = setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;

	if (!gso || !gro) {
		add(list, "offload", "warn", "run a kernel of version 5.0 or later",
			"the kernel lacks %s%s%s: more CPU for each packet",
			gso ? "" : "UDP_SEGMENT", gso || gro ? "" : " and ", gro ? "" : "UDP_GRO");
	} else if (sockets->gso_fallbacks > 0) {
		add(list, "offload", "warn", "ethtool -k DEVICE | grep udp-segmentation",
			"the network device refused batches %" PRIu64
			" times: packets are sent one by one",
			sockets->gso_fallbacks);
	} else {
		add(list, "offload", "ok", "",
			"UDP batches in both directions (GSO, GRO), none refused in %" PRIu64
			" messages",
			sockets->messages);
	}
}

static void check_sockets(json_t *list, const struct mt_doctor_sockets *sockets)
{
	struct mt_addr any = {.len = sizeof(struct sockaddr_in),
		.v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
	struct mt_udp_options options = {.buffer_bytes = BUFFER_WANTED};
	struct mt_udp_socket s = {.fd = -1};
	int rv = mt_udp_open(&s, &any, &options);
	int in;
	int out;

	if (rv != 0) {
		add(list, "udp buffers", "fail", "sudo systemctl restart mytunnel",
			"no UDP socket can be opened: %s", mt_strerror(rv));
		return;
	}
	in = buffer_of(s.fd, SO_RCVBUF);
	out = buffer_of(s.fd, SO_SNDBUF);
	if (in < BUFFER_WANTED || out < BUFFER_WANTED) {
		add(list, "udp buffers", "warn",
			NEXT_FOR_BUFFERS " && sudo systemctl restart mytunnel",
			"%d KiB to receive and %d KiB to send instead of 4096: packets are lost at "
			"high rates",
			in / 1024, out / 1024);
	} else {
		add(list, "udp buffers", "ok", "", "%d KiB to receive, %d KiB to send", in / 1024,
			out / 1024);
	}
	check_offload(list, s.fd, sockets);
	mt_udp_close(&s);
}

static void check_cert(struct mt_appliance *a, json_t *list, enum mt_store_cert which,
	const char *name, const char *next)
{
	struct mt_cert_info info;
	char *chain = NULL;
	char *key = NULL;
	int64_t now = (int64_t)time(NULL);
	int rv = mt_store_cert_get(a->store, which, &chain, &key);

	if (rv == MT_E_NOT_FOUND) {
		return; /* only the imported one may be missing */
	}
	if (rv == 0) {
		rv = mt_pki_describe(chain, &info);
	}
	if (rv != 0) {
		add(list, "certificate", "fail", next, "the %s cannot be read: %s", name,
			mt_strerror(rv));
	} else if (now < info.not_before) {
		add(list, "certificate", "fail", "timedatectl",
			"the %s is not valid yet: is the clock right?", name);
	} else if (now >= info.not_after) {
		add(list, "certificate", "fail", next, "the %s has expired", name);
	} else {
		int64_t days = (info.not_after - now) / DAY_S;
		bool soon = days < CERT_WARN_DAYS;

		add(list, "certificate", soon ? "warn" : "ok", soon ? next : "",
			"the %s is valid for %" PRId64 " more days", name, days);
	}
	free(chain);
	if (key != NULL) {
		mt_wipe(key, strlen(key));
		free(key);
	}
}

static void check_database(struct mt_appliance *a, json_t *list)
{
	struct mt_store_health h;
	int rv = mt_store_inspect(a->store, &h);

	if (rv != 0) {
		add(list, "database", "fail", "mytunnelctl restore FILE", "%s",
			mt_store_error(a->store));
		return;
	}
	if (!h.intact) {
		add(list, "database", "fail", "mytunnelctl restore FILE", "%s is damaged: %s",
			h.path, h.problem);
	} else {
		add(list, "database", "ok", "", "%s is intact, %" PRId64 " KiB, schema %d", h.path,
			h.file_bytes / 1024, h.version);
	}
	if (h.free_bytes >= 0 && h.free_bytes < FREE_WARN_BYTES) {
		add(list, "disk space", h.free_bytes < FREE_FAIL_BYTES ? "fail" : "warn",
			"df -h; free some space on that file system",
			"%" PRId64 " KB are left for %s: changes are refused when it is full",
			h.free_bytes / 1000, h.path);
	} else if (h.free_bytes >= 0) {
		add(list, "disk space", "ok", "", "%" PRId64 " MB left for the database",
			h.free_bytes / 1000 / 1000);
	}
}

static void check_access(const struct mt_appliance *a, json_t *list)
{
	if (!a->facts.require_identity) {
		add(list, "access", "warn", "mytunnelctl set access.require_identity on",
			"anybody who reaches this server may use it as a proxy");
	} else if (a->facts.clients == 0) {
		add(list, "access", "warn", "mytunnelctl client add NAME",
			"no client is enrolled: nobody can connect");
	} else {
		add(list, "access", "ok", "", "%zu clients are enrolled, others are refused",
			a->facts.clients);
	}
}

json_t *mt_doctor_checks(struct mt_appliance *a, const struct mt_doctor_sockets *sockets)
{
	json_t *list = json_array();

	check_ports(a, list);
	check_access(a, list);
	check_cert(a, list, MT_CERT_SERVER, "server certificate", "mytunnelctl cert renew");
	check_cert(a, list, MT_CERT_IMPORTED, "imported certificate",
		"mytunnelctl cert import CHAIN KEY");
	check_database(a, list);
	check_files(list);
	check_sockets(list, sockets);
	return list;
}
