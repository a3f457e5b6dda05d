#include "client/uplink_impl.h"
#include "proto/quic/endpoint.h"

#define HELLO_MS 1000 /* then a server that has not said Hello is taken for one without */

/* Whether it is known what the server offers: its Hello has come, or there will be none. */
static bool is_settled(struct mt_uplink *u, const struct mt_channel *channel, uint64_t up_ns)
{
	return channel->greeted || channel->stream == NULL ||
	       mt_driver_now_ns(u->driver) - up_ns >= HELLO_MS * 1000000ull;
}

int mt_uplink_get_udp(struct mt_uplink *u, struct mt_uplink_udp *out)
{
	if (mt_uplink_transport(u) == MT_TRANSPORT_TLS) {
		const struct mt_channel *channel = &u->tls.channel;

		*out = (struct mt_uplink_udp){
			.settled = is_settled(u, channel, u->tls.up_ns),
			.capabilities = channel->hello.capabilities,
			.max_sessions = channel->hello.max_sessions,
		};
		return 0;
	}
	for (size_t i = 0; i < u->link_count; i++) {
		const struct mt_link *link = u->links[i];

		if (mt_link_is_usable(link)) {
			*out = (struct mt_uplink_udp){
				.settled = is_settled(u, &link->channel, link->up_ns),
				.capabilities = link->channel.hello.capabilities,
				.max_sessions = link->channel.hello.max_sessions,
				.datagram_max = mt_conn_datagram_max(link->conn),
				.datagram_room = mt_conn_datagram_room(link->conn),
			};
			return 0;
		}
	}
	return MT_E_CLOSED;
}

/* The connection that takes datagrams. */
static struct mt_conn *datagram_conn(struct mt_uplink *u)
{
	if (mt_uplink_transport(u) == MT_TRANSPORT_TLS) {
		return NULL;
	}
	for (size_t i = 0; i < u->link_count; i++) {
		if (mt_link_is_usable(u->links[i])) {
			return u->links[i]->conn;
		}
	}
	return NULL;
}

size_t mt_uplink_datagram_room(struct mt_uplink *u)
{
	const struct mt_conn *conn = datagram_conn(u);

	return conn != NULL ? mt_conn_datagram_room(conn) : MT_DATAGRAMS_OUT_MAX;
}

void mt_uplink_want_datagram_room(struct mt_uplink *u)
{
	struct mt_conn *conn = datagram_conn(u);

	if (conn != NULL) {
		mt_conn_want_datagram_room(conn);
	}
}

void mt_uplink_end_session(struct mt_uplink *u, uint32_t session)
{
	for (size_t i = 0; i < u->link_count; i++) {
		struct mt_channel *channel = &u->links[i]->channel;

		if (channel->hello.capabilities & MT_CAP_EXTENDED_UDP) {
			mt_channel_end_session(channel, session);
		}
	}
	if (u->tls.up && (u->tls.channel.hello.capabilities & MT_CAP_EXTENDED_UDP)) {
		mt_channel_end_session(&u->tls.channel, session);
	}
}
