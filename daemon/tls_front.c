#include "daemon/tls_front_impl.h"

#include "daemon/access.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct mt_worker_counters *counters_of(const struct mt_tls_front *f)
{
	return f->cfg.env->counters;
}

/* ---- sessions ---- */

static struct mt_session_list *bucket_of(
	struct mt_tls_front *f, const struct mt_addr *remote, const uint8_t *fingerprint)
{
	struct mt_addr host = *remote;
	uint64_t part = 0;

	mt_addr_set_port(&host, 0);
	if (fingerprint != NULL) {
		memcpy(&part, fingerprint, sizeof(part));
	}
	return &f->buckets[mt_addr_hash(&host, f->cfg.env->seed ^ part) % MT_TLS_BUCKETS];
}

static bool is_of(
	const struct mt_session *s, const struct mt_addr *remote, const uint8_t *fingerprint)
{
	if (s->closing || s->has_identity != (fingerprint != NULL) ||
		!mt_addr_equal_host(&s->remote, remote)) {
		return false;
	}
	return fingerprint == NULL || memcmp(s->fingerprint, fingerprint, MT_FINGERPRINT_LEN) == 0;
}

static struct mt_session *find_session(
	struct mt_tls_front *f, const struct mt_addr *remote, const uint8_t *fingerprint)
{
	struct mt_session *s;

	for (s = LIST_FIRST(bucket_of(f, remote, fingerprint)); s != NULL;
		s = LIST_NEXT(s, of_front)) {
		if (is_of(s, remote, fingerprint)) {
			return s;
		}
	}
	return NULL;
}

static struct mt_session *new_session(
	struct mt_tls_front *f, const struct mt_addr *remote, const uint8_t *fingerprint)
{
	const struct mt_session_tls how = {
		.front = f,
		.remote = remote,
		.fingerprint = fingerprint,
		.serial = f->cfg.next_serial(f->cfg.user),
	};
	struct mt_session *s = mt_session_new_tls(f->cfg.env, f->cfg.sessions, &how);

	if (s != NULL) {
		LIST_INSERT_HEAD(bucket_of(f, remote, fingerprint), s, of_front);
		mt_count(&counters_of(f)->tls_connections_total, 1);
		mt_count(&counters_of(f)->tls_connections_active, 1);
		f->cfg.on_session(f->cfg.user, s);
	}
	return s;
}

void mt_tls_front_end_session(struct mt_session *s)
{
	struct mt_tls_front *f = s->front;
	struct mt_tls_visit *v;

	while ((v = LIST_FIRST(&s->visits)) != NULL) {
		LIST_REMOVE(v, of_session);
		v->session = NULL;
	}
	mt_count(&counters_of(f)->tls_connections_active, UINT64_MAX); /* wraps: one less */
	f->cfg.on_session_end(f->cfg.user, s);
	LIST_REMOVE(s, of_front);
	mt_session_free(s);
}

double mt_tls_front_rtt_ms(const struct mt_session *s)
{
	const struct mt_tls_visit *v = LIST_FIRST(&s->visits);
	struct tcp_info info = {.tcpi_rtt = 0};
	socklen_t len = sizeof(info);

	if (v == NULL || v->stream == NULL || mt_stream_is_detached(v->stream) ||
		getsockopt(mt_tls_stream_socket(v->stream)->fd, IPPROTO_TCP, TCP_INFO, &info,
			&len) != 0) {
		return 0;
	}
	return (double)info.tcpi_rtt / 1e3;
}

/* ---- connections ---- */

static int authorize(void *user, const uint8_t *fingerprint)
{
	struct mt_tls_visit *v = user;
	struct mt_tls_front *f = v->front;
	int alert = mt_access_check_identity(f->cfg.env->snapshot, fingerprint);

	if (alert != 0) {
		v->told = true;
		mt_count(&counters_of(f)->quic.identity_refused, 1);
		f->cfg.on_refused(f->cfg.user, &v->remote, NULL, fingerprint);
	}
	return alert;
}

static void count_records(struct mt_tls_visit *v, const struct mt_tls_socket *socket, bool open)
{
	struct mt_worker_counters *c = counters_of(v->front);

	if (open) {
		v->counted_kernel = socket->ktls == MT_KTLS_ON;
		v->counted_user = !v->counted_kernel;
	}
	if (v->counted_kernel) {
		mt_count(&c->tls_kernel_active, open ? 1 : UINT64_MAX);
		mt_count(&c->tls_kernel_total, open);
	} else if (v->counted_user) {
		mt_count(&c->tls_user_active, open ? 1 : UINT64_MAX);
		mt_count(&c->tls_user_total, open);
	}
}

static void set_half_open(const struct mt_tls_front *f)
{
	atomic_store_explicit(&counters_of(f)->tls_half_open, mt_tls_loop_half_open(f->tls),
		memory_order_relaxed);
}

static void on_established(struct mt_stream *stream, void *user)
{
	struct mt_tls_visit *v = user;
	struct mt_tls_front *f = v->front;
	const struct mt_tls_socket *socket = mt_tls_stream_socket(stream);
	const uint8_t *fingerprint = socket->tls.has_fingerprint ? socket->tls.fingerprint : NULL;
	struct mt_session *s = find_session(f, &v->remote, fingerprint);
	int rv;

	set_half_open(f);
	count_records(v, socket, true);
	mt_count(&counters_of(f)->quic.streams_opened, 1);
	if (s == NULL) {
		s = new_session(f, &v->remote, fingerprint);
	}
	if (s == NULL) {
		mt_stream_release(stream, MT_APP_LIMIT);
		return;
	}
	v->session = s;
	v->stream = stream;
	LIST_INSERT_HEAD(&s->visits, v, of_session);
	rv = mt_session_enter(s, f->limits.max_streams);
	if (rv < 0) {
		enum mt_app_code code = s->closing ? (enum mt_app_code)s->close_code : MT_APP_LIMIT;

		mt_count(&counters_of(f)->quic.connections_refused, 1);
		f->cfg.on_refused(f->cfg.user, &v->remote,
			s->closing ? s->close_reason : MT_SESSION_CROWDED_TEXT, fingerprint);
		mt_tls_front_refuse(
			v, code, s->closing ? mt_app_code_text(code) : MT_SESSION_CROWDED_TEXT);
		return;
	}
	mt_session_accept_stream(s, stream);
}

