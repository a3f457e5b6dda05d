#include "client/uplink_impl.h"
#include "proto/io/tls_stream.h"

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

void mt_uplink_get_trace(const struct mt_uplink *u, struct mt_stream *s, struct mt_trace_id *out)
{
	const struct mt_tls_socket *socket = mt_tls_stream_socket(s);
	const struct mt_conn *conn = mt_stream_conn(s);

	*out = (struct mt_trace_id){0};
	if (socket != NULL) {
		out->connection = socket->trace;
		out->transport = mt_transport_text(MT_TRANSPORT_TLS);
		return;
	}
	for (size_t i = 0; i < u->link_count && conn != NULL; i++) {
		if (u->links[i]->conn == conn) {
			out->connection = u->links[i]->channel.hello.trace;
			out->stream = mt_stream_id(s);
			out->transport = mt_transport_text(MT_TRANSPORT_QUIC);
		}
	}
}
