#include "web/origin.h"

#include "proto/wire/addr.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HTTP_PORT  80
#define HTTPS_PORT 443

/* Splits "name[:port]" with `fallback` for an absent port; the name is left with its brackets. */
static bool split(const char *text, char *name, size_t cap, uint16_t *port, uint16_t fallback)
{
	size_t len = *text == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
	unsigned long number = fallback;

	if (len == 0 || len >= cap || len > strlen(text)) {
		return false;
	}
	if (text[len] == ':') {
		size_t digits = strspn(text + len + 1, "0123456789");

		if (digits == 0 || digits > 5 || text[len + 1 + digits] != '\0') {
			return false;
		}
		number = strtoul(text + len + 1, NULL, 10);
	} else if (text[len] != '\0') {
		return false;
	}
	if (number == 0 || number > 65535) {
		return false;
	}
	memcpy(name, text, len);
	name[len] = '\0';
	*port = (uint16_t)number;
	return true;
}

/* `default_port` stands for an absent one; 0: the endpoint's own. */
static bool allowed(const char *text, const char *local, const char *also, uint16_t default_port)
{
	char name[256];
	struct mt_addr bound;
	struct mt_addr literal;
	enum mt_host_kind kind;
	uint16_t port;

	if (mt_addr_parse(&bound, local) != 0 ||
		!split(text, name, sizeof(name), &port,
			default_port != 0 ? default_port : mt_addr_port(&bound)) ||
		port != mt_addr_port(&bound)) {
		return false;
	}
	if (strcasecmp(name, "localhost") == 0 || strcasecmp(name, "localhost.") == 0) {
		return true;
	}
	if (also != NULL && *also != '\0' && strcasecmp(name, also) == 0) {
		return true;
	}
	if (mt_host_parse(&kind, &literal, name, strlen(name), port) != 0 || kind == MT_HOST_NAME) {
		return false;
	}
	return mt_addr_is_loopback(&literal) || mt_addr_is_any(&bound) ||
	       mt_addr_equal_host(&literal, &bound);
}

bool mt_web_host_allowed(const char *host, const char *local, const char *also)
{
	return host != NULL && allowed(host, local, also, 0);
}

bool mt_web_origin_allowed(const char *origin, const char *local, const char *also, bool secured)
{
	const char *scheme = secured ? "https://" : "http://";
	size_t len = strlen(scheme);

	if (origin == NULL) {
		return true;
	}
	return strncasecmp(origin, scheme, len) == 0 &&
	       allowed(origin + len, local, also, secured ? HTTPS_PORT : HTTP_PORT);
}
