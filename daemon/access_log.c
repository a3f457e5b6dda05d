#include "daemon/access_log.h"

#include "daemon/log.h"
#include "proto/wire/trace.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#define FIELDS_MAX 16

struct record {
	struct mt_log_field fields[FIELDS_MAX];
	size_t count;
	char trace[MT_TRACE_TEXT_MAX];
	char target[MT_HOST_MAX + 16];
	char address[MT_ADDR_TEXT_MAX];
};

static void add(struct record *r, struct mt_log_field field)
{
	if (r->count < FIELDS_MAX) {
		r->fields[r->count++] = field;
	}
}

/* Phases that were not reached are left out. */
static void add_phases(struct record *r, const struct mt_tunnel_trace *t, bool named)
{
	if (named && t->resolved_ns != 0) {
		add(r, MT_LOG_MS("name_ms", t->resolved_ns - t->started_ns));
	}
	if (t->connected_ns != 0) {
		add(r, MT_LOG_MS("connect_ms", t->connected_ns - t->resolved_ns));
	}
	if (t->first_byte_ns != 0) {
		add(r, MT_LOG_MS("first_byte_ms", t->first_byte_ns - t->started_ns));
	}
	add(r, MT_LOG_MS("total_ms", uv_hrtime() - t->started_ns));
}

static void add_target(struct record *r, const struct mt_opening *o)
{
	const bool v6 = memchr(o->host, ':', o->host_len) != NULL && o->host[0] != '[';

	(void)snprintf(r->target, sizeof(r->target), "%s%.*s%s:%u", v6 ? "[" : "", (int)o->host_len,
		o->host, v6 ? "]" : "", o->port); /* brackets, ':' and five digits fit */
	add(r, MT_LOG_TEXT("target", r->target));
}

static void begin(struct record *r, const struct mt_opening *o, const char *client)
{
	r->count = 0;
	add(r, MT_LOG_TEXT(
		       "trace", mt_trace_format(r->trace, o->trace.connection, o->trace.stream)));
	add(r, MT_LOG_TEXT("client", client));
	add(r, MT_LOG_TEXT("transport", o->trace.transport));
}

void mt_access_log_connection(const struct mt_env *env, const char *event, uint64_t trace,
	const char *client, const struct mt_addr *peer, const char *reason, const char *detail)
{
	struct record r = {.count = 0};

	if (!env->snapshot->log_access && !mt_log_enabled(MT_LOG_DEBUG)) {
		return;
	}
	if (trace != 0) {
		add(&r, MT_LOG_TEXT("trace", mt_trace_format_connection(r.trace, trace)));
	}
	add(&r, MT_LOG_TEXT("client", client));
	add(&r, MT_LOG_TEXT("transport", trace != 0 ? "quic" : "tls"));
	add(&r, MT_LOG_TEXT("peer", mt_addr_format(peer, r.address, sizeof(r.address))));
	if (reason[0] != '\0') {
		add(&r, MT_LOG_TEXT("reason", reason));
	}
	if (detail[0] != '\0') {
		add(&r, MT_LOG_TEXT("detail", detail));
	}
	if (env->snapshot->log_access) {
		mt_log_record(event, r.fields, r.count);
	} else {
		mt_log_write(MT_LOG_DEBUG, event, r.fields, r.count);
	}
}

void mt_access_log_closed(const struct mt_opening *o, const struct mt_access_end *end)
{
	struct record r;

	mt_tunnel_trace_closed(&o->trace, end->bytes_received, end->bytes_sent, end->reason);
	if (!o->env->snapshot->log_access) {
		return;
	}
	begin(&r, o, end->client);
	add_target(&r, o);
	if (end->target->len > 0) {
		add(&r, MT_LOG_TEXT("address",
				mt_addr_format(end->target, r.address, sizeof(r.address))));
	}
	add_phases(&r, &o->trace, o->name != NULL);
	add(&r, MT_LOG_NUMBER("bytes_received", end->bytes_received));
	add(&r, MT_LOG_NUMBER("bytes_sent", end->bytes_sent));
	add(&r, MT_LOG_TEXT("reason", end->reason));
	mt_log_record("tunnel_closed", r.fields, r.count);
}

void mt_access_log_failed(const struct mt_opening *o, const char *reason)
{
	const bool access = o->env->snapshot->log_access;
	struct record r;

	if (!access && !mt_log_enabled(MT_LOG_INFO)) {
		return;
	}
	begin(&r, o, o->client);
	if (access || mt_log_enabled(MT_LOG_DEBUG)) {
		add_target(&r, o);
	}
	add_phases(&r, &o->trace, o->name != NULL);
	add(&r, MT_LOG_TEXT("reason", reason));
	if (access) {
		mt_log_record("tunnel_failed", r.fields, r.count);
	} else {
		mt_log_write(MT_LOG_INFO, "tunnel_failed", r.fields, r.count);
	}
}
