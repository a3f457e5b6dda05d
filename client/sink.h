/* Who receives a connection's events: the first member of whatever mt_conn_set_user was given. A
 * connection without a sink has been given up, its events are ignored.
 */
#pragma once

#include "proto/quic/conn.h"

struct mt_sink {
	void (*on_established)(struct mt_sink *sink, struct mt_conn *c);
	void (*on_end)(struct mt_sink *sink, struct mt_conn *c, const struct mt_conn_end *end);
	void (*on_datagram)(struct mt_sink *sink, const uint8_t *data, size_t len);
	void (*on_streams_left)(struct mt_sink *sink);
};
