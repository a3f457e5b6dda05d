/* What ngtcp2 calls. Nothing here calls the user, but for datagrams: events are only noted. */
#include "proto/quic/impl.h"
#include "proto/wire/probes.h"

#include <assert.h>
#include <string.h>

static int recv_crypto_data(ngtcp2_conn *qc, ngtcp2_encryption_level level, uint64_t offset,
	const uint8_t *data, size_t len, void *user)
{
	struct mt_conn *c = user;
	int rc;

	c->crypto_bytes += len;
	if (c->crypto_bytes > MT_CRYPTO_BYTES_MAX) {
		c->crypto_flood = true;
		mt_count(&c->ep->cfg.counters->crypto_floods, 1);
		ngtcp2_ccerr_set_transport_error(
			&c->close_err, NGTCP2_CRYPTO_BUFFER_EXCEEDED, NULL, 0);
		return NGTCP2_ERR_CALLBACK_FAILURE;
	}
	if (!c->tls.session) {
		/* The session was dropped after the handshake: a server expects nothing more, a
		 * client may still get tickets, which it has no use for.
		 */
		if (c->server) {
			ngtcp2_conn_set_tls_alert(qc, GNUTLS_A_UNEXPECTED_MESSAGE);
			return NGTCP2_ERR_CRYPTO;
		}
		return 0;
	}
	rc = ngtcp2_crypto_recv_crypto_data_cb(qc, level, offset, data, len, user);
	if (rc != 0 && c->tls.alert != 0) {
		ngtcp2_conn_set_tls_alert(qc, (uint8_t)c->tls.alert);
	}
	if (rc != 0 && c->server &&
		ngtcp2_conn_get_tls_alert(qc) == GNUTLS_A_CERTIFICATE_REQUIRED) {
		/* No identity at all: authorize need not have been asked. */
		mt_conn_tell_refused(c, NULL);
	}
	return rc;
}

static int handshake_completed(ngtcp2_conn *qc, void *user)
{
	struct mt_conn *c = user;
	struct mt_quic_counters *counters = c->ep->cfg.counters;

	(void)qc;
	if (!c->server) {
		return 0; /* a client waits for the confirmation: the server may still refuse it */
	}
	c->established = true;
	mt_conn_leave_opening(c);
	c->handshake_ns = c->ep->now_ns - c->created_ns;
	mt_count(&counters->connections_total, 1);
	mt_count(&counters->connections_active, 1);
	mt_conn_raise(c, MT_EV_ESTABLISHED);
	return 0;
}

static int handshake_confirmed(ngtcp2_conn *qc, void *user)
{
	struct mt_conn *c = user;

	(void)qc;
	if (c->server) {
		return 0;
	}
	c->established = true;
	mt_count(&c->ep->cfg.counters->connections_total, 1);
	mt_count(&c->ep->cfg.counters->connections_active, 1);
	mt_conn_raise(c, MT_EV_ESTABLISHED | MT_EV_STREAMS_LEFT);
	return 0;
}

