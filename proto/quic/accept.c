/* Packets that belong to no connection: new clients, and everything that is answered without state
 * (RFC 9000, sections 6, 8.1 and 10.3).
 */
#include "proto/quic/impl.h"
#include "proto/wire/probes.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define NS_PER_S          1000000000ull
#define TOKEN_EPOCH_NS    (3600 * NS_PER_S)
#define TOKEN_LIFETIME_NS (10 * NS_PER_S)
#define REPLIES_PER_S     1000u /* stateless answers of all kinds */
#define REPLIES_BURST     100u
/* To those who would begin a handshake: never more than what they sent. */
#define RETRIES_PER_S 1000u /* about as many as are served */
#define RETRIES_BURST (MT_DEFERRED_PROVEN_MAX / 2)
#define ANSWERS_PER_S 5000u
#define ANSWERS_BURST 500u
/* Tokens that are looked at as they come, some 10 us each: of more, what they look like decides. */
#define CHECKS_PER_S 5000u
#define CHECKS_BURST MT_DEFERRED_PROVEN_MAX
#define RESET_TRIGGER_MIN                                                                          \
	43u /* RFC 9000, section 10.3: a reset must be shorter than what it answers */
#define RESET_RANDOM (NGTCP2_MIN_STATELESS_RESET_RANDLEN)
#define REPLY_MAX    512u

static bool meter_take(struct mt_meter *b, uint64_t now_ns, uint64_t per_second, uint64_t burst)
{
	uint64_t passed = now_ns - b->filled_ns;
	uint64_t gained;

	if (b->filled_ns == 0 || passed > NS_PER_S) {
		b->tokens = burst;
		b->filled_ns = now_ns;
	} else {
		gained = passed * per_second / NS_PER_S;
		if (gained > 0) {
			b->tokens = b->tokens + gained < burst ? b->tokens + gained : burst;
			b->filled_ns = now_ns;
		}
	}
	if (b->tokens > burst) {
		b->tokens = burst; /* the limit has come down */
	}
	if (b->tokens == 0) {
		return false;
	}
	b->tokens--;
	return true;
}

static int derive(uint8_t out[MT_SECRET_LEN], const uint8_t secret[MT_SECRET_LEN],
	const char *label, uint64_t number)
{
	uint8_t text[32] = {0};

	memcpy(text, label, strnlen(label, sizeof(text) - sizeof(number)));
	memcpy(text + sizeof(text) - sizeof(number), &number, sizeof(number));
	return gnutls_hmac_fast(
		       GNUTLS_MAC_SHA256, secret, MT_SECRET_LEN, text, sizeof(text), out) == 0
		       ? 0
		       : MT_E_TLS;
}

int mt_endpoint_derive_secrets(struct mt_endpoint *ep)
{
	int rc = derive(ep->reset_secret, ep->cfg.secret, "stateless reset", 0);

	return rc == 0 ? derive(ep->token_secret, ep->cfg.secret, "token", 0) : rc;
}

/* Tokens' keys rotate: one an hour, and the one before is still good. */
static int token_key(const struct mt_endpoint *ep, uint64_t back, uint8_t key[MT_SECRET_LEN])
{
	return derive(key, ep->token_secret, "epoch", ep->now_ns / TOKEN_EPOCH_NS - back);
}

static void send_reply(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *packet, size_t len)
{
	uint8_t *buf = ep->cfg.tx.reserve(ep->cfg.tx.user);

	if (!buf) {
		return; /* stateless answers may be lost */
	}
	memcpy(buf, packet, len);
	ep->cfg.tx.commit(ep->cfg.tx.user, path, 0, len, len);
	mt_count(&ep->cfg.counters->packets_sent, 1);
	mt_count(&ep->cfg.counters->wire_bytes_sent, len);
}

static bool may_reply(struct mt_endpoint *ep)
{
	return meter_take(&ep->replies, ep->now_ns, REPLIES_PER_S, REPLIES_BURST);
}

static bool may_answer(struct mt_endpoint *ep)
{
	return meter_take(&ep->answers, ep->now_ns, ANSWERS_PER_S, ANSWERS_BURST);
}

void mt_endpoint_send_version_negotiation(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_version_cid *vc, size_t len)
{
	static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
	uint8_t packet[REPLY_MAX], unused;
	ngtcp2_ssize n;

	/* Ids of other versions may be up to 255 bytes long; ours are not, and ngtcp2 aborts on
	 * them. */
	if (!ep->cfg.tls || len < NGTCP2_MAX_UDP_PAYLOAD_SIZE || vc->dcidlen > NGTCP2_MAX_CIDLEN ||
		vc->scidlen > NGTCP2_MAX_CIDLEN || !may_reply(ep)) {
		mt_count(&ep->cfg.counters->packets_invalid, 1);
		return;
	}
	mt_endpoint_random(&unused, 1);
	n = ngtcp2_pkt_write_version_negotiation(packet, sizeof(packet), unused, vc->scid,
		vc->scidlen, vc->dcid, vc->dcidlen, versions, 1);
	if (n > 0) {
		mt_count(&ep->cfg.counters->version_negotiations, 1);
		send_reply(ep, path, packet, (size_t)n);
	}
}

