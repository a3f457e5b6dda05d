/* What the HTTP endpoint shows. The daemon fills it; the functions are called on HTTP threads. */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/profile.h"
#include "proto/wire/trace.h"
#include "web/metrics.h"

#include <stdbool.h>
#include <stdint.h>

/* Pictures that the daemon makes when they are asked for (web/hub.h). */
enum mt_web_listing {
	MT_WEB_CONNECTIONS, /* of struct mt_web_connection */
	MT_WEB_CLIENTS,     /* of struct mt_web_client */
	MT_WEB_LISTINGS,
};

struct mt_web_connection {
	char id[24];
	char client[MT_NAME_MAX + 1];
	char peer[MT_ADDR_TEXT_MAX];
	char trace[MT_TRACE_TEXT_MAX]; /* empty: its tunnels have their own */
	const char *transport;         /* static, as the next text */
	const char *congestion_control;
	unsigned worker;
	int64_t connected_at; /* Unix seconds */
	double rtt_ms;
	uint64_t bytes_received;
	uint64_t bytes_sent;
	unsigned streams;
	unsigned udp_flows;
};

/* A number of 0 stands for none, where null is shown. */
struct mt_web_client {
	char name[MT_NAME_MAX + 1];
	const char *state; /* static */
	char last_address[MT_ADDR_TEXT_MAX];
	unsigned connections;
	int64_t max_connections;
	uint64_t bytes_received;
	uint64_t bytes_sent;
	int64_t last_seen; /* Unix seconds */
	int64_t expires_at;
	int64_t rate_bits;
	int64_t quota_bytes;
	int64_t quota_used;
};

struct mt_web_view {
	/* Writes all families. */
	void (*metrics)(void *user, struct mt_exposition *e);
	/* The answers as JSON, strings for free(); NULL without memory. */
	char *(*status)(void *user);
	char *(*stats)(void *user);
	/* Whether the server does its work. */
	bool (*healthy)(void *user);
	/* "ready", or a word for what it is instead; static. */
	const char *(*readiness)(void *user);
	/* Asks for a new picture; mt_hub_publish follows, from another thread. */
	void (*want)(void *user, enum mt_web_listing which);
	void *user;
};
