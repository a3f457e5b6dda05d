#include "proto/io/tls_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define ALERT_WARNING 1
#define ALERT_FATAL   2
#define KEY_UPDATE    24 /* RFC 8446, section 4 */
#define NEW_TICKET    4
#define CONTROL_MAX   (MT_TLS_RECORD_MAX + 256)
/* Together less than MT_TLS_SILENT_MS and a little. */
#define KEEP_IDLE_S     10
#define KEEP_INTERVAL_S 5
#define KEEP_COUNT      4
#define UNANSWERED_MIN  3 /* retries: fewer may be lost by chance, or be on their way */
#define SEND_PARTS      8
#define NOTHING_MAX                                                                                \
	32 /* records without payload in a row: no honest peer has a reason for more               \
	    */

static int fail(struct mt_tls_socket *s, enum mt_tls_fault fault, int err)
{
	if (s->fault == MT_TLS_FAULT_NONE) {
		s->fault = fault;
		s->err = err;
	}
	return s->err;
}

static void send_alert(struct mt_tls_socket *s, int alert)
{
	int rv;

	if (s->alert < 0) {
		s->alert = alert;
	}
	if (s->established && s->ktls == MT_KTLS_ON) {
		rv = mt_ktls_send_alert(s->fd, ALERT_FATAL, (uint8_t)alert);
	} else {
		rv = gnutls_alert_send(
			s->tls.session, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
	}
	(void)rv; /* it only explains: where it does not fit, the reset must do */
}

/* The error of the socket behind a failure of GnuTLS' push or pull; 0: it has none. Clears it. */
static int socket_error(const struct mt_tls_socket *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? -err : -errno;
}

/* The alert for a record that the kernel could not open; -1: the error has nothing to do with it.
 */
static int alert_of_kernel(const struct mt_tls_socket *s, int err)
{
	if (s->ktls != MT_KTLS_ON) {
		return -1;
	}
	switch (err) {
	case -EBADMSG: return GNUTLS_A_BAD_RECORD_MAC;
	case -EMSGSIZE: return GNUTLS_A_RECORD_OVERFLOW;
	case -EINVAL: return GNUTLS_A_UNEXPECTED_MESSAGE;
	default: return -1;
	}
}

int mt_tls_socket_fail(struct mt_tls_socket *s, int err)
{
	int alert = alert_of_kernel(s, err);

	if (alert >= 0 && s->fault == MT_TLS_FAULT_NONE) {
		(void)socket_error(s); /* the kernel would not send with it */
		send_alert(s, alert);
		return fail(s, MT_TLS_FAULT_PROTOCOL, MT_E_TLS);
	}
	return err == -ECONNRESET || err == -EPIPE ? fail(s, MT_TLS_FAULT_RESET, MT_E_RESET)
						   : fail(s, MT_TLS_FAULT_TRANSPORT, err);
}

/* What GnuTLS' error means, with the alert that the peer is owed. */
static int fail_gnutls(struct mt_tls_socket *s, int rc)
{
	int level, alert, err;

	switch (rc) {
	case GNUTLS_E_PREMATURE_TERMINATION: return fail(s, MT_TLS_FAULT_RESET, MT_E_RESET);
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_SESSION_EOF:
		err = socket_error(s);
		return err == 0 ? fail(s, MT_TLS_FAULT_RESET, MT_E_RESET)
				: mt_tls_socket_fail(s, err);
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		s->alert = (int)gnutls_alert_get(s->tls.session);
		return fail(s, MT_TLS_FAULT_ALERT, MT_E_TLS);
	default: break;
	}
	alert = s->tls.alert != 0 ? s->tls.alert : gnutls_error_to_alert(rc, &level);
	send_alert(s, alert);
	if (!s->established) {
		return fail(s, MT_TLS_FAULT_REFUSED, s->tls.error != 0 ? s->tls.error : MT_E_TLS);
	}
	return fail(s, MT_TLS_FAULT_PROTOCOL, MT_E_TLS);
}

/* What calls for another try at once: a signal, or a record without meaning, such as a warning. */
static bool is_nothing(ssize_t rc)
{
	return rc < 0 && rc != GNUTLS_E_AGAIN && gnutls_error_is_fatal((int)rc) == 0;
}

void mt_tls_socket_set_options(int fd)
{
	static const struct {
		int level;
		int name;
		int value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		/* Without one of them it is slower, or a dead path is noticed later. */
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			sizeof(options[i].value));
	}
}

