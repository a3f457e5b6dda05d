#include "daemon/opening.h"

#include "daemon/access_log.h"
#include "daemon/failure.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct mt_access_request mt_opening_request(const struct mt_opening *o)
{
	return (struct mt_access_request){
		.client = o->client,
		.protocol = MT_RULE_TCP,
		.name = o->name,
		.name_len = o->name_len,
		.port = o->port,
	};
}

/* The words for them are those of mt_failure_text. */
static enum mt_connect_failure failure_of(int err)
{
	switch (err) {
	case MT_E_DNS: return MT_CONNECT_DNS;
	case MT_E_TIMEOUT:
	case -ETIMEDOUT: return MT_CONNECT_TIMEOUT;
	case -ECONNREFUSED: return MT_CONNECT_REFUSED;
	case -ENETUNREACH:
	case -EHOSTUNREACH:
	case -ENETDOWN:
	case -EHOSTDOWN: return MT_CONNECT_UNREACHABLE;
	case -ECONNRESET: return MT_CONNECT_RESET;
	case -EMFILE:
	case -ENFILE:
	case -ENOBUFS:
	case -ENOMEM: return MT_CONNECT_RESOURCES;
	default: return MT_CONNECT_OTHER;
	}
}

static void note_failure(struct mt_opening *o, int err)
{
	struct mt_worker_counters *counters = o->env->counters;

	o->under_way = false;
	if (err == MT_E_DENIED) {
		mt_count(&counters->tunnels_refused, 1);
	} else {
		mt_count(&counters->tunnels_failed, 1);
		mt_count(&counters->connect_failures[failure_of(err)], 1);
	}
	mt_tunnel_trace_failed(&o->trace, err);
	mt_access_log_failed(o, mt_failure_text(err));
}

static void finish(struct mt_opening *o, int err, int fd, const struct mt_addr *addr)
{
	mt_deadline_cancel(&o->deadline);
	o->under_way = false;
	if (err == 0) {
		mt_tunnel_trace_connected(&o->trace, addr);
		mt_histogram_observe(&o->env->counters->connects, &mt_histogram_times,
			o->trace.connected_ns - o->trace.started_ns);
	} else if (err != -ECONNRESET) {
		note_failure(o, err);
	} else { /* that target had accepted: the tunnel counts as opened */
		mt_count(&o->env->counters->connect_failures[MT_CONNECT_RESET], 1);
		mt_tunnel_trace_failed(&o->trace, err);
		mt_access_log_failed(o, mt_failure_text(err));
	}
	o->on_done(o, err, fd, addr);
}

static void on_connected(void *user, int err, int fd, const struct mt_addr *addr)
{
	struct mt_opening *o = user;
	const struct mt_access_request request = mt_opening_request(o);

	o->connect = NULL;
	/* The rules may have changed since the attempt began. */
	if (err == 0 && mt_access_check_target(o->env->snapshot, &request, addr) < 0) {
		mt_poller_close_fd(o->env->poller, fd); /* nothing was exchanged with the target */
		fd = -1;
		err = MT_E_DENIED;
	}
	finish(o, err, fd, addr);
}

static int start_connect(struct mt_opening *o, const struct mt_addr *addrs, size_t count)
{
	const struct mt_connect_config config = {
		.env = o->env,
		.addrs = addrs,
		.count = count,
		.request = mt_opening_request(o),
		.on_done = on_connected,
		.user = o,
	};

	mt_deadline_cancel(&o->deadline);
	mt_tunnel_trace_resolved(&o->trace);
	return mt_connect_start(&o->connect, &config);
}

static void on_resolved(
	struct mt_resolve *request, int err, const struct mt_addr *addrs, size_t count)
{
	struct mt_opening *o =
		(struct mt_opening *)((char *)request - offsetof(struct mt_opening, resolve));
	int rv = count == 0 ? err : start_connect(o, addrs, count);

	if (rv < 0) {
		finish(o, rv, -1, NULL);
	}
}

static void on_deadline(struct mt_deadline *deadline)
{
	struct mt_opening *o =
		(struct mt_opening *)((char *)deadline - offsetof(struct mt_opening, deadline));

	mt_resolve_cancel(&o->resolve);
	finish(o, MT_E_TIMEOUT, -1, NULL);
}

/* Asks the rules, then the resolver: 0 and the addresses, MT_E_AGAIN, or why not. */
static int look_up(struct mt_opening *o, const struct mt_addr **addrs, size_t *count)
{
	struct mt_access_request ask;
	int rv;

	o->name = o->host;
	o->name_len = o->host_len;
	ask = mt_opening_request(o);
	rv = mt_access_check_name(o->env->snapshot, &ask, NULL);
	if (rv == 0) {
		rv = mt_resolver_lookup(
			o->env->resolver, &o->resolve, o->name, o->name_len, addrs, count);
	}
	return rv;
}

int mt_opening_start(struct mt_opening *o, const struct mt_request *request)
{
	enum mt_host_kind kind;
	struct mt_addr literal;
	const struct mt_addr *addrs = &literal;
	size_t count = 1;
	int rv = mt_host_parse(&kind, &literal, request->host, request->host_len, request->port);

	if (rv < 0) {
		mt_count(&o->env->counters->requests_malformed, 1);
		return rv;
	}
	o->host = mt_mem_alloc(o->env->mem, request->host_len);
	if (o->host == NULL) {
		mt_count(&o->env->counters->errors, 1);
		return -ENOMEM;
	}
	memcpy(o->host, request->host, request->host_len);
	o->host_len = request->host_len;
	o->resolve.on_done = on_resolved;
	o->resolve.asker = mt_resolve_asker(o->client, o->trace.connection);
	o->deadline.on_due = on_deadline;
	o->port = request->port;
	o->under_way = true;
	mt_tunnel_trace_start(&o->trace, o->host, o->host_len, o->port);
	if (o->env->draining) {
		o->under_way = false;
		mt_count(&o->env->counters->tunnels_failed, 1);
		mt_count(&o->env->counters->connect_failures[MT_CONNECT_DRAINING], 1);
		mt_access_log_failed(o, "draining");
		return MT_E_CLOSED;
	}
	if (kind == MT_HOST_NAME) {
		rv = look_up(o, &addrs, &count);
		if (rv == MT_E_AGAIN) {
			mt_deadline_set(&o->env->deadlines, &o->deadline, MT_CONNECT_TIMEOUT_MS);
			return 0;
		}
	}
	if (rv == 0) {
		rv = start_connect(o, addrs, count);
	}
	if (rv < 0) {
		note_failure(o, rv);
	}
	return rv;
}

void mt_opening_deinit(struct mt_opening *o)
{
	if (o->under_way) {
		o->under_way = false;
		mt_access_log_failed(o, "cancelled");
	}
	mt_deadline_cancel(&o->deadline);
	mt_resolve_cancel(&o->resolve);
	if (o->connect != NULL) {
		mt_connect_cancel(o->connect);
		o->connect = NULL;
	}
	if (o->host != NULL) {
		mt_mem_release(o->env->mem, o->host);
		o->host = NULL;
		o->name = NULL;
	}
}
