#include "client/forward.h"

#include <stdio.h>
#include <string.h>

#define PARTS_MAX 4

struct part {
	const char *at;
	size_t len;
};

/* Splits at the colons outside of brackets. Returns the number of parts, 0 when that fails. */
static size_t split(struct part parts[PARTS_MAX], const char *text)
{
	size_t count = 0;
	const char *pos = text;

	for (;;) {
		struct part part;

		if (count == PARTS_MAX) {
			return 0;
		}
		if (*pos == '[') {
			const char *close = strchr(pos, ']');

			if (close == NULL) {
				return 0;
			}
			part = (struct part){pos + 1, (size_t)(close - pos) - 1};
			pos = close + 1;
		} else {
			part = (struct part){pos, strcspn(pos, ":[]")};
			pos += part.len;
		}
		parts[count++] = part;
		if (*pos == '\0') {
			return count;
		}
		if (*pos != ':') {
			return 0;
		}
		pos++;
	}
}

static int parse_port(struct part part, unsigned minimum, uint16_t *out)
{
	unsigned value = 0;

	if (part.len == 0 || part.len > 5) {
		return MT_E_MALFORMED;
	}
	for (size_t i = 0; i < part.len; i++) {
		if (part.at[i] < '0' || part.at[i] > '9') {
			return MT_E_MALFORMED;
		}
		value = value * 10 + (unsigned)(part.at[i] - '0');
	}
	if (value < minimum || value > 65535) {
		return MT_E_MALFORMED;
	}
	*out = (uint16_t)value;
	return 0;
}

static int parse_bind(struct part part, uint16_t port, struct mt_addr *out)
{
	enum mt_host_kind kind;
	int err;

	if (part.len == 9 && memcmp(part.at, "localhost", 9) == 0) {
		part = (struct part){"127.0.0.1", 9};
	}
	err = mt_host_parse(&kind, out, part.at, part.len, port);
	if (err < 0) {
		return err;
	}
	return kind == MT_HOST_NAME ? MT_E_MALFORMED : 0;
}

static const struct part loopback = {"127.0.0.1", 9};

int mt_forward_parse(struct mt_forward *out, const char *text, const char **why)
{
	struct part parts[PARTS_MAX];
	struct mt_forward forward = {0};
	struct mt_addr ignored;
	enum mt_host_kind kind;
	uint16_t listen_port;
	size_t count = split(parts, text);
	const struct part *tail;

	if (count != 3 && count != 4) {
		*why = "it is not [BIND:]PORT:HOST:HOSTPORT (IPv6 addresses in brackets)";
		return MT_E_MALFORMED;
	}
	tail = parts + (count - 3);
	if (parse_port(tail[0], 0, &listen_port) < 0) {
		*why = "PORT is not a number from 0 to 65535";
		return MT_E_MALFORMED;
	}
	if (parse_bind(count == 4 ? parts[0] : loopback, listen_port, &forward.bind) < 0) {
		*why = "BIND is not an IP address";
		return MT_E_MALFORMED;
	}
	if (tail[1].len == 0 || tail[1].len >= sizeof(forward.host) ||
		mt_host_parse(&kind, &ignored, tail[1].at, tail[1].len, 0) < 0) {
		*why = "HOST is neither a name nor an IP address";
		return MT_E_MALFORMED;
	}
	if (parse_port(tail[2], 1, &forward.port) < 0) {
		*why = "HOSTPORT is not a number from 1 to 65535";
		return MT_E_MALFORMED;
	}
	memcpy(forward.host, tail[1].at, tail[1].len);
	*out = forward;
	return 0;
}

int mt_listen_parse(struct mt_addr *out, const char *text)
{
	struct part parts[PARTS_MAX];
	size_t count = split(parts, text);
	uint16_t port;

	if (count != 1 && count != 2) {
		return MT_E_MALFORMED;
	}
	if (parse_port(parts[count - 1], 0, &port) < 0) {
		return MT_E_MALFORMED;
	}
	return parse_bind(count == 2 ? parts[0] : loopback, port, out);
}

const char *mt_target_format(const char *host, uint16_t port, char *buf, size_t cap)
{
	bool v6 = strchr(host, ':') != NULL;

	(void)snprintf(buf, cap, v6 ? "[%s]:%u" : "%s:%u", host, port); /* cut text is for people */
	return buf;
}
