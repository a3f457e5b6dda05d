#include "client/socks.h"

#include "proto/wire/bytes.h"

#include <arpa/inet.h>
#include <string.h>

enum address_type {
	ATYP_IPV4 = 0x01,
	ATYP_NAME = 0x03,
	ATYP_IPV6 = 0x04,
};

int mt_socks_greeting_decode(bool *no_auth, size_t *used, const uint8_t *data, size_t len)
{
	size_t count;

	if (len >= 1 && data[0] != MT_SOCKS_VERSION) {
		return MT_E_MALFORMED;
	}
	if (len < 2) {
		return MT_E_AGAIN;
	}
	count = data[1];
	if (count == 0) {
		return MT_E_MALFORMED;
	}
	if (len < 2 + count) {
		return MT_E_AGAIN;
	}
	*no_auth = memchr(data + 2, MT_SOCKS_METHOD_NONE, count) != NULL;
	*used = 2 + count;
	return 0;
}

/* AType, address and port, as requests and datagrams share them. A reader that ran out of bytes has
 * `failed` set and the result is MT_E_AGAIN.
 */
static int read_target(struct mt_reader *r, struct mt_socks_target *target)
{
	uint8_t type = mt_reader_u8(r);
	const uint8_t *address;
	size_t len;

	if (r->failed) {
		return MT_E_AGAIN;
	}
	switch (type) {
	case ATYP_IPV4: len = 4; break;
	case ATYP_IPV6: len = 16; break;
	case ATYP_NAME:
		len = mt_reader_u8(r);
		if (!r->failed && len == 0) {
			return MT_E_MALFORMED;
		}
		break;
	default: return MT_E_UNSUPPORTED;
	}
	address = mt_reader_bytes(r, len);
	target->port = mt_reader_u16(r);
	if (r->failed || address == NULL) {
		return MT_E_AGAIN;
	}
	if (type == ATYP_NAME) {
		memcpy(target->host, address, len);
		target->host[len] = '\0';
		target->host_len = len;
		return 0;
	}
	if (inet_ntop(type == ATYP_IPV4 ? AF_INET : AF_INET6, address, target->host,
		    sizeof(target->host)) == NULL) {
		return MT_E_MALFORMED;
	}
	target->host_len = strlen(target->host);
	return 0;
}

int mt_socks_request_decode(uint8_t *command, struct mt_socks_target *target, size_t *used,
	const uint8_t *data, size_t len)
{
	struct mt_socks_target found;
	struct mt_reader r;
	uint8_t version;
	uint8_t cmd;
	int err;

	mt_reader_init(&r, data, len);
	version = mt_reader_u8(&r);
	cmd = mt_reader_u8(&r);
	mt_reader_u8(&r);
	if (len >= 1 && version != MT_SOCKS_VERSION) {
		return MT_E_MALFORMED;
	}
	err = read_target(&r, &found);
	if (err < 0) {
		return err;
	}
	*command = cmd;
	*target = found;
	*used = len - mt_reader_left(&r);
	return 0;
}

size_t mt_socks_reply_encode(uint8_t *buf, uint8_t reply, const struct mt_addr *bound)
{
	static const uint8_t none[4];
	struct mt_writer w;

	mt_writer_init(&w, buf, MT_SOCKS_REPLY_MAX);
	mt_writer_u8(&w, MT_SOCKS_VERSION);
	mt_writer_u8(&w, reply);
	mt_writer_u8(&w, 0);
	if (bound != NULL && bound->sa.sa_family == AF_INET6) {
		mt_writer_u8(&w, ATYP_IPV6);
		mt_writer_bytes(&w, &bound->v6.sin6_addr, 16);
		mt_writer_u16(&w, mt_addr_port(bound));
	} else if (bound != NULL && bound->sa.sa_family == AF_INET) {
		mt_writer_u8(&w, ATYP_IPV4);
		mt_writer_bytes(&w, &bound->v4.sin_addr, 4);
		mt_writer_u16(&w, mt_addr_port(bound));
	} else {
		mt_writer_u8(&w, ATYP_IPV4);
		mt_writer_bytes(&w, none, sizeof(none));
		mt_writer_u16(&w, 0);
	}
	return mt_writer_len(&w);
}

int mt_socks_udp_decode(
	struct mt_socks_target *target, size_t *payload, const uint8_t *data, size_t len)
{
	struct mt_socks_target found;
	struct mt_reader r;
	uint8_t fragment;
	int err;

	mt_reader_init(&r, data, len);
	mt_reader_u16(&r);
	fragment = mt_reader_u8(&r);
	if (r.failed) {
		return MT_E_MALFORMED;
	}
	if (fragment != 0) {
		return MT_E_UNSUPPORTED;
	}
	err = read_target(&r, &found);
	if (err == MT_E_AGAIN) {
		return MT_E_MALFORMED;
	}
	if (err < 0) {
		return err;
	}
	*target = found;
	*payload = len - mt_reader_left(&r);
	return 0;
}

size_t mt_socks_udp_header_encode(
	uint8_t *buf, size_t cap, const char *host, size_t host_len, uint16_t port)
{
	char text[256];
	uint8_t address[16];
	struct mt_writer w;

	if (host_len == 0 || host_len > 255) {
		return 0;
	}
	memcpy(text, host, host_len);
	text[host_len] = '\0';
	mt_writer_init(&w, buf, cap);
	mt_writer_u16(&w, 0);
	mt_writer_u8(&w, 0);
	if (strlen(text) == host_len && inet_pton(AF_INET, text, address) == 1) {
		mt_writer_u8(&w, ATYP_IPV4);
		mt_writer_bytes(&w, address, 4);
	} else if (strlen(text) == host_len && inet_pton(AF_INET6, text, address) == 1) {
		mt_writer_u8(&w, ATYP_IPV6);
		mt_writer_bytes(&w, address, 16);
	} else {
		mt_writer_u8(&w, ATYP_NAME);
		mt_writer_u8(&w, (uint8_t)host_len);
		mt_writer_bytes(&w, host, host_len);
	}
	mt_writer_u16(&w, port);
	return w.failed ? 0 : mt_writer_len(&w);
}
