/* How connections are made, on both sides. */
#include "proto/quic/impl.h"

#include <errno.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

/* RFC 9002, section 6.2.2, proposes 333 ms. Paths that are slower cost a probe more; on the others
 * what is lost while an address changes is sent again the sooner.
 */
#define INITIAL_RTT_NS        100000000ull
#define INITIAL_STREAM_WINDOW (256u * 1024)
#define INITIAL_CONN_WINDOW   (16u * 1024 * 1024)
#define CID_LIMIT             4u
#define PROBES_MAX            7u

static ngtcp2_conn *get_qc(ngtcp2_crypto_conn_ref *ref)
{
	return ((struct mt_conn *)ref->user_data)->qc;
}

static int on_authorize(void *user, const uint8_t *fingerprint)
{
	struct mt_conn *c = user;
	const struct mt_endpoint_events *ev = &c->ep->cfg.events;
	int alert = ev->authorize ? ev->authorize(ev->user, fingerprint) : 0;

	/* Without an identity where one is required it is told by that alert. */
	if (alert != 0 && alert != GNUTLS_A_CERTIFICATE_REQUIRED) {
		mt_conn_tell_refused(c, fingerprint);
	}
	return alert;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Path MTU probes: what nearly every network carries, then jumbo frames and the ceiling; where the
 * first one fails, what is left of 1,500 bytes within other tunnels. */
static size_t pmtud_probes(uint16_t probes[PROBES_MAX], uint16_t ceiling)
{
	static const uint16_t up[] = {1452, 8952}, down[] = {1444, 1406, 1342, 1232};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(up) / sizeof(up[0]); i++) {
		if (up[i] < ceiling) {
			probes[n++] = up[i];
		}
	}
	if (ceiling > NGTCP2_MAX_UDP_PAYLOAD_SIZE) {
		probes[n++] = ceiling;
	}
	for (size_t i = 0; i < sizeof(down) / sizeof(down[0]); i++) {
		if (down[i] < ceiling) {
			probes[n++] = down[i];
		}
	}
	return n;
}

static void fill_settings(struct mt_conn *c, ngtcp2_settings *settings, uint16_t probes[PROBES_MAX])
{
	const struct mt_endpoint_limits *limits = &c->ep->cfg.limits;

	ngtcp2_settings_default(settings);
	settings->initial_ts = c->ep->now_ns;
	settings->handshake_timeout = MT_HANDSHAKE_TIMEOUT_NS;
	settings->initial_rtt = INITIAL_RTT_NS;
	if (c->server) {
		/* Whoever tries to write acknowledges; when that is done, see calm.c. */
		settings->ack_thresh = 1;
	}
	settings->max_window = limits->max_conn_window;
	settings->max_stream_window = limits->max_stream_window;
	settings->max_tx_udp_payload_size = limits->max_udp_payload;
	settings->cc_algo = limits->congestion_control == MT_CC_BBR    ? NGTCP2_CC_ALGO_BBR
			    : limits->congestion_control == MT_CC_RENO ? NGTCP2_CC_ALGO_RENO
								       : NGTCP2_CC_ALGO_CUBIC;
	settings->pmtud_probeslen = pmtud_probes(probes, limits->max_udp_payload);
	settings->pmtud_probes = settings->pmtud_probeslen ? probes : NULL;
	settings->no_pmtud = settings->pmtud_probeslen == 0;
}

static void fill_params(struct mt_conn *c, ngtcp2_transport_params *params)
{
	const struct mt_endpoint_limits *limits = &c->ep->cfg.limits;

	ngtcp2_transport_params_default(params);
	params->initial_max_stream_data_bidi_local =
		smaller(INITIAL_STREAM_WINDOW, limits->max_stream_window);
	params->initial_max_stream_data_bidi_remote = params->initial_max_stream_data_bidi_local;
	params->initial_max_data = smaller(INITIAL_CONN_WINDOW, limits->max_conn_window);
	params->initial_max_streams_bidi = c->server ? limits->max_streams : 0;
	params->initial_max_streams_uni = 0;
	params->max_idle_timeout = limits->idle_timeout_ns;
	params->max_datagram_frame_size = 65535;
	params->max_udp_payload_size = limits->max_udp_payload; /* so peers keep to it too */
	params->active_connection_id_limit = CID_LIMIT;
	params->grease_quic_bit = 1;
}

