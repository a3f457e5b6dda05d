#include "daemon/worker_impl.h"

#include <string.h>

#define NS_PER_S 1000000000ull

/* Rounded up: a limit below the number of workers must not shut one of them. */
static uint64_t share(int64_t whole, unsigned count)
{
	return ((uint64_t)whole + count - 1) / count;
}

void mt_worker_limits(
	struct mt_endpoint_limits *out, const struct mt_snapshot *snapshot, unsigned count)
{
	const struct mt_settings *settings = &snapshot->settings;
	const char *cc = mt_settings_text(settings, MT_SET_QUIC_CONGESTION_CONTROL);

	*out = (struct mt_endpoint_limits){
		.max_connections = (uint64_t)mt_settings_int(settings, MT_SET_QUIC_MAX_CONNECTIONS),
		.max_streams =
			(uint64_t)mt_settings_int(settings, MT_SET_QUIC_MAX_STREAMS_PER_CONN),
		.idle_timeout_ns =
			(uint64_t)mt_settings_int(settings, MT_SET_QUIC_IDLE_TIMEOUT_SECS) *
			NS_PER_S,
		.max_stream_window =
			(uint64_t)mt_settings_int(settings, MT_SET_QUIC_MAX_STREAM_WINDOW),
		.max_conn_window = (uint64_t)mt_settings_int(settings, MT_SET_QUIC_MAX_CONN_WINDOW),
		.max_new_per_sec =
			share(mt_settings_int(settings, MT_SET_LIMITS_MAX_NEW_CONN_PER_SEC), count),
		.max_memory = snapshot->max_memory / count,
		.max_udp_payload = (uint16_t)mt_settings_int(settings, MT_SET_QUIC_MAX_UDP_PAYLOAD),
		.congestion_control = strcmp(cc, "bbr") == 0    ? MT_CC_BBR
				      : strcmp(cc, "reno") == 0 ? MT_CC_RENO
								: MT_CC_CUBIC,
	};
}
