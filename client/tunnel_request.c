#include "client/tunnel_request.h"

#include "proto/io/tls_stream.h"
#include "proto/quic/endpoint.h"
#include "proto/wire/addr.h"

#include <errno.h>
#include <string.h>

#define RETRIES_MAX 8 /* after connections lost before an answer */

struct mt_tunnel_request {
	struct mt_waiter waiter; /* first */
	struct mt_tunnel_config config;
	struct mt_stream *stream;
	uint8_t header[MT_REQUEST_MAX];
	size_t header_len;
	unsigned retries;
};

static void free_request(struct mt_tunnel_request *t)
{
	mt_mem_release(t->config.mem, t->config.early);
	mt_mem_release(t->config.mem, t);
}

static void answer(
	struct mt_tunnel_request *t, struct mt_stream *s, uint8_t status, const char *reason)
{
	mt_uplink_forget(t->config.uplink, &t->waiter);
	t->config.on_answer(s, status, reason, t->config.user);
	free_request(t);
}

static void note_trace(struct mt_tunnel_request *t)
{
	if (t->config.trace != NULL) {
		mt_uplink_get_trace(t->config.uplink, t->stream, t->config.trace);
	}
}

/* Lets go of the stream and says why there is no tunnel. */
static void refuse(struct mt_tunnel_request *t, uint8_t status, const char *reason)
{
	if (t->stream != NULL) {
		note_trace(t);
		mt_stream_release(t->stream, MT_APP_CANCELLED);
		t->stream = NULL;
	}
	answer(t, NULL, status, reason);
}

static void on_readable(struct mt_stream *s, void *user)
{
	struct mt_tunnel_request *t = user;
	struct iovec iov;
	uint8_t status;

	if (mt_stream_peek(s, &iov, 1) == 0 || iov.iov_len == 0) {
		if (mt_stream_fin_received(s)) {
			refuse(t, MT_STATUS_GENERAL_FAILURE,
				"the server closed the tunnel without an answer");
		}
		return;
	}
	status = *(const uint8_t *)iov.iov_base;
	if (status != MT_STATUS_OK) {
		refuse(t, status, mt_status_text(status));
		return;
	}
	mt_stream_consume(s, 1);
	if (t->config.early_len > 0 && !t->config.early_is_safe &&
		mt_stream_send(s, t->config.early, t->config.early_len) < 0) {
		refuse(t, MT_STATUS_GENERAL_FAILURE, "the tunnel does not take the request");
		return;
	}
	note_trace(t);
	t->stream = NULL;
	mt_stream_set_handler(s, NULL, NULL);
	answer(t, s, MT_STATUS_OK, "");
}

static void wait_again(struct mt_tunnel_request *t)
{
	mt_stream_release(t->stream, MT_APP_CANCELLED);
	t->stream = NULL;
	mt_uplink_wait_again(t->config.uplink, &t->waiter);
}

/* The connection was lost before the answer: nothing came of the request, so it is made again. */
static void on_end(struct mt_stream *s, int err, void *user)
{
	struct mt_tunnel_request *t = user;

	if (mt_stream_readable(s) > 0) {
		on_readable(s, t);
		return;
	}
	if (err == 0 || t->retries++ >= RETRIES_MAX) {
		refuse(t, MT_STATUS_GENERAL_FAILURE, "the connection to the server was lost");
		return;
	}
	wait_again(t);
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	/* A server that stops reading may have said why before. */
	if (mt_stream_readable(s) > 0) {
		on_readable(s, user);
	} else if (mt_tls_stream_socket(s) != NULL) {
		on_end(s, MT_E_RESET, user); /* the stream was the connection */
	} else {
		refuse(user, MT_STATUS_GENERAL_FAILURE, mt_app_code_text(app_code));
	}
}

/* There is a better way than the one that the request went. */
static void on_move(struct mt_waiter *w)
{
	struct mt_tunnel_request *t = (struct mt_tunnel_request *)w;

	/* An answer that waits to be read is one. */
	if (t->stream != NULL && mt_stream_readable(t->stream) == 0) {
		wait_again(t);
	}
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_end,
};

static void on_stream(struct mt_waiter *w, struct mt_stream *s)
{
	struct mt_tunnel_request *t = (struct mt_tunnel_request *)w;
	int err;

	t->stream = s;
	mt_stream_set_handler(s, &handler, t);
	err = mt_stream_send(s, t->header, t->header_len);
	if (err == 0 && t->config.early_len > 0 && t->config.early_is_safe) {
		err = mt_stream_send(s, t->config.early, t->config.early_len);
	}
	/* A new stream has room for both; if the connection has ended, on_end follows. Without
	 * memory the deadline ends it.
	 */
	(void)err;
}

static void on_fail(struct mt_waiter *w, int err, const char *reason)
{
	struct mt_tunnel_request *t = (struct mt_tunnel_request *)w;

	refuse(t, err == MT_E_TIMEOUT ? MT_STATUS_TIMED_OUT : MT_STATUS_GENERAL_FAILURE, reason);
}

int mt_tunnel_request_new(struct mt_tunnel_request **out, const struct mt_tunnel_config *config)
{
	struct mt_tunnel_request *t;
	enum mt_host_kind kind;
	struct mt_addr literal;
	int err;

	if (config->early_len > MT_TUNNEL_EARLY_MAX) {
		return MT_E_TOO_LONG;
	}
	if (config->port == 0) {
		return MT_E_MALFORMED;
	}
	err = mt_host_parse(&kind, &literal, config->host, config->host_len, config->port);
	if (err < 0) {
		return err;
	}
	t = mt_mem_calloc(config->mem, sizeof(*t));
	if (t == NULL) {
		return -ENOMEM;
	}
	t->config = *config;
	t->config.host = NULL;
	t->waiter.on_stream = on_stream;
	t->waiter.on_fail = on_fail;
	t->waiter.on_move = on_move;
	t->header_len = mt_request_encode(
		t->header, sizeof(t->header), config->port, config->host, config->host_len);
	err = t->header_len == 0 ? MT_E_MALFORMED : mt_uplink_wait(config->uplink, &t->waiter);
	if (err < 0) {
		mt_mem_release(config->mem, t);
		return err;
	}
	*out = t;
	return 0;
}

void mt_tunnel_request_cancel(struct mt_tunnel_request *t)
{
	mt_uplink_forget(t->config.uplink, &t->waiter);
	if (t->stream != NULL) {
		mt_stream_release(t->stream, MT_APP_CANCELLED);
	}
	free_request(t);
}
