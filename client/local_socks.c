#include "client/local_impl.h"
#include "client/socks.h"

static void refuse_with(struct mt_local *local, uint8_t reply)
{
	uint8_t buf[MT_SOCKS_REPLY_MAX];

	mt_local_finish(local, buf, mt_socks_reply_encode(buf, reply, NULL));
}

static void associate(struct mt_local *local, const struct mt_socks_target *from)
{
	uint8_t buf[MT_SOCKS_REPLY_MAX];
	struct mt_addr bound;

	if (mt_udp_assoc_open(
		    &local->assoc, local->locals->config.udp, local->item.fd, from, &bound) < 0) {
		refuse_with(local, MT_STATUS_GENERAL_FAILURE);
		return;
	}
	local->state = MT_LOCAL_ASSOCIATED;
	/* The end of the connection may have come with the request: no event follows then. */
	mt_poller_defer(local->locals->config.poller, &local->item, MT_POLL_IN);
	(void)mt_local_send(local, buf, mt_socks_reply_encode(buf, MT_STATUS_OK, &bound));
}

/* Returns 0 once the methods are agreed on, MT_E_AGAIN, or MT_E_CLOSED when the connection is over.
 */
static int read_greeting(struct mt_local *local)
{
	uint8_t answer[2] = {MT_SOCKS_VERSION, MT_SOCKS_METHOD_NONE};
	bool no_auth;
	size_t used;
	int err = mt_socks_greeting_decode(&no_auth, &used, local->buffer, local->fill);

	if (err == MT_E_AGAIN) {
		return err;
	}
	if (err < 0 || !no_auth) {
		answer[1] = MT_SOCKS_METHOD_REFUSED;
		mt_local_finish(local, answer, sizeof(answer));
		return MT_E_CLOSED;
	}
	mt_local_consume(local, used);
	local->greeted = true;
	return mt_local_send(local, answer, sizeof(answer)) ? 0 : MT_E_CLOSED;
}

static bool on_data(struct mt_local *local)
{
	struct mt_socks_target target;
	uint8_t command;
	size_t used;
	int err = local->greeted ? 0 : read_greeting(local);

	if (err < 0) {
		return err == MT_E_AGAIN;
	}
	err = mt_socks_request_decode(&command, &target, &used, local->buffer, local->fill);
	if (err == MT_E_AGAIN) {
		return true;
	}
	if (err < 0) {
		refuse_with(local, err == MT_E_UNSUPPORTED ? MT_STATUS_ADDRESS_NOT_SUPPORTED
							   : MT_STATUS_GENERAL_FAILURE);
		return false;
	}
	mt_local_consume(local, used);
	if (command == MT_SOCKS_CONNECT) {
		mt_local_request(local, target.host, target.host_len, target.port, NULL, 0, false);
	} else if (command == MT_SOCKS_UDP_ASSOCIATE) {
		associate(local, &target);
	} else {
		refuse_with(local, MT_STATUS_TYPE_NOT_SUPPORTED);
	}
	return false;
}

static size_t accept_reply(uint8_t *buf, size_t cap)
{
	return cap < MT_SOCKS_REPLY_MAX ? 0 : mt_socks_reply_encode(buf, MT_STATUS_OK, NULL);
}

static size_t refuse_reply(uint8_t *buf, size_t cap, uint8_t status, const char *reason)
{
	/* SOCKS5 knows no more than the tunnel's status: they are the same numbers. */
	(void)reason;
	if (status > MT_STATUS_ADDRESS_NOT_SUPPORTED) {
		status = MT_STATUS_GENERAL_FAILURE;
	}
	return cap < MT_SOCKS_REPLY_MAX ? 0 : mt_socks_reply_encode(buf, status, NULL);
}

const struct mt_local_protocol mt_local_socks = {
	.on_data = on_data,
	.accept = accept_reply,
	.refuse = refuse_reply,
};