static int init_qc_server(struct mt_conn *c, const struct mt_conn_new *how)
{
	ngtcp2_settings settings;
	ngtcp2_transport_params params;
	uint16_t probes[PROBES_MAX];
	ngtcp2_path path;
	ngtcp2_cid scid;
	int rc;

	rc = mt_endpoint_new_cid(c->ep, &scid);
	if (rc != 0) {
		return rc;
	}
	fill_settings(c, &settings, probes);
	mt_conn_start_qlog(c, &settings);
	fill_params(c, &params);
	params.original_dcid = how->odcid ? *how->odcid : how->hd->dcid;
	params.original_dcid_present = 1;
	if (how->odcid) {
		params.retry_scid = how->hd->dcid;
		params.retry_scid_present = 1;
		settings.token = how->hd->token;
		settings.tokenlen = how->hd->tokenlen;
		settings.token_type = NGTCP2_TOKEN_TYPE_RETRY;
	}
	params.stateless_reset_token_present = 1;
	if (ngtcp2_crypto_generate_stateless_reset_token(
		    params.stateless_reset_token, c->ep->reset_secret, MT_SECRET_LEN, &scid) != 0) {
		return MT_E_TLS;
	}
	rc = mt_cid_add(c->ep->cids, &c->owner, scid.data, scid.datalen);
	if (rc == 0) {
		rc = mt_cid_add(c->ep->cids, &c->owner, how->hd->dcid.data, how->hd->dcid.datalen);
	}
	if (rc != 0) {
		return rc;
	}
	mt_ngtcp2_path(&path, how->path);
	rc = ngtcp2_conn_server_new(&c->qc, &how->hd->scid, &scid, &path, how->hd->version,
		mt_conn_callbacks(true), &settings, &params, &c->share.ngtcp2, c);
	if (rc != 0) {
		return rc == NGTCP2_ERR_NOMEM ? -ENOMEM : MT_E_QUIC;
	}
	rc = mt_tls_session_init_server(&c->tls, c->ep->cfg.tls, on_authorize, c);
	if (rc != 0) {
		return rc;
	}
	return ngtcp2_crypto_gnutls_configure_server_session(c->tls.session) == 0 ? 0 : MT_E_TLS;
}

static int init_qc_client(struct mt_conn *c, const struct mt_conn_new *how)
{
	ngtcp2_settings settings;
	ngtcp2_transport_params params;
	uint16_t probes[PROBES_MAX];
	ngtcp2_path path;
	ngtcp2_cid scid, dcid;
	int rc;

	rc = mt_endpoint_new_cid(c->ep, &scid);
	if (rc == 0) {
		rc = mt_cid_add(c->ep->cids, &c->owner, scid.data, scid.datalen);
	}
	if (rc != 0) {
		return rc;
	}
	dcid.datalen = 18;
	mt_endpoint_random(dcid.data, dcid.datalen);
	fill_settings(c, &settings, probes);
	fill_params(c, &params);
	mt_ngtcp2_path(&path, how->path);
	rc = ngtcp2_conn_client_new(&c->qc, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1,
		mt_conn_callbacks(false), &settings, &params, &c->share.ngtcp2, c);
	if (rc != 0) {
		return rc == NGTCP2_ERR_NOMEM ? -ENOMEM : MT_E_QUIC;
	}
	rc = mt_tls_session_init_client(&c->tls, how->tls_client);
	if (rc != 0) {
		return rc;
	}
	return ngtcp2_crypto_gnutls_configure_client_session(c->tls.session) == 0 ? 0 : MT_E_TLS;
}

int mt_conn_new(struct mt_endpoint *ep, const struct mt_conn_new *how, struct mt_conn **out)
{
	struct mt_conn *c = mt_mem_calloc(ep->cfg.mem, sizeof(*c));
	int rc;

	if (!c) {
		return -ENOMEM;
	}
	c->owner.kind = MT_OWNER_CONN;
	c->ep = ep;
	c->server = how->hd != NULL;
	c->serial = ++ep->next_serial;
	c->created_ns = ep->now_ns;
	c->last_received_ns = ep->now_ns;
	c->cc = ep->cfg.limits.congestion_control;
	c->info.local = how->path->local;
	c->info.remote = how->path->remote;
	mt_expiry_init(&c->expiry, false);
	TAILQ_INIT(&c->streams);
	mt_conn_init_order(c);
	mt_mem_share_init(&c->share, ep->cfg.mem);
	TAILQ_INIT(&c->given_up);
	ngtcp2_ccerr_default(&c->close_err);
	c->ref = (ngtcp2_crypto_conn_ref){.get_conn = get_qc, .user_data = c};

	rc = how->hd ? init_qc_server(c, how) : init_qc_client(c, how);
	if (rc != 0) {
		ngtcp2_conn_del(c->qc);
		mt_conn_drop_qlog(c);
		mt_tls_session_deinit(&c->tls);
		mt_cid_remove_all(ep->cids, &c->owner);
		mt_mem_release(ep->cfg.mem, c);
		return rc;
	}
	gnutls_session_set_ptr(c->tls.session, &c->ref);
	ngtcp2_conn_set_tls_native_handle(c->qc, c->tls.session);
	TAILQ_INSERT_TAIL(&ep->all, c, all);
	ep->count++;
	if (c->server) {
		TAILQ_INSERT_TAIL(&ep->opening, c, opening);
		ep->half_open++;
		if (ep->cfg.places) {
			(void)atomic_fetch_add_explicit(
				ep->cfg.places, 1, memory_order_relaxed); /* gives the old value */
		}
		atomic_store_explicit(&ep->cfg.counters->connections_half_open, ep->half_open,
			memory_order_relaxed);
	}
	mt_conn_mark_dirty(c);
	*out = c;
	return 0;
}
