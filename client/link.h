/* One established connection to the server with its control channel. */
#pragma once

#include "client/channel.h"
#include "client/reason.h"
#include "client/route.h"
#include "client/sink.h"
#include "proto/quic/conn.h"

#include <stdbool.h>
#include <stdint.h>

#define MT_LINK_ACTIVE_NS     10000000000ull /* bytes moved so recently: in use */
#define MT_LINK_ALIVE_BUSY_NS 1000000000ull  /* keep-alive of a link in use */
#define MT_LINK_ALIVE_IDLE_NS 10000000000ull
#define MT_LINK_SUSPECT_NS    1500000000ull /* nothing received for so long while in use: ask */
#define MT_LINK_SILENT_NS     3000000000ull /* ... and for so long: not to be relied on */
#define MT_LINK_LASTING_NS    5000000000ull /* one that ends sooner did not last */

struct mt_link;

struct mt_link_events {
	void (*on_end)(struct mt_link *link, const struct mt_reason *reason, void *user);
	void (*on_room)(struct mt_link *link, void *user); /* streams can be opened again, or it is
							   proven now */
	void (*on_draining)(struct mt_link *link, void *user);
	void (*on_datagram)(const uint8_t *data, size_t len, void *user);
	void (*on_pong)(uint64_t rtt_ns, void *user);
	void *user;
};

struct mt_link {
	struct mt_sink sink; /* first: see sink.h */
	struct mt_conn *conn;
	struct mt_driver *driver;
	struct mt_channel channel;
	struct mt_link_events events;
	bool draining;
	bool suspect; /* quiet for longer than it should be */
	bool silent;
	bool busy; /* bytes moved within MT_LINK_ACTIVE_NS */
	uint64_t moved_bytes;
	uint64_t moved_ns;  /* when they last changed */
	uint64_t busy_ns;   /* since when it has been busy */
	uint64_t unused_ns; /* since when it has had no tunnel */
	uint64_t up_ns;     /* since when it is there */
	bool lasting;       /* the uplink's */
};

/* Takes the connection. Its events arrive from the loop only. */
struct mt_link *mt_link_new(
	struct mt_conn *conn, struct mt_driver *driver, const struct mt_link_events *events);
/* Closes the connection and frees the link; no event follows. NULL is allowed. */
void mt_link_close(struct mt_link *link, uint64_t app_code);
/* Whether new tunnels may use it. */
bool mt_link_is_usable(const struct mt_link *link);
/* Whether more than the handshake has come through: the control channel has been answered. */
bool mt_link_is_proven(const struct mt_link *link);
/* Tells the user of a notice, as far as it concerns people. */
void mt_link_say_notice(uint32_t code);
/* Looks after keep-alive and signs of life; twice a second. */
void mt_link_tick(struct mt_link *link, struct mt_route *route, uint64_t now_ns);
/* Moves the connection to the local address by which the server is reached now, if that changed. */
void mt_link_check_path(struct mt_link *link, struct mt_route *route, uint64_t now_ns);