void mt_tls_socket_push(struct mt_tls_socket *s)
{
	const int on = 1;

	if (s->held) {
		s->held = false;
		/* Sends what MSG_MORE has kept back; fails for no socket of ours. */
		(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
}

/* In the handshake, and before our end, GnuTLS has something to add at once: a segment for each of
 * its records would wake the other side for nothing.
 */
static ssize_t send_records(gnutls_transport_ptr_t ptr, const giovec_t *iov, int count)
{
	struct mt_tls_socket *s = ptr;
	struct iovec parts[SEND_PARTS];
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 0};
	const bool more = s->gathers;
	ssize_t put;

	for (; msg.msg_iovlen < SEND_PARTS && msg.msg_iovlen < (size_t)count; msg.msg_iovlen++) {
		parts[msg.msg_iovlen].iov_base = iov[msg.msg_iovlen].iov_base;
		parts[msg.msg_iovlen].iov_len = iov[msg.msg_iovlen].iov_len;
	}
	put = sendmsg(s->fd, &msg, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	if (put < 0) {
		gnutls_transport_set_errno(s->tls.session, errno);
	} else {
		s->held = more;
	}
	return put;
}

static ssize_t receive_bytes(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
	struct mt_tls_socket *s = ptr;
	ssize_t got = recv(s->fd, data, len, 0);

	s->dry = got < 0 && errno == EAGAIN;
	if (got < 0) {
		gnutls_transport_set_errno(s->tls.session, errno);
	}
	return got;
}

static int wait_for_bytes(gnutls_transport_ptr_t ptr, unsigned ms)
{
	const struct mt_tls_socket *s = ptr;
	struct pollfd item = {.fd = s->fd, .events = POLLIN};

	(void)ms; /* nothing here may wait */
	return poll(&item, 1, 0);
}

static void init(struct mt_tls_socket *s, int fd)
{
	s->fd = fd;
	s->alert = -1;
	s->ktls = MT_KTLS_OFF;
	gnutls_transport_set_ptr(s->tls.session, s);
	gnutls_transport_set_vec_push_function(s->tls.session, send_records);
	gnutls_transport_set_pull_function(s->tls.session, receive_bytes);
	gnutls_transport_set_pull_timeout_function(s->tls.session, wait_for_bytes);
}

int mt_tls_socket_init_server(struct mt_tls_socket *s, int fd, struct mt_tls_server *tls,
	mt_tls_authorize_fn authorize, void *user)
{
	int rv;

	memset(s, 0, sizeof(*s));
	rv = mt_tls_session_init_server_tcp(&s->tls, tls, authorize, user);
	if (rv == 0) {
		init(s, fd);
	}
	return rv;
}

int mt_tls_socket_init_client(struct mt_tls_socket *s, int fd, struct mt_tls_client *tls)
{
	int rv;

	memset(s, 0, sizeof(*s));
	rv = mt_tls_session_init_client_tcp(&s->tls, tls);
	if (rv == 0) {
		s->is_client = true;
		init(s, fd);
		mt_tls_socket_set_options(fd);
	}
	return rv;
}

/* Both ends make the number of their keys (RFC 8446, section 7.5), so that nobody has to tell. */
static uint64_t derive_trace(gnutls_session_t session)
{
	static const char label[] = "EXPORTER-mytunnel-trace";
	uint8_t bytes[8];
	uint64_t trace = 0;

	if (gnutls_prf_rfc5705(session, sizeof(label) - 1, label, 0, NULL, sizeof(bytes),
		    (char *)bytes) != 0) {
		return 0; /* a convenience less */
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		trace = trace << 8 | bytes[i];
	}
	return trace;
}

int mt_tls_socket_handshake(struct mt_tls_socket *s, bool kernel)
{
	unsigned tries = 0;
	bool broken = false;
	int rc;

	if (s->fault != MT_TLS_FAULT_NONE) {
		return s->err;
	}
	s->gathers = true;
	do {
		rc = gnutls_handshake(s->tls.session);
	} while (is_nothing(rc) && ++tries < NOTHING_MAX);
	s->gathers = false;
	if (rc == GNUTLS_E_AGAIN) {
		return MT_E_AGAIN;
	}
	if (rc < 0) {
		return fail_gnutls(s, rc);
	}
	s->established = true;
	s->trace = derive_trace(s->tls.session);
	if (kernel) {
		mt_tls_socket_push(s); /* the keys are for what comes behind it */
		s->ktls = mt_ktls_install(s->fd, s->tls.session, &broken);
	}
	return broken ? fail(s, MT_TLS_FAULT_TRANSPORT, MT_E_UNSUPPORTED) : 0;
}

static int too_many(struct mt_tls_socket *s)
{
	send_alert(s, GNUTLS_A_INTERNAL_ERROR);
	return fail(s, MT_TLS_FAULT_RECORDS, MT_E_LIMIT);
}

int mt_tls_socket_count_records(struct mt_tls_socket *s, uint64_t received, uint64_t sent)
{
	s->records_in += received;
	s->records_out += sent;
	if (s->records_in < MT_TLS_RECORDS_MAX && s->records_out < MT_TLS_RECORDS_MAX) {
		return 0;
	}
	/* Calls can be more than records. */
	if (s->ktls != MT_KTLS_ON || mt_ktls_records(s->fd, &s->records_out, &s->records_in) < 0 ||
		s->records_in >= MT_TLS_RECORDS_MAX || s->records_out >= MT_TLS_RECORDS_MAX) {
		return too_many(s);
	}
	return 0;
}

static int take_fin(struct mt_tls_socket *s)
{
	s->fin_received = true;
	return 0;
}

static int take_alert(struct mt_tls_socket *s, const uint8_t *record, size_t len)
{
	if (len != 2) {
		send_alert(s, GNUTLS_A_DECODE_ERROR);
		return fail(s, MT_TLS_FAULT_PROTOCOL, MT_E_TLS);
	}
	if (record[1] == GNUTLS_A_CLOSE_NOTIFY) {
		return take_fin(s);
	}
	if (record[1] == GNUTLS_A_USER_CANCELED) {
		return MT_E_AGAIN; /* a close_notify follows (RFC 8446, section 6.1) */
	}
	s->alert = record[1];
	return fail(s, MT_TLS_FAULT_ALERT, MT_E_TLS);
}

/* A record that the kernel does not call payload. */
static int take_record(struct mt_tls_socket *s, uint8_t type, const uint8_t *record, size_t len)
{
	if (type == 0) {
		return fail(s, MT_TLS_FAULT_RESET, MT_E_RESET);
	}
	if (type == MT_RECORD_ALERT) {
		return take_alert(s, record, len);
	}
	if (type == MT_RECORD_DATA && len == 0) {
		return MT_E_AGAIN;
	}
	if (type == MT_RECORD_HANDSHAKE && len > 0 && record[0] == NEW_TICKET && s->is_client) {
		return MT_E_AGAIN; /* of no use: nothing is resumed */
	}
	send_alert(s, GNUTLS_A_UNEXPECTED_MESSAGE);
	if (type == MT_RECORD_HANDSHAKE && len > 0 && record[0] == KEY_UPDATE) {
		return fail(s, MT_TLS_FAULT_REKEY, MT_E_UNSUPPORTED);
	}
	return fail(s, MT_TLS_FAULT_PROTOCOL, MT_E_TLS);
}

/* The kernel gives a record in pieces where the buffer ends within it: of an alert, the second byte
 * then. */
static ssize_t read_alert(const struct mt_tls_socket *s, uint8_t first, uint8_t alert[2])
{
	uint8_t type = 0;
	ssize_t got = mt_ktls_recv(s->fd, alert + 1, 1, &type);

	alert[0] = first;
	return got < 0 ? got : 1 + (type == MT_RECORD_ALERT ? got : 0);
}

static ssize_t recv_kernel(struct mt_tls_socket *s, void *buf, size_t len)
{
	const uint8_t *record;
	uint8_t alert[2];
	uint8_t type = 0;
	ssize_t got;
	int rv;

	for (unsigned tries = 0; tries < NOTHING_MAX; tries++) {
		record = buf;
		got = mt_ktls_recv(s->fd, buf, len, &type);
		if (got == -EAGAIN) {
			return MT_E_AGAIN;
		}
		if (got < 0) {
			return mt_tls_socket_fail(s, (int)got);
		}
		if (type == MT_RECORD_DATA && got > 0) {
			return got;
		}
		if (type == MT_RECORD_ALERT && got == 1 && len == 1) {
			got = read_alert(s, *(const uint8_t *)buf, alert);
			if (got < 0) {
				return mt_tls_socket_fail(s, (int)got);
			}
			record = alert;
		}
		/* Of the other control records the first byte decides. */
		rv = take_record(s, type, record, (size_t)got);
		if (rv != MT_E_AGAIN) {
			return rv;
		}
	}
	send_alert(s, GNUTLS_A_UNEXPECTED_MESSAGE);
	return fail(s, MT_TLS_FAULT_PROTOCOL, MT_E_TLS);
}

int mt_tls_socket_take_control(struct mt_tls_socket *s)
{
	uint8_t record[CONTROL_MAX];
	uint8_t type = 0;
	ssize_t got = mt_ktls_recv(s->fd, record, sizeof(record), &type);

	if (got == -EAGAIN) {
		return MT_E_AGAIN;
	}
	if (got < 0) {
		return mt_tls_socket_fail(s, (int)got);
	}
	/* Payload that splice would not take is a defect of ours or of the kernel: it must not be
	 * lost. */
	return take_record(s, type, record, (size_t)got);
}

ssize_t mt_tls_socket_recv(struct mt_tls_socket *s, void *buf, size_t len)
{
	unsigned tries = 0;
	ssize_t got;
	int rv;

	if (s->fault != MT_TLS_FAULT_NONE) {
		return s->err;
	}
	if (s->fin_received) {
		return 0;
	}
	if (s->ktls == MT_KTLS_ON) {
		got = recv_kernel(s, buf, len);
	} else {
		/* GnuTLS also says EAGAIN behind a message that it has dealt with, such as a
		 * KeyUpdate, and at an end within a record, of which no poller tells a second time.
		 */
		do {
			got = gnutls_record_recv(s->tls.session, buf, len);
		} while ((is_nothing(got) || (got == GNUTLS_E_AGAIN && !s->dry)) &&
			 ++tries < NOTHING_MAX);
		if (got == GNUTLS_E_AGAIN) {
			return MT_E_AGAIN;
		}
		if (got < 0) {
			return fail_gnutls(s, (int)got);
		}
		if (got == 0) {
			return take_fin(s);
		}
	}
	if (got > 0) {
		rv = mt_tls_socket_count_records(s, 1, 0);
		return rv < 0 ? rv : got;
	}
	return got;
}

static ssize_t send_kernel(struct mt_tls_socket *s, const void *buf, size_t len)
{
	ssize_t put;

	do {
		put = send(s->fd, buf, len, MSG_NOSIGNAL);
	} while (put < 0 && errno == EINTR);
	if (put < 0) {
		return errno == EAGAIN ? MT_E_AGAIN : mt_tls_socket_fail(s, -errno);
	}
	return put;
}

static ssize_t send_gnutls(struct mt_tls_socket *s, const void *buf, size_t len)
{
	ssize_t put;

	/* A record that is sealed already goes on by itself. */
	do {
		put = s->pending > 0 ? gnutls_record_send(s->tls.session, NULL, 0)
				     : gnutls_record_send(s->tls.session, buf, len);
	} while (put == GNUTLS_E_INTERRUPTED);
	if (put == GNUTLS_E_AGAIN) {
		s->pending = s->pending > 0 ? s->pending : len;
		return MT_E_AGAIN;
	}
	if (put < 0) {
		return fail_gnutls(s, (int)put);
	}
	if (s->pending > 0) {
		put = (ssize_t)s->pending;
		s->pending = 0;
	}
	return put;
}

ssize_t mt_tls_socket_send(struct mt_tls_socket *s, const void *buf, size_t len)
{
	ssize_t put;
	int rv;

	if (s->fault != MT_TLS_FAULT_NONE) {
		return s->err;
	}
	len = len < MT_TLS_RECORD_MAX ? len : MT_TLS_RECORD_MAX;
	put = s->ktls == MT_KTLS_ON ? send_kernel(s, buf, len) : send_gnutls(s, buf, len);
	if (put > 0) {
		rv = mt_tls_socket_count_records(s, 0, 1);
		return rv < 0 ? rv : put;
	}
	return put;
}

static int send_close_notify(struct mt_tls_socket *s)
{
	int rv;

	if (s->ktls == MT_KTLS_ON) {
		rv = mt_ktls_send_alert(s->fd, ALERT_WARNING, GNUTLS_A_CLOSE_NOTIFY);
		if (rv == -EAGAIN) {
			return MT_E_AGAIN;
		}
		return rv < 0 ? mt_tls_socket_fail(s, rv) : 0;
	}
	s->gathers = true; /* the FIN is next */
	do {
		rv = gnutls_bye(s->tls.session, GNUTLS_SHUT_WR);
	} while (rv == GNUTLS_E_INTERRUPTED);
	s->gathers = false;
	if (rv == GNUTLS_E_AGAIN) {
		return MT_E_AGAIN;
	}
	return rv < 0 ? fail_gnutls(s, rv) : 0;
}

int mt_tls_socket_send_fin(struct mt_tls_socket *s)
{
	int rv = 0;

	if (s->fault != MT_TLS_FAULT_NONE) {
		return s->err;
	}
	if (s->fin_sent) {
		return 0;
	}
	if (!s->half_fin) {
		rv = send_close_notify(s);
		s->half_fin = rv == 0;
	}
	if (rv == 0 && shutdown(s->fd, SHUT_WR) != 0) {
		rv = mt_tls_socket_fail(s, -errno);
	}
	s->fin_sent = rv == 0;
	return rv;
}

bool mt_tls_socket_is_silent(const struct mt_tls_socket *s)
{
	struct tcp_info info = {.tcpi_retransmits = 0};
	socklen_t len = sizeof(info);

	/* Keepalives see to it that an idle connection has had an answer not long ago. Both counts
	 * start anew with whatever comes from the other host. */
	return getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_last_ack_recv >= MT_TLS_SILENT_MS &&
	       (info.tcpi_retransmits >= UNANSWERED_MIN || info.tcpi_probes >= UNANSWERED_MIN);
}

void mt_tls_socket_drop_session(struct mt_tls_socket *s)
{
	mt_tls_session_deinit(&s->tls);
}

void mt_tls_socket_arm_reset(const struct mt_tls_socket *s)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* Fails for no socket of ours. */
	(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

const char *mt_tls_socket_reason(const struct mt_tls_socket *s)
{
	switch (s->fault) {
	case MT_TLS_FAULT_NONE: break;
	case MT_TLS_FAULT_RESET: return "the connection was reset";
	case MT_TLS_FAULT_TRANSPORT: return mt_strerror(s->err);
	case MT_TLS_FAULT_ALERT:
		return !s->is_client ? "the client gave up with a TLS alert"
				     : mt_tls_alert_text(s->alert);
	case MT_TLS_FAULT_REKEY: return "the other side changed its keys, which the kernel cannot";
	case MT_TLS_FAULT_RECORDS: return "the connection has had as many records as a key allows";
	case MT_TLS_FAULT_PROTOCOL: return "the other side broke the TLS protocol";
	case MT_TLS_FAULT_REFUSED: return "the TLS handshake was refused";
	}
	return "no error";
}