static int recv_stream_data(ngtcp2_conn *qc, uint32_t flags, int64_t id, uint64_t offset,
	const uint8_t *data, size_t len, void *user, void *stream_user)
{
	struct mt_quic_stream *s = stream_user;
	struct mt_conn *c = user;

	(void)qc, (void)id, (void)offset;
	c->got_payload = true;
	if (!s) {
		return 0;
	}
	return mt_stream_on_data(s, data, len, flags & NGTCP2_STREAM_DATA_FLAG_FIN) == 0
		       ? 0
		       : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int acked_stream_data(
	ngtcp2_conn *qc, int64_t id, uint64_t offset, uint64_t len, void *user, void *stream_user)
{
	(void)qc, (void)id, (void)offset, (void)user;
	if (stream_user) {
		mt_stream_on_acked(stream_user, (size_t)len);
		mt_conn_note_acked(stream_user);
	}
	return 0;
}

static int stream_open(ngtcp2_conn *qc, int64_t id, void *user)
{
	struct mt_conn *c = user;
	struct mt_quic_stream *s = mt_stream_new(c, id, true);

	if (!s || ngtcp2_conn_set_stream_user_data(qc, id, s) != 0) {
		return NGTCP2_ERR_CALLBACK_FAILURE;
	}
	mt_stream_raise(s, MT_EV_OPEN);
	return 0;
}

static int stream_close(
	ngtcp2_conn *qc, uint32_t flags, int64_t id, uint64_t code, void *user, void *stream_user)
{
	(void)qc, (void)id, (void)user;
	if (stream_user) {
		mt_stream_on_close(stream_user,
			flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET ? code : 0);
	}
	return 0;
}

static int stream_reset(ngtcp2_conn *qc, int64_t id, uint64_t final_size, uint64_t code, void *user,
	void *stream_user)
{
	(void)qc, (void)id, (void)final_size, (void)user;
	if (stream_user) {
		mt_stream_on_reset(stream_user, code);
	}
	return 0;
}

static int extend_max_streams(ngtcp2_conn *qc, uint64_t max, void *user)
{
	struct mt_conn *c = user;

	(void)qc, (void)max;
	if (c->established) {
		mt_conn_raise(c, MT_EV_STREAMS_LEFT);
	}
	return 0;
}

static int extend_max_stream_data(
	ngtcp2_conn *qc, int64_t id, uint64_t max, void *user, void *stream_user)
{
	struct mt_quic_stream *s = stream_user;

	(void)qc, (void)id, (void)max, (void)user;
	if (s && !s->tx_over && (s->tx_sent < s->tx_end || (s->tx_fin && !s->tx_fin_sent))) {
		mt_stream_set_sendable(s, true);
	}
	return 0;
}

static int recv_stateless_reset(ngtcp2_conn *qc, const ngtcp2_pkt_stateless_reset *sr, void *user)
{
	struct mt_conn *c = user;

	(void)qc, (void)sr;
	c->got_reset = true;
	return 0;
}

static void random_bytes(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
	(void)ctx;
	mt_endpoint_random(dest, len);
}

static int get_new_connection_id(
	ngtcp2_conn *qc, ngtcp2_cid *cid, uint8_t *token, size_t cid_len, void *user)
{
	struct mt_conn *c = user;
	struct mt_endpoint *ep = c->ep;

	(void)qc;
	if (cid_len != MT_CID_LEN || mt_endpoint_new_cid(ep, cid) != 0 ||
		ngtcp2_crypto_generate_stateless_reset_token(
			token, ep->reset_secret, MT_SECRET_LEN, cid) != 0 ||
		mt_cid_add(ep->cids, &c->owner, cid->data, cid->datalen) != 0) {
		return NGTCP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

static int remove_connection_id(ngtcp2_conn *qc, const ngtcp2_cid *cid, void *user)
{
	struct mt_conn *c = user;

	(void)qc;
	mt_cid_remove(c->ep->cids, &c->owner, cid->data, cid->datalen);
	return 0;
}

static int path_validation(ngtcp2_conn *qc, uint32_t flags, const ngtcp2_path *path,
	const ngtcp2_path *old_path, ngtcp2_path_validation_result res, void *user)
{
	struct mt_conn *c = user;

	(void)qc, (void)flags;
	if (res == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS && old_path &&
		!ngtcp2_path_eq(path, old_path)) {
		c->migrations++;
		c->narrow_until_ns = 0;
		c->narrow_count = 0;
		MT_PROBE3(migration, c->serial, old_path->remote.addr, path->remote.addr);
		mt_count(&c->ep->cfg.counters->migrations, 1);
	}
	return 0;
}

/* Derives the next keys: once when the handshake is over, and then after each update. */
static int update_key(ngtcp2_conn *qc, uint8_t *rx_secret, uint8_t *tx_secret,
	ngtcp2_crypto_aead_ctx *rx_aead_ctx, uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx_aead_ctx,
	uint8_t *tx_iv, const uint8_t *current_rx_secret, const uint8_t *current_tx_secret,
	size_t secretlen, void *user)
{
	struct mt_conn *c = user;

	if (c->has_next_keys) {
		mt_count(&c->ep->cfg.counters->key_updates, 1);
	}
	c->has_next_keys = true;
	return ngtcp2_crypto_update_key_cb(qc, rx_secret, tx_secret, rx_aead_ctx, rx_iv,
		tx_aead_ctx, tx_iv, current_rx_secret, current_tx_secret, secretlen, user);
}

/* The first datagrams may come with the packet that completes the handshake. */
static void keep_early(struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct mt_datagram_out *d = NULL;

	if (c->early_count < MT_DATAGRAMS_EARLY_MAX) {
		d = mt_mem_alloc(c->ep->cfg.mem, sizeof(*d) + len);
	}
	if (!d) {
		mt_count(&c->ep->cfg.counters->datagrams_dropped, 1);
		MT_PROBE2(drop, "datagram_early", 1);
		return;
	}
	d->len = len;
	if (len > 0) {
		memcpy(d->data, data, len);
	}
	d->next = c->early;
	c->early = d;
	c->early_count++;
}

static int recv_datagram(
	ngtcp2_conn *qc, uint32_t flags, const uint8_t *data, size_t len, void *user)
{
	struct mt_conn *c = user;
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;

	(void)qc, (void)flags;
	c->got_payload = true;
	c->ep->stirred_ns = c->ep->now_ns;
	mt_count(&c->ep->cfg.counters->datagrams_received, 1);
	c->info.bytes_received += len;
	if (!c->announced) {
		keep_early(c, data, len);
	} else if (ev->on_datagram) {
		ev->on_datagram(ev->user, c, data, len);
	}
	return 0;
}

static const ngtcp2_callbacks server_callbacks = {
	.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
	.recv_crypto_data = recv_crypto_data,
	.handshake_completed = handshake_completed,
	.encrypt = ngtcp2_crypto_encrypt_cb,
	.decrypt = ngtcp2_crypto_decrypt_cb,
	.hp_mask = ngtcp2_crypto_hp_mask_cb,
	.recv_stream_data = recv_stream_data,
	.acked_stream_data_offset = acked_stream_data,
	.stream_open = stream_open,
	.stream_close = stream_close,
	.recv_stateless_reset = recv_stateless_reset,
	.rand = random_bytes,
	.get_new_connection_id = get_new_connection_id,
	.remove_connection_id = remove_connection_id,
	.update_key = update_key,
	.path_validation = path_validation,
	.stream_reset = stream_reset,
	.extend_max_stream_data = extend_max_stream_data,
	.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
	.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
	.recv_datagram = recv_datagram,
	.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
	.version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

static const ngtcp2_callbacks client_callbacks = {
	.client_initial = ngtcp2_crypto_client_initial_cb,
	.recv_crypto_data = recv_crypto_data,
	.handshake_completed = handshake_completed,
	.handshake_confirmed = handshake_confirmed,
	.encrypt = ngtcp2_crypto_encrypt_cb,
	.decrypt = ngtcp2_crypto_decrypt_cb,
	.hp_mask = ngtcp2_crypto_hp_mask_cb,
	.recv_stream_data = recv_stream_data,
	.acked_stream_data_offset = acked_stream_data,
	.stream_open = stream_open,
	.stream_close = stream_close,
	.recv_stateless_reset = recv_stateless_reset,
	.recv_retry = ngtcp2_crypto_recv_retry_cb,
	.extend_max_local_streams_bidi = extend_max_streams,
	.rand = random_bytes,
	.get_new_connection_id = get_new_connection_id,
	.remove_connection_id = remove_connection_id,
	.update_key = update_key,
	.path_validation = path_validation,
	.stream_reset = stream_reset,
	.extend_max_stream_data = extend_max_stream_data,
	.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
	.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
	.recv_datagram = recv_datagram,
	.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
	.version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

const ngtcp2_callbacks *mt_conn_callbacks(bool server)
{
	return server ? &server_callbacks : &client_callbacks;
}
