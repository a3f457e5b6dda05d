/* Carriers that are streams of a QUIC connection. */
#pragma once

#include "client/carrier.h"
#include "proto/quic/conn.h"

/* Opens a stream on `conn`: MT_E_LIMIT when none is left now, MT_E_CLOSED, -ENOMEM. `mem` is
 * borrowed for the carrier's life.
 */
int mt_carrier_open_quic(
	struct mt_carrier **out, struct mt_conn *conn, struct mt_mem *mem) MT_MUST_CHECK;
