#include "client/reason.h"

#include "proto/quic/tls.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Text of a peer may hold anything: only printable ASCII reaches a terminal. */
static void copy_printable(char *out, size_t cap, const char *text)
{
	size_t n = 0;

	for (; text[n] != '\0' && n + 1 < cap; n++) {
		out[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
	}
	out[n] = '\0';
}

static void say(struct mt_reason *out, bool permanent, const char *what, const char *detail,
	const char *next)
{
	out->permanent = permanent;
	out->crowded = false;
	(void)snprintf(out->text, sizeof(out->text), "%s%s%s%s%s", what,
		detail[0] == '\0' ? "" : ": ", detail, next[0] == '\0' ? "" : "; ", next);
}

static void from_app_code(struct mt_reason *out, uint64_t code, const char *detail)
{
	static const char ask[] = "ask the server's administrator for a new profile "
				  "(mytunnelctl client add)";

	switch (code) {
	case MT_APP_SHUTDOWN: say(out, false, "the server is shutting down", "", ""); return;
	case MT_APP_REVOKED:
		say(out, true, "the server has revoked this identity", "", ask);
		return;
	case MT_APP_DISABLED:
		say(out, true, "the server has disabled this identity", "",
			"ask the server's administrator (mytunnelctl client enable)");
		return;
	case MT_APP_EXPIRED: say(out, true, "this identity has expired", "", ask); return;
	case MT_APP_QUOTA:
		say(out, true, "the quota of this identity is used up", "",
			"ask the server's administrator to raise it");
		return;
	case MT_APP_KICKED:
		say(out, false, "the server's administrator closed the connection", "", "");
		return;
	case MT_APP_LIMIT:
		say(out, false, "the server is at a limit", detail, "");
		out->crowded = true;
		return;
	default: say(out, false, "the server closed the connection", detail, ""); return;
	}
}

static void from_alert(struct mt_reason *out, int alert)
{
	bool permanent = mt_tls_alert_is_permanent(alert);

	say(out, permanent, mt_tls_alert_text(alert), "",
		permanent ? "ask the server's administrator for a new profile "
			    "(mytunnelctl client add)"
			  : "");
}

static void wrong_pin(struct mt_reason *out)
{
	say(out, true, "the server's certificate does not match the pin of the profile", "",
		"this is another server, or its CA was replaced: ask its administrator for "
		"a new profile");
}

static void not_trusted(struct mt_reason *out, const char *detail)
{
	say(out, true, "the server's certificate is not trusted", detail,
		"check the host name of the profile, or ask the administrator for a "
		"profile with a pin");
}

void mt_reason_from_code(struct mt_reason *out, uint64_t code)
{
	from_app_code(out, code, "");
}

void mt_reason_from_tls(struct mt_reason *out, const struct mt_tls_socket *socket)
{
	switch (socket->fault) {
	case MT_TLS_FAULT_ALERT: from_alert(out, socket->alert); return;
	case MT_TLS_FAULT_REFUSED:
		if (socket->err == MT_E_PIN) {
			wrong_pin(out);
		} else {
			not_trusted(out, "");
		}
		return;
	case MT_TLS_FAULT_RESET:
		say(out, false, "the server has lost the connection", "", "");
		return;
	case MT_TLS_FAULT_TRANSPORT:
		if (socket->err == MT_E_TIMEOUT || socket->err == -ETIMEDOUT) {
			say(out, false, "the server does not answer over TCP", "", "");
		} else {
			mt_reason_from_error(out, "the connection over TCP failed", socket->err);
		}
		return;
	default: say(out, false, "the connection failed", mt_tls_socket_reason(socket), ""); return;
	}
}

void mt_reason_from_end(struct mt_reason *out, const struct mt_conn_end *end)
{
	char detail[sizeof(end->reason)];

	copy_printable(detail, sizeof(detail), end->reason);
	if (end->err == MT_E_PIN) {
		wrong_pin(out);
	} else if (end->is_app && end->by_peer) {
		from_app_code(out, end->code, detail);
	} else if (end->alert != 0 && end->by_peer) {
		from_alert(out, end->alert);
	} else if (end->err == MT_E_TLS && !end->by_peer) {
		not_trusted(out, detail);
	} else if (end->err == MT_E_TIMEOUT) {
		say(out, false, "the server does not answer", "", "");
	} else if (end->err == MT_E_RESET) {
		say(out, false, "the server has lost the connection", "", "");
	} else if (end->by_peer && end->code == 0x02) {
		/* CONNECTION_REFUSED (RFC 9000, section 20.1) */
		say(out, false, "the server takes no new connections now", detail, "");
	} else if (end->by_peer) {
		say(out, false, "the server closed the connection", detail, "");
	} else {
		say(out, false, "the connection failed", detail, "");
	}
}

void mt_reason_from_error(struct mt_reason *out, const char *what, int err)
{
	say(out, false, what, mt_strerror(err), "");
}
