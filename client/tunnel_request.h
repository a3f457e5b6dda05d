/* Asks the server for a TCP tunnel: waits for a stream, sends the request, waits for the status. */
#pragma once

#include "client/uplink.h"
#include "proto/quic/stream.h"
#include "proto/wire/err.h"
#include "proto/wire/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_tunnel_request;

struct mt_tunnel_config {
	struct mt_uplink *uplink;
	struct mt_mem *mem; /* borrowed until on_answer or the cancellation */
	const char *host;   /* borrowed for the call */
	size_t host_len;
	uint16_t port;
	/* The first bytes of the payload, taken, of `mem`; NULL for none. */
	uint8_t *early;
	size_t early_len;
	/* Sending the payload twice does no harm: it travels behind the request at once, and again
	 * when the connection is lost before the answer. Else it waits for the status.
	 */
	bool early_is_safe;
	struct mt_trace_id *trace; /* set before on_answer, borrowed until then; may be NULL */
	/* Once, never from within mt_tunnel_request_new: the stream of an open tunnel, which is the
	 * user's now; or NULL, the status and a phrase that says why. The request is freed
	 * afterwards.
	 */
	void (*on_answer)(struct mt_stream *s, uint8_t status, const char *reason, void *user);
	void *user;
};

#define MT_TUNNEL_EARLY_MAX (192 * 1024) /* below MT_STREAM_UNSENT_MAX, with the request */

/* MT_E_MALFORMED for a host or port that cannot be asked for, MT_E_LIMIT when too many wait
 * already, MT_E_CLOSED, MT_E_TOO_LONG, -ENOMEM. On failure the caller keeps `early`.
 */
int mt_tunnel_request_new(
	struct mt_tunnel_request **out, const struct mt_tunnel_config *config) MT_MUST_CHECK;
/* The application has gone: no on_answer follows. */
void mt_tunnel_request_cancel(struct mt_tunnel_request *t);
