#include "client/tunnel_log.h"

#include "client/forward.h"
#include "proto/wire/log_line.h"
#include "proto/wire/request.h"
#include "proto/wire/trace.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIELDS_MAX 8
#define TARGET_MAX (MT_HOST_MAX + 16)

static uint64_t dropped; /* lines, since one was written; the program has one thread */

static bool write_line(enum mt_tunnel_log_form form, enum mt_log_level level, const char *event,
	const struct mt_log_field *fields, size_t count)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[MT_LOG_LINE_MAX];
	struct timespec now;
	size_t len;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	len = mt_log_line_format(line, sizeof(line), form == MT_TUNNEL_LOG_JSON,
		(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, level, event, fields, count);
	/* Writable means room for a page, which a line never exceeds. */
	return poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0 &&
	       write(STDERR_FILENO, line, len) >= 0;
}

static void tell(enum mt_tunnel_log_form form, enum mt_log_level level, const char *event,
	const struct mt_log_field *fields, size_t count)
{
	if (dropped > 0) {
		const struct mt_log_field lines = MT_LOG_NUMBER("lines", dropped);

		if (write_line(form, MT_LOG_WARN, "log_dropped", &lines, 1)) {
			dropped = 0;
		}
	}
	if (!write_line(form, level, event, fields, count)) {
		dropped++;
	}
}

void mt_tunnel_log_start(struct mt_tunnel_log *log, enum mt_tunnel_log_form form,
	struct mt_mem *mem, const char *host, size_t host_len, uint16_t port)
{
	char name[MT_HOST_MAX + 1];

	if (form == MT_TUNNEL_LOG_OFF || host_len > MT_HOST_MAX) {
		return;
	}
	log->mem = mem;
	log->target = mt_mem_alloc(mem, TARGET_MAX);
	if (log->target == NULL) {
		return; /* a line less */
	}
	memcpy(name, host, host_len);
	name[host_len] = '\0';
	(void)mt_target_format(name, port, log->target, TARGET_MAX); /* returns its buffer */
	log->form = form;
	log->started_ns = uv_hrtime();
}

/* Trace, target and transport, as far as they are known. */
static size_t begin(const struct mt_tunnel_log *log, char *trace, struct mt_log_field *fields)
{
	size_t count = 0;

	if (log->id.connection != 0) {
		fields[count++] = MT_LOG_TEXT(
			"trace", mt_trace_format(trace, log->id.connection, log->id.stream));
	}
	fields[count++] = MT_LOG_TEXT("target", log->target);
	if (log->id.transport != NULL) {
		fields[count++] = MT_LOG_TEXT("transport", log->id.transport);
	}
	return count;
}

void mt_tunnel_log_failed(struct mt_tunnel_log *log, const char *reason)
{
	struct mt_log_field fields[FIELDS_MAX];
	char trace[MT_TRACE_TEXT_MAX];
	size_t count;

	if (log->target == NULL) {
		return;
	}
	count = begin(log, trace, fields);
	fields[count++] = MT_LOG_MS("total_ms", uv_hrtime() - log->started_ns);
	fields[count++] = MT_LOG_TEXT("reason", reason);
	tell(log->form, MT_LOG_WARN, "tunnel_failed", fields, count);
	mt_tunnel_log_deinit(log);
}

void mt_tunnel_log_open(struct mt_tunnel_log *log)
{
	log->answered_ns = uv_hrtime();
}

static const char *end_reason(const struct mt_pump_result *result)
{
	if (result->err == 0) {
		return "done";
	}
	if (result->err != MT_E_RESET) {
		return "application reset";
	}
	return result->app_code != MT_APP_NONE ? mt_app_code_text(result->app_code)
					       : "connection lost";
}

void mt_tunnel_log_closed(struct mt_tunnel_log *log, const struct mt_pump_result *result)
{
	struct mt_log_field fields[FIELDS_MAX];
	char trace[MT_TRACE_TEXT_MAX];
	size_t count;

	if (log->target == NULL) {
		return;
	}
	count = begin(log, trace, fields);
	fields[count++] = MT_LOG_MS("connect_ms", log->answered_ns - log->started_ns);
	fields[count++] = MT_LOG_MS("total_ms", uv_hrtime() - log->started_ns);
	fields[count++] = MT_LOG_NUMBER("bytes_sent", result->bytes_to_stream);
	fields[count++] = MT_LOG_NUMBER("bytes_received", result->bytes_to_socket);
	fields[count++] = MT_LOG_TEXT("reason", end_reason(result));
	tell(log->form, MT_LOG_INFO, "tunnel_closed", fields, count);
	mt_tunnel_log_deinit(log);
}

void mt_tunnel_log_udp(
	enum mt_tunnel_log_form form, const struct mt_udp_relay_stats *stats, bool more_dropped)
{
	const struct mt_log_field fields[] = {
		MT_LOG_NUMBER("sent", stats->sent),
		MT_LOG_NUMBER("received", stats->received),
		MT_LOG_NUMBER("dropped_foreign", stats->dropped_foreign),
		MT_LOG_NUMBER("dropped_malformed", stats->dropped_malformed),
		MT_LOG_NUMBER("dropped_too_long", stats->dropped_too_long),
		MT_LOG_NUMBER("dropped_offline", stats->dropped_offline),
		MT_LOG_NUMBER("dropped_queue", stats->dropped_queue),
		MT_LOG_NUMBER("dropped_unknown", stats->dropped_unknown),
	};

	if (form != MT_TUNNEL_LOG_OFF) {
		tell(form, more_dropped ? MT_LOG_WARN : MT_LOG_INFO, "udp", fields,
			sizeof(fields) / sizeof(fields[0]));
	}
}

void mt_tunnel_log_deinit(struct mt_tunnel_log *log)
{
	if (log->mem != NULL) {
		mt_mem_release(log->mem, log->target);
	}
	log->target = NULL;
}
