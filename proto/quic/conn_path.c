#include "proto/quic/impl.h"

size_t mt_conn_path_payload(const struct mt_conn *c)
{
	return c->qc != NULL ? ngtcp2_conn_get_path_max_tx_udp_payload_size(c->qc) : 0;
}
