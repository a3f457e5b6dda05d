#include "client/tunnel_request.h"

#include "proto/wire/addr.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRIES_MAX 8 /* after connections lost before an answer */

struct mt_tunnel_request {
	struct mt_waiter waiter; /* first */
	struct mt_tunnel_config config;
	struct mt_carrier *carrier;
	uint8_t header[MT_REQUEST_MAX];
	size_t header_len;
	unsigned retries;
};

static void free_request(struct mt_tunnel_request *t)
{
	free(t->config.early);
	free(t);
}

static void answer(
	struct mt_tunnel_request *t, struct mt_carrier *c, uint8_t status, const char *reason)
{
	mt_uplink_forget(t->config.uplink, &t->waiter);
	t->config.on_answer(c, status, reason, t->config.user);
	free_request(t);
}

/* Lets go of the carrier and says why there is no tunnel. */
static void refuse(struct mt_tunnel_request *t, uint8_t status, const char *reason)
{
	mt_carrier_release(t->carrier, MT_APP_CANCELLED);
	t->carrier = NULL;
	answer(t, NULL, status, reason);
}

static void on_readable(struct mt_carrier *c, void *user)
{
	struct mt_tunnel_request *t = user;
	struct iovec iov;
	uint8_t status;

	if (mt_carrier_peek(c, &iov, 1) == 0 || iov.iov_len == 0) {
		if (mt_carrier_fin_received(c)) {
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
	mt_carrier_consume(c, 1);
	if (t->config.early_len > 0 && !t->config.early_is_safe &&
		mt_carrier_send(c, t->config.early, t->config.early_len) < 0) {
		refuse(t, MT_STATUS_GENERAL_FAILURE, "the tunnel does not take the request");
		return;
	}
	t->carrier = NULL;
	mt_carrier_set_handler(c, NULL, NULL);
	answer(t, c, MT_STATUS_OK, "");
}

static void on_cut(struct mt_carrier *c, uint64_t app_code, void *user)
{
	/* A server that stops reading may have said why before. */
	if (mt_carrier_readable(c) > 0) {
		on_readable(c, user);
		return;
	}
	refuse(user, MT_STATUS_GENERAL_FAILURE, mt_app_code_text(app_code));
}

/* The connection was lost before the answer: nothing came of the request, so it is made again. */
static void on_end(struct mt_carrier *c, int err, void *user)
{
	struct mt_tunnel_request *t = user;

	if (mt_carrier_readable(c) > 0) {
		on_readable(c, t);
		return;
	}
	if (err == 0 || t->retries++ >= RETRIES_MAX) {
		refuse(t, MT_STATUS_GENERAL_FAILURE, "the connection to the server was lost");
		return;
	}
	mt_carrier_release(c, MT_APP_CANCELLED);
	t->carrier = NULL;
	mt_uplink_wait_again(t->config.uplink, &t->waiter);
}

static const struct mt_carrier_handler handler = {
	.on_readable = on_readable,
	.on_cut = on_cut,
	.on_end = on_end,
};

static void on_carrier(struct mt_waiter *w, struct mt_carrier *c)
{
	struct mt_tunnel_request *t = (struct mt_tunnel_request *)w;
	int err;

	t->carrier = c;
	mt_carrier_set_handler(c, &handler, t);
	err = mt_carrier_send(c, t->header, t->header_len);
	if (err == 0 && t->config.early_len > 0 && t->config.early_is_safe) {
		err = mt_carrier_send(c, t->config.early, t->config.early_len);
	}
	/* A new carrier has room for both; if the connection has ended, on_end follows. Without
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
	t = calloc(1, sizeof(*t));
	if (t == NULL) {
		return -ENOMEM;
	}
	t->config = *config;
	t->config.host = NULL;
	t->waiter.on_carrier = on_carrier;
	t->waiter.on_fail = on_fail;
	t->header_len = mt_request_encode(
		t->header, sizeof(t->header), config->port, config->host, config->host_len);
	err = t->header_len == 0 ? MT_E_MALFORMED : mt_uplink_wait(config->uplink, &t->waiter);
	if (err < 0) {
		free(t);
		return err;
	}
	*out = t;
	return 0;
}

void mt_tunnel_request_cancel(struct mt_tunnel_request *t)
{
	mt_uplink_forget(t->config.uplink, &t->waiter);
	mt_carrier_release(t->carrier, MT_APP_CANCELLED);
	free_request(t);
}
