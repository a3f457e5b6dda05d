#include "daemon/enrol.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_port(const char *text, uint16_t *port)
{
	unsigned value = 0;

	if (*text == '\0' || strlen(text) > 5) {
		return MT_E_MALFORMED;
	}
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9') {
			return MT_E_MALFORMED;
		}
		value = value * 10 + (unsigned)(*text - '0');
	}
	if (value == 0 || value > 65535) {
		return MT_E_RANGE;
	}
	*port = (uint16_t)value;
	return 0;
}

int mt_enrol_split(const char *text, char *host, size_t host_cap, uint16_t *port)
{
	const char *start = text;
	const char *colon = strrchr(text, ':');
	size_t len = strlen(text);
	uint16_t number = 0;
	enum mt_host_kind kind;
	struct mt_addr ignored;
	int rv;

	if (*text == '[') {
		const char *close = strchr(text, ']');

		if (close == NULL || (close[1] != '\0' && close[1] != ':')) {
			return MT_E_MALFORMED;
		}
		start = text + 1;
		len = (size_t)(close - start);
		colon = close[1] == ':' ? close + 1 : NULL;
	} else if (colon != NULL && strchr(text, ':') == colon) {
		len = (size_t)(colon - text);
	} else {
		colon = NULL; /* a bare IPv6 literal, or no port */
	}
	if (colon != NULL) {
		rv = parse_port(colon + 1, &number);
		if (rv != 0) {
			return rv;
		}
	}
	if (len + 1 > host_cap) {
		return MT_E_TOO_LONG;
	}
	rv = mt_host_parse(&kind, &ignored, start, len, 0);
	if (rv != 0 || (*text == '[' && kind != MT_HOST_IPV6)) {
		return MT_E_MALFORMED;
	}
	memcpy(host, start, len);
	host[len] = '\0';
	*port = number;
	return 0;
}

/* How well an own address serves clients elsewhere: lower is better, negative is useless. */
static int rank(const struct mt_addr *addr)
{
	bool v6 = addr->sa.sa_family == AF_INET6;

	if (mt_addr_is_loopback(addr) || mt_addr_is_any(addr)) {
		return -1;
	}
	switch (mt_addr_scope(addr)) {
	case MT_SCOPE_GLOBAL: return v6 ? 1 : 0;
	case MT_SCOPE_PRIVATE: return v6 ? 3 : 2;
	default: return -1;
	}
}

static const struct mt_addr *best_host(
	const struct mt_enrol_view *view, const struct mt_addr *listener)
{
	const struct mt_addr *best = NULL;

	for (size_t i = 0; i < view->host_count; i++) {
		const struct mt_addr *a = &view->hosts[i];

		if (a->sa.sa_family == listener->sa.sa_family && rank(a) >= 0 &&
			(best == NULL || rank(a) < rank(best))) {
			best = a;
		}
	}
	return best;
}

static void use(struct mt_enrol_target *t, const struct mt_addr *addr, uint16_t port)
{
	char text[MT_ADDR_TEXT_MAX];

	(void)snprintf(t->host, sizeof(t->host), "%s",
		mt_addr_format_host(addr, text, sizeof(text))); /* always fits */
	t->port = port;
}

static int choose_public(
	struct mt_enrol_target *t, const struct mt_enrol_view *view, char *why, size_t why_cap)
{
	int rv = mt_enrol_split(view->public_addr, t->host, sizeof(t->host), &t->port);

	if (rv != 0) {
		(void)snprintf(why, why_cap,
			"server.public_addr '%s' is neither HOST nor HOST:PORT", view->public_addr);
		return MT_E_MALFORMED;
	}
	if (t->port == 0 && view->listener_count > 0) {
		t->port = mt_addr_port(&view->listeners[0]);
	}
	if (t->port == 0) {
		(void)snprintf(why, why_cap,
			"the daemon is not listening, so the port is unknown: set "
			"server.public_addr to HOST:PORT");
		return MT_E_NOT_FOUND;
	}
	return 0;
}

int mt_enrol_choose(
	struct mt_enrol_target *out, const struct mt_enrol_view *view, char *why, size_t why_cap)
{
	struct mt_enrol_target t = {.port = 0};
	const struct mt_addr *found = NULL;
	uint16_t port = 0;

	assert(view->listeners != NULL || view->listener_count == 0);
	assert(view->hosts != NULL || view->host_count == 0);
	if (view->public_addr[0] != '\0') {
		int rv = choose_public(&t, view, why, why_cap);

		if (rv == 0) {
			*out = t;
		}
		return rv;
	}
	for (size_t i = 0; i < view->listener_count && found == NULL; i++) {
		const struct mt_addr *l = &view->listeners[i];

		if (mt_addr_port(l) != 0 && !mt_addr_is_any(l)) {
			found = l;
			port = mt_addr_port(l);
		}
	}
	if (found != NULL) {
		use(&t, found, port);
		if (mt_addr_is_loopback(found)) {
			(void)snprintf(t.warning, sizeof(t.warning),
				"the profile names %s, which only this machine can reach; set "
				"server.public_addr for others",
				t.host);
		}
		*out = t;
		return 0;
	}
	for (size_t i = 0; i < view->listener_count; i++) {
		const struct mt_addr *l = &view->listeners[i];
		const struct mt_addr *candidate = mt_addr_port(l) != 0 ? best_host(view, l) : NULL;

		if (candidate != NULL && (found == NULL || rank(candidate) < rank(found))) {
			found = candidate;
			port = mt_addr_port(l);
		}
	}
	if (found == NULL) {
		(void)snprintf(why, why_cap,
			"no address is known under which clients reach this server: set "
			"server.public_addr to its "
			"public name or address");
		return MT_E_NOT_FOUND;
	}
	use(&t, found, port);
	(void)snprintf(t.warning, sizeof(t.warning),
		mt_addr_scope(found) == MT_SCOPE_GLOBAL
			? "the profile names %s, an address of this host; set server.public_addr "
			  "if clients reach it by another"
			: "the profile names %s, a private address of this host; set "
			  "server.public_addr for clients outside of its "
			  "network",
		t.host);
	*out = t;
	return 0;
}
