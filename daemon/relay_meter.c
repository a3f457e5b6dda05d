#include "daemon/relay_meter.h"

#include <uv.h>

#define PACKET_BYTES 1500 /* for the number of datagrams that a rate lets through */

void mt_relay_meter_set_account(struct mt_relay_meter *m, struct mt_account *account)
{
	mt_relay_meter_report(m);
	m->account = account;
	m->from_client.of[0] = account != NULL ? &account->from_client : NULL;
	m->to_client.of[0] = account != NULL ? &account->to_client : NULL;
}

void mt_relay_meter_set_rate(struct mt_relay_meter *m, struct mt_rate *rate)
{
	m->from_client.of[1] = &rate->from_client;
	m->to_client.of[1] = &rate->to_client;
}

void mt_relay_meter_report(struct mt_relay_meter *m)
{
	if (m->account != NULL) {
		mt_account_count(m->account, m->bytes_received - m->counted_in,
			m->bytes_sent - m->counted_out);
	}
	m->counted_in = m->bytes_received;
	m->counted_out = m->bytes_sent;
}

bool mt_relay_meter_admit(struct mt_relay_meter *m, size_t len)
{
	if (mt_buckets_are_limited(&m->from_client)) {
		uint64_t now_ns = uv_hrtime();

		if (mt_buckets_packet_room(&m->from_client, now_ns) == 0) {
			return false;
		}
		/* A datagram is not cut: the next ones wait for what it took too much. */
		mt_buckets_packet_charge(&m->from_client, len, now_ns);
	}
	m->bytes_received += len;
	return true;
}

size_t mt_relay_meter_window(const struct mt_relay_meter *m, size_t want, uint64_t *now_ns)
{
	size_t bytes;
	size_t packets;

	if (!mt_buckets_are_limited(&m->to_client)) {
		return want;
	}
	*now_ns = uv_hrtime();
	bytes = mt_buckets_packet_room(&m->to_client, *now_ns);
	if (bytes == 0) {
		return 0;
	}
	packets = 1 + bytes / PACKET_BYTES;
	return packets < want ? packets : want;
}

void mt_relay_meter_sent(struct mt_relay_meter *m, size_t len, uint64_t now_ns)
{
	m->bytes_sent += len;
	mt_buckets_packet_charge(&m->to_client, len, now_ns);
}
