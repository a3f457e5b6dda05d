#include "proto/wire/request.h"

#include "proto/wire/bytes.h"

#include <errno.h>
#include <string.h>

const char *mt_status_text(uint8_t status)
{
	static const char *const texts[] = {
		[MT_STATUS_OK] = "connected",
		[MT_STATUS_GENERAL_FAILURE] = "general failure at the server",
		[MT_STATUS_NOT_ALLOWED] = "not allowed by the server's rules",
		[MT_STATUS_NETWORK_UNREACHABLE] = "network unreachable",
		[MT_STATUS_HOST_UNREACHABLE] = "host unreachable or name unknown",
		[MT_STATUS_REFUSED] = "connection refused by the target",
		[MT_STATUS_TIMED_OUT] = "timed out",
		[MT_STATUS_TYPE_NOT_SUPPORTED] = "request type not supported",
		[MT_STATUS_ADDRESS_NOT_SUPPORTED] = "address not supported",
	};

	return status < sizeof(texts) / sizeof(texts[0]) ? texts[status] : "unknown";
}

const char *mt_app_code_text(uint64_t code)
{
	static const char *const texts[] = {
		[MT_APP_NONE] = "no error",
		[MT_APP_SHUTDOWN] = "the peer is shutting down",
		[MT_APP_REVOKED] = "the identity is revoked",
		[MT_APP_EXPIRED] = "the identity has expired",
		[MT_APP_QUOTA] = "the quota is used up",
		[MT_APP_KICKED] = "disconnected by the administrator",
		[MT_APP_LIMIT] = "a limit is reached",
		[MT_APP_TARGET_RESET] = "reset by the target",
		[MT_APP_PROTOCOL_ERROR] = "protocol error",
		[MT_APP_CANCELLED] = "cancelled",
		[MT_APP_DISABLED] = "the identity is disabled",
	};

	return code < sizeof(texts) / sizeof(texts[0]) ? texts[code] : "unknown";
}

enum mt_status mt_status_from_error(int err)
{
	switch (err) {
	case 0: return MT_STATUS_OK;
	case MT_E_DENIED:
	case -EACCES:
	case -EPERM: return MT_STATUS_NOT_ALLOWED;
	case -ENETUNREACH:
	case -ENETDOWN:
	/* connect(2) says this where no source address reaches the target. */
	case -EADDRNOTAVAIL: return MT_STATUS_NETWORK_UNREACHABLE;
	case MT_E_DNS:
	case MT_E_NOT_FOUND:
	case -EHOSTUNREACH:
	case -EHOSTDOWN: return MT_STATUS_HOST_UNREACHABLE;
	case -ECONNREFUSED:
	case -ECONNRESET: return MT_STATUS_REFUSED;
	case MT_E_TIMEOUT:
	case -ETIMEDOUT: return MT_STATUS_TIMED_OUT;
	case MT_E_UNSUPPORTED: return MT_STATUS_TYPE_NOT_SUPPORTED;
	/* All that can be malformed in a request of a known type is its address. */
	case MT_E_MALFORMED:
	case -EAFNOSUPPORT: return MT_STATUS_ADDRESS_NOT_SUPPORTED;
	default: return MT_STATUS_GENERAL_FAILURE;
	}
}

int mt_request_decode(struct mt_request *out, size_t *used, const uint8_t *data, size_t len)
{
	struct mt_reader r;
	const uint8_t *host = NULL;
	uint16_t port = 0;
	uint8_t host_len = 0;

	if (len == 0) {
		return MT_E_AGAIN;
	}
	mt_reader_init(&r, data, len);
	out->type = mt_reader_u8(&r);
	if (out->type == MT_REQUEST_CONTROL || out->type == MT_REQUEST_UDP_STREAM) {
		*used = 1;
		return 0;
	}
	if (out->type != MT_REQUEST_TCP) {
		return MT_E_UNSUPPORTED;
	}
	/* Each field is judged as soon as it is there: a peer is not kept waiting for an answer
	 * that more bytes cannot change. */
	port = mt_reader_u16(&r);
	if (r.failed) {
		return MT_E_AGAIN;
	}
	if (port == 0) {
		return MT_E_MALFORMED;
	}
	host_len = mt_reader_u8(&r);
	if (r.failed) {
		return MT_E_AGAIN;
	}
	if (host_len == 0) {
		return MT_E_MALFORMED;
	}
	host = mt_reader_bytes(&r, host_len);
	if (host == NULL) {
		return MT_E_AGAIN;
	}
	out->port = port;
	out->host_len = host_len;
	memcpy(out->host, host, host_len);
	out->host[host_len] = '\0';
	*used = len - mt_reader_left(&r);
	return 0;
}

static void write_target(struct mt_writer *w, uint16_t port, const char *host, size_t host_len)
{
	if (port == 0 || host_len == 0 || host_len > MT_HOST_MAX) {
		w->failed = true;
		return;
	}
	mt_writer_u16(w, port);
	mt_writer_u8(w, (uint8_t)host_len);
	mt_writer_bytes(w, host, host_len);
}

size_t mt_request_encode(uint8_t *buf, size_t cap, uint16_t port, const char *host, size_t host_len)
{
	struct mt_writer w;

	mt_writer_init(&w, buf, cap);
	mt_writer_u8(&w, MT_REQUEST_TCP);
	write_target(&w, port, host, host_len);
	return w.failed ? 0 : mt_writer_len(&w);
}

int mt_datagram_decode(struct mt_datagram *out, const uint8_t *data, size_t len)
{
	struct mt_reader r;
	const uint8_t *host = NULL;
	uint16_t port = 0;
	uint8_t host_len = 0;

	if (len < 4) {
		return MT_E_MALFORMED;
	}
	mt_reader_init(&r, data, len);
	port = mt_reader_u16(&r);
	if (port == 0) {
		return MT_E_UNSUPPORTED;
	}
	host_len = mt_reader_u8(&r);
	host = mt_reader_bytes(&r, host_len);
	if (host_len == 0 || host == NULL) {
		return MT_E_MALFORMED;
	}
	out->port = port;
	out->host = (const char *)host;
	out->host_len = host_len;
	out->payload = r.pos;
	out->payload_len = mt_reader_left(&r);
	return 0;
}

size_t mt_datagram_header_encode(
	uint8_t *buf, size_t cap, uint16_t port, const char *host, size_t host_len)
{
	struct mt_writer w;

	mt_writer_init(&w, buf, cap);
	write_target(&w, port, host, host_len);
	return w.failed ? 0 : mt_writer_len(&w);
}