static void send_reset(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_version_cid *vc, size_t len)
{
	uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], random[RESET_RANDOM], packet[REPLY_MAX];
	ngtcp2_cid cid;
	ngtcp2_ssize n;

	if (len < RESET_TRIGGER_MIN || vc->dcidlen != MT_CID_LEN || !may_reply(ep)) {
		return;
	}
	ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
	if (ngtcp2_crypto_generate_stateless_reset_token(
		    token, ep->reset_secret, MT_SECRET_LEN, &cid) != 0) {
		return;
	}
	mt_endpoint_random(random, sizeof(random));
	n = ngtcp2_pkt_write_stateless_reset(packet, sizeof(packet), token, random, sizeof(random));
	if (n > 0) {
		mt_count(&ep->cfg.counters->stateless_resets, 1);
		send_reply(ep, path, packet, (size_t)n);
	}
}

static void send_close(struct mt_endpoint *ep, const struct mt_path *path, const ngtcp2_pkt_hd *hd,
	uint64_t code, const char *reason)
{
	uint8_t packet[REPLY_MAX];
	ngtcp2_ssize n;

	if (!may_answer(ep)) {
		return;
	}
	n = ngtcp2_crypto_write_connection_close(packet, sizeof(packet), hd->version, &hd->scid,
		&hd->dcid, code, (const uint8_t *)reason, strlen(reason));
	if (n > 0) {
		send_reply(ep, path, packet, (size_t)n);
	}
}

static void send_retry(struct mt_endpoint *ep, const struct mt_path *path, const ngtcp2_pkt_hd *hd)
{
	uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2], packet[REPLY_MAX], key[MT_SECRET_LEN];
	ngtcp2_ssize token_len, n;
	ngtcp2_cid scid;

	if (mt_endpoint_new_cid(ep, &scid) != 0 || token_key(ep, 0, key) != 0) {
		return;
	}
	token_len = ngtcp2_crypto_generate_retry_token2(token, key, sizeof(key), hd->version,
		&path->remote.sa, path->remote.len, &scid, &hd->dcid, ep->now_ns);
	explicit_bzero(key, sizeof(key));
	if (token_len < 0) {
		return;
	}
	n = ngtcp2_crypto_write_retry(packet, sizeof(packet), hd->version, &hd->scid, &scid,
		&hd->dcid, token, (size_t)token_len);
	if (n > 0) {
		mt_count(&ep->cfg.counters->retries, 1);
		send_reply(ep, path, packet, (size_t)n);
	}
}

void mt_endpoint_send_retry(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *data, size_t len)
{
	ngtcp2_pkt_hd hd;

	if (ngtcp2_accept(&hd, data, len) == 0) {
		send_retry(ep, path, &hd);
	}
}

static bool token_is_good(const struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_pkt_hd *hd, ngtcp2_cid *odcid)
{
	uint8_t key[MT_SECRET_LEN];
	bool good = false;

	if (hd->tokenlen > NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2) {
		return false;
	}
	for (uint64_t back = 0; back < 2 && !good; back++) {
		good = token_key(ep, back, key) == 0 &&
		       ngtcp2_crypto_verify_retry_token2(odcid, hd->token, hd->tokenlen, key,
			       sizeof(key), hd->version, &path->remote.sa, path->remote.len,
			       &hd->dcid, TOKEN_LIFETIME_NS, ep->now_ns) == 0;
	}
	explicit_bzero(key, sizeof(key));
	return good;
}

/* `which` counts the limit that it is for; NULL: none. */
static void refuse(struct mt_endpoint *ep, const struct mt_path *path, const ngtcp2_pkt_hd *hd,
	mt_counter *which, const char *reason)
{
	const struct mt_endpoint_events *ev = &ep->cfg.events;

	if (which != NULL) {
		mt_count(which, 1);
	}
	mt_count(&ep->cfg.counters->connections_refused, 1);
	if (ev->on_refused) {
		ev->on_refused(ev->user, &path->remote, reason, NULL);
	}
	send_close(ep, path, hd, NGTCP2_CONNECTION_REFUSED, reason);
}

static const char crowded[] = "too many handshakes at once, try again";