static void on_failed(const struct mt_tls_socket *socket, void *user)
{
	struct mt_tls_visit *v = user;
	struct mt_tls_front *f = v->front;
	bool refused;

	set_half_open(f);
	if (socket->err == MT_E_TIMEOUT) {
		mt_count(&counters_of(f)->quic.timeouts, 1);
	}
	refused = v->told || socket->tls.alert == GNUTLS_A_CERTIFICATE_REQUIRED ||
		  (socket->fault == MT_TLS_FAULT_REFUSED &&
			  socket->alert == GNUTLS_A_CERTIFICATE_REQUIRED);
	/* Failures for the identity have counters of their own. */
	mt_count(refused ? &counters_of(f)->quic.connections_failed
			 : &counters_of(f)->tls_handshakes_failed,
		1);
	/* GnuTLS refuses a client without a certificate before anybody is asked. */
	if (refused && !v->told) {
		mt_count(&counters_of(f)->quic.identity_refused, 1);
		f->cfg.on_refused(f->cfg.user, &v->remote, NULL, NULL);
	}
}

static void count_fault(const struct mt_tls_front *f, const struct mt_tls_socket *socket)
{
	struct mt_worker_counters *c = counters_of(f);

	switch (socket->fault) {
	case MT_TLS_FAULT_REKEY: mt_count(&c->tls_rekeys, 1); break;
	case MT_TLS_FAULT_RECORDS: mt_count(&c->tls_record_limits, 1); break;
	case MT_TLS_FAULT_PROTOCOL: mt_count(&c->quic.protocol_errors, 1); break;
	case MT_TLS_FAULT_ALERT: mt_count(&c->tls_alerts, 1); break;
	default: break;
	}
}

static void on_gone(const struct mt_tls_socket *socket, void *user)
{
	struct mt_tls_visit *v = user;
	struct mt_tls_front *f = v->front;

	if (socket->established) {
		mt_count(&counters_of(f)->quic.streams_closed, 1);
		count_records(v, socket, false);
		count_fault(f, socket);
	}
	if (v->session != NULL) {
		LIST_REMOVE(v, of_session);
		mt_session_exit(v->session, f->limits.max_streams);
	}
	mt_deadline_cancel(&v->refusal);
	LIST_REMOVE(v, of_front);
	f->visit_count--;
	mt_mem_release(f->cfg.env->mem, v);
}

void mt_tls_front_begin(struct mt_tls_front *f, int fd, const struct mt_addr *remote)
{
	struct mt_tls_visit *v = mt_mem_calloc(f->cfg.env->mem, sizeof(*v));
	struct mt_tls_stream_events events = {
		.on_established = on_established,
		.on_failed = on_failed,
		.on_gone = on_gone,
		.user = v,
	};
	struct mt_stream *stream = NULL;
	int rv = v == NULL ? -ENOMEM
			   : mt_tls_stream_accept(&stream, f->tls, fd, f->cfg.env->snapshot->tls,
				     authorize, &events);

	if (rv < 0) {
		mt_count(&counters_of(f)->errors, 1);
		mt_mem_release(f->cfg.env->mem, v);
		(void)close(fd); /* nothing was said yet */
		return;
	}
	v->front = f;
	v->remote = *remote;
	LIST_INSERT_HEAD(&f->visits, v, of_front);
	f->visit_count++;
	set_half_open(f);
}

int mt_tls_front_new(struct mt_tls_front **out, const struct mt_tls_front_config *config)
{
	struct mt_tls_front *f = calloc(1, sizeof(*f));
	int rv;

	if (f == NULL) {
		return -ENOMEM;
	}
	f->cfg = *config;
	LIST_INIT(&f->visits);
	for (size_t i = 0; i < MT_TLS_BUCKETS; i++) {
		LIST_INIT(&f->buckets[i]);
	}
	rv = mt_tls_loop_new(&f->tls, config->loop, config->env->poller, config->env->mem);
	if (rv < 0) {
		free(f);
		return rv;
	}
	mt_tls_loop_set_kernel(f->tls, mt_ktls_probe() == MT_KTLS_ON);
	mt_tls_accept_init(f);
	*out = f;
	return 0;
}

void mt_tls_front_free(struct mt_tls_front *f)
{
	struct mt_tls_visit *v;

	if (f == NULL) {
		return;
	}
	mt_tls_accept_deinit(f);
	mt_tls_loop_free(f->tls);
	while ((v = LIST_FIRST(&f->visits)) != NULL) {
		mt_deadline_cancel(&v->refusal);
		LIST_REMOVE(v, of_front);
		mt_mem_release(f->cfg.env->mem, v);
	}
	free(f);
}

void mt_tls_front_set_limits(struct mt_tls_front *f, const struct mt_tls_limits *limits)
{
	f->limits = *limits;
}

void mt_tls_front_set_draining(struct mt_tls_front *f)
{
	f->draining = true;
}
