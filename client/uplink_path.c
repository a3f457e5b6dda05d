#include "client/uplink_impl.h"

int mt_uplink_get_path(struct mt_uplink *u, struct mt_uplink_path *out)
{
	struct mt_conn_info info;

	if (u->transport == MT_TRANSPORT_TLS && u->tls.up) {
		*out = (struct mt_uplink_path){
			.transport = MT_TRANSPORT_TLS, .remote = *mt_tls_pool_remote(u->tls.pool)};
		return 0;
	}
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			mt_conn_get_info(u->links[i]->conn, &info);
			out->transport = MT_TRANSPORT_QUIC;
			out->remote = info.remote;
			out->udp_payload = mt_conn_path_payload(u->links[i]->conn);
			out->datagram_max = mt_conn_datagram_max(u->links[i]->conn);
			out->rtt_ns = info.smoothed_rtt_ns;
			return 0;
		}
	}
	return MT_E_CLOSED;
}