void mt_endpoint_refuse_waiting(
	struct mt_endpoint *ep, const struct mt_path *path, const uint8_t *data, size_t len)
{
	ngtcp2_pkt_hd hd;

	if (ngtcp2_accept(&hd, data, len) == 0) {
		refuse(ep, path, &hd, &ep->cfg.counters->refused_half_open, crowded);
	}
}

/* Somebody without a token. Whether that was all: with many under way it has to come again with
 * one, when there is room. */
static bool put_off(struct mt_endpoint *ep, const struct mt_path *path, const ngtcp2_pkt_hd *hd)
{
	if (ep->half_open + mt_endpoint_waiting(ep) < MT_HALF_OPEN_RETRY) {
		return false;
	}
	if (ep->deferred[MT_DEFERRED_PROVEN].count >= MT_DEFERRED_PROVEN_MAX / 2 ||
		!meter_take(&ep->retries, ep->now_ns, RETRIES_PER_S, RETRIES_BURST)) {
		refuse(ep, path, hd, &ep->cfg.counters->refused_half_open, crowded);
	} else {
		send_retry(ep, path, hd);
	}
	return true;
}

static bool has_token(const ngtcp2_pkt_hd *hd)
{
	return hd->tokenlen > 0 && hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2;
}

static void accept_initial(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_pkt_hd *hd, struct mt_conn **accepted)
{
	const struct mt_endpoint_limits *limits = &ep->cfg.limits;
	struct mt_quic_counters *counters = ep->cfg.counters;
	struct mt_conn_new how = {.path = path, .hd = hd};
	ngtcp2_cid odcid;

	if (ep->draining) {
		refuse(ep, path, hd, NULL, "the server is shutting down");
		return;
	}
	if (path->retired) {
		refuse(ep, path, hd, NULL, "this address is served no longer");
		return;
	}
	if (has_token(hd)) {
		if (!token_is_good(ep, path, hd, &odcid)) {
			mt_count(&ep->cfg.counters->tokens_invalid, 1);
			send_close(ep, path, hd, NGTCP2_INVALID_TOKEN, "");
			return;
		}
		how.odcid = &odcid;
	} else if (put_off(ep, path, hd)) {
		return;
	}
	if (!mt_endpoint_may_accept(ep)) {
		refuse(ep, path, hd, &counters->refused_memory,
			"the server is out of memory, try again later");
		return;
	}
	if ((ep->cfg.places ? mt_counter_get(ep->cfg.places) : ep->count) >=
		limits->max_connections) {
		refuse(ep, path, hd, &counters->refused_full,
			"the server is full, try again later");
		return;
	}
	if (limits->max_new_per_sec &&
		!meter_take(&ep->accepts, ep->now_ns, limits->max_new_per_sec,
			limits->max_new_per_sec / 10 + 1)) {
		refuse(ep, path, hd, &counters->refused_rate,
			"too many new connections, try again");
		return;
	}
	if (mt_conn_new(ep, &how, accepted) != 0) {
		refuse(ep, path, hd, &counters->refused_resources,
			"out of resources, try again later");
		return;
	}
	MT_PROBE2(accept, (*accepted)->serial, &path->remote.sa);
}

/* Anybody can send what looks like a token, and would take the places of those who have one. */
static enum mt_deferred_class class_of(
	struct mt_endpoint *ep, const struct mt_path *path, const ngtcp2_pkt_hd *hd)
{
	ngtcp2_cid odcid;

	if (!has_token(hd)) {
		return MT_DEFERRED_STRANGERS;
	}
	if (ep->is_handshaking ||
		!meter_take(&ep->checks, ep->now_ns, CHECKS_PER_S, CHECKS_BURST)) {
		return MT_DEFERRED_PROVEN;
	}
	return token_is_good(ep, path, hd, &odcid) ? MT_DEFERRED_PROVEN : MT_DEFERRED_STRANGERS;
}

void mt_endpoint_receive_unknown(struct mt_endpoint *ep, const struct mt_path *path,
	const ngtcp2_version_cid *vc, unsigned ecn, const uint8_t *data, size_t len,
	struct mt_conn **accepted)
{
	ngtcp2_pkt_hd hd;

	if (!(data[0] & 0x80)) {
		send_reset(ep, path, vc, len);
		return;
	}
	if (!ep->cfg.tls || ngtcp2_accept(&hd, data, len) != 0) {
		mt_count(&ep->cfg.counters->packets_invalid, 1);
		return;
	}
	if (!mt_endpoint_defer(ep, class_of(ep, path, &hd), path, &hd.dcid, ecn, data, len)) {
		accept_initial(ep, path, &hd, accepted);
	}
}
