#include "client/uplink_impl.h"

int mt_uplink_get_path(struct mt_uplink *u, struct mt_uplink_path *out)
{
	struct mt_conn_info info;

	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			mt_conn_get_info(u->links[i]->conn, &info);
			out->remote = info.remote;
			out->udp_payload = mt_conn_path_payload(u->links[i]->conn);
			out->datagram_max = mt_conn_datagram_max(u->links[i]->conn);
			out->rtt_ns = info.smoothed_rtt_ns;
			return 0;
		}
	}
	return MT_E_CLOSED;
}
