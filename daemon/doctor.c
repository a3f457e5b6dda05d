#include "daemon/doctor.h"

#include "daemon/tuning.h"
#include "proto/wire/encode.h"
#include "proto/wire/verdict.h"
#include "store/pki.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CERT_WARN_DAYS  14
#define FREE_WARN_BYTES (INT64_C(100) * 1000 * 1000)
#define FREE_FAIL_BYTES (INT64_C(5) * 1000 * 1000)
#define DAY_S           86400
#define MIB             (UINT64_C(1024) * 1024)

static void check_ports(struct mt_appliance *a, json_t *list)
{
	const struct mt_facts *f = &a->facts;
	char text[MT_ADDR_TEXT_MAX];

	if (f->state == MT_STATE_DEGRADED) {
		mt_verdict_add(list, "listening", "fail", f->next, "%s", f->problem);
	} else if (f->state != MT_STATE_RUNNING) {
		mt_verdict_add(list, "listening", "warn",
			"restart the daemon to serve clients again",
			"new clients are refused: the daemon drains");
	}
	for (size_t i = 0; i < f->listener_count; i++) {
		mt_verdict_add(list, "listening", "ok", "",
			"UDP %s serves clients (server.bind_addr)",
			mt_addr_format(&f->listeners[i], text, sizeof(text)));
	}
	for (size_t i = 0; i < f->tls_listener_count; i++) {
		mt_verdict_add(list, "tls", "ok", "",
			"TCP %s serves clients by TLS (tcp.bind_addr)",
			mt_addr_format(&f->tls_listeners[i], text, sizeof(text)));
	}
	if (f->tls_problem[0] != '\0') {
		mt_verdict_add(list, "tls", "warn", "mytunnelctl set tcp.bind_addr ADDRESS:PORT",
			"%s", f->tls_problem);
	} else if (!f->tls_enabled) {
		mt_verdict_add(list, "tls", "info", "",
			"TLS over TCP is off (tcp.enabled): networks that block UDP cannot reach "
			"this "
			"server");
	} else {
		mt_verdict_add(list, "tls records", f->tls_kernel ? "ok" : "info",
			f->tls_kernel ? "" : "modprobe tls, or a kernel with CONFIG_TLS",
			"%s makes them (kernel TLS: %s)", f->tls_kernel ? "the kernel" : "GnuTLS",
			f->tls_why);
	}
	if (f->notice[0] != '\0') {
		mt_verdict_add(list, "listening", "warn",
			"mytunnelctl set server.bind_addr ADDRESS:PORT", "%s (server.bind_addr)",
			f->notice);
	}
	for (size_t i = 0; i < f->http_count; i++) {
		mt_verdict_add(list, "http", "ok", "",
			"TCP %s serves status and metrics (metrics.bind_addr)",
			mt_addr_format(&f->http[i], text, sizeof(text)));
	}
	if (f->http_problem[0] != '\0') {
		mt_verdict_add(list, "http", "fail",
			"mytunnelctl set metrics.bind_addr 127.0.0.1:9091",
			"%s (metrics.bind_addr)", f->http_problem);
	} else if (!f->http_enabled) {
		mt_verdict_add(
			list, "http", "info", "", "the HTTP endpoint is off (metrics.enabled)");
	}
}

static void check_tuning(
	struct mt_appliance *a, json_t *list, const struct mt_doctor_sockets *sockets)
{
	const struct mt_settings *settings = &a->settings;
	struct mt_tuning t = {
		.max_connections = (uint64_t)mt_settings_int(settings, MT_SET_QUIC_MAX_CONNECTIONS),
		.memory_limit =
			(uint64_t)mt_settings_int(settings, MT_SET_LIMITS_MAX_MEMORY_MB) * MIB,
		.workers = a->facts.workers,
		.tls_enabled = a->facts.tls_enabled,
		.messages = sockets->messages,
		.gso_fallbacks = sockets->gso_fallbacks,
	};

	mt_tuning_read(&t);
	mt_tuning_checks(list, &t);
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
		mt_verdict_add(list, "certificate", "fail", next, "the %s cannot be read: %s", name,
			mt_strerror(rv));
	} else if (now < info.not_before) {
		mt_verdict_add(list, "certificate", "fail", "timedatectl",
			"the %s is not valid yet: is the clock right?", name);
	} else if (now >= info.not_after) {
		mt_verdict_add(list, "certificate", "fail", next, "the %s has expired", name);
	} else {
		int64_t days = (info.not_after - now) / DAY_S;
		bool soon = days < CERT_WARN_DAYS;

		mt_verdict_add(list, "certificate", soon ? "warn" : "ok", soon ? next : "",
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
		mt_verdict_add(list, "database", "fail", "mytunnelctl restore FILE", "%s",
			mt_store_error(a->store));
		return;
	}
	if (!h.intact) {
		mt_verdict_add(list, "database", "fail", "mytunnelctl restore FILE",
			"%s is damaged: %s", h.path, h.problem);
	} else {
		mt_verdict_add(list, "database", "ok", "",
			"%s is intact, %" PRId64 " KiB, schema %d", h.path, h.file_bytes / 1024,
			h.version);
	}
	if (h.free_bytes >= 0 && h.free_bytes < FREE_WARN_BYTES) {
		mt_verdict_add(list, "disk space", h.free_bytes < FREE_FAIL_BYTES ? "fail" : "warn",
			"df -h; free some space on that file system",
			"%" PRId64 " KB are left for %s: changes are refused when it is full",
			h.free_bytes / 1000, h.path);
	} else if (h.free_bytes >= 0) {
		mt_verdict_add(list, "disk space", "ok", "", "%" PRId64 " MB left for the database",
			h.free_bytes / 1000 / 1000);
	}
}

static void check_access(const struct mt_appliance *a, json_t *list)
{
	if (!a->facts.require_identity) {
		mt_verdict_add(list, "access", "warn", "mytunnelctl set access.require_identity on",
			"anybody who reaches this server may use it as a proxy");
	} else if (a->facts.clients == 0) {
		mt_verdict_add(list, "access", "warn", "mytunnelctl client add NAME",
			"no client is enrolled: nobody can connect");
	} else {
		mt_verdict_add(list, "access", "ok", "",
			"%zu clients are enrolled, others are refused", a->facts.clients);
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
	check_tuning(a, list, sockets);
	return list;
}
