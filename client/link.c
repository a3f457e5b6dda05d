#include "client/link.h"

#include "client/say.h"
#include "proto/wire/request.h"

#include <stdlib.h>

static void free_link(struct mt_link *link)
{
	mt_channel_close(&link->channel);
	free(link);
}

static void on_conn_end(struct mt_sink *sink, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct mt_link *link = (struct mt_link *)sink;
	struct mt_reason reason;

	(void)c; /* freed by the endpoint */
	link->conn = NULL;
	mt_reason_from_end(&reason, end);
	link->events.on_end(link, &reason, link->events.user);
	free_link(link);
}

static void on_conn_datagram(struct mt_sink *sink, const uint8_t *data, size_t len)
{
	struct mt_link *link = (struct mt_link *)sink;

	link->events.on_datagram(data, len, link->events.user);
}

static void on_conn_streams_left(struct mt_sink *sink)
{
	struct mt_link *link = (struct mt_link *)sink;

	link->events.on_room(link, link->events.user);
}

static uint64_t channel_now_ns(void *user)
{
	struct mt_link *link = user;

	return mt_driver_now_ns(link->driver);
}

static void on_pong(void *user, uint64_t rtt_ns)
{
	struct mt_link *link = user;

	link->events.on_pong(rtt_ns, link->events.user);
}

void mt_link_say_notice(uint32_t code)
{
	if (code == MT_NOTICE_POLICY) {
		/* Our own words: the text comes from the other side. */
		mt_say("the server's access rules have changed: tunnels that they refuse were "
		       "ended");
	}
}

static void on_answer(void *user, uint8_t status)
{
	struct mt_link *link = user;

	(void)status; /* whatever it is, the server can be heard */
	link->events.on_room(link, link->events.user);
}

static void on_notice(void *user, uint32_t code, const char *text, size_t text_len)
{
	struct mt_link *link = user;

	(void)text;
	(void)text_len;
	if (code == MT_NOTICE_DRAINING && !link->draining) {
		link->draining = true;
		link->events.on_draining(link, link->events.user);
	}
	mt_link_say_notice(code);
}

struct mt_link *mt_link_new(
	struct mt_conn *conn, struct mt_driver *driver, const struct mt_link_events *events)
{
	struct mt_link *link = calloc(1, sizeof(*link));
	struct mt_channel_events channel_events = {
		.on_pong = on_pong, .on_notice = on_notice, .on_answer = on_answer, .user = link};
	struct mt_stream *stream;
	int err;

	if (link == NULL) {
		return NULL;
	}
	link->sink.on_end = on_conn_end;
	link->sink.on_datagram = on_conn_datagram;
	link->sink.on_streams_left = on_conn_streams_left;
	link->conn = conn;
	link->driver = driver;
	link->events = *events;
	link->busy = true;
	link->busy_ns = mt_driver_now_ns(driver);
	link->moved_ns = link->busy_ns;
	link->unused_ns = link->busy_ns;
	link->up_ns = link->busy_ns;
	mt_conn_set_user(conn, link);
	mt_conn_set_keep_alive(conn, MT_LINK_ALIVE_BUSY_NS);
	/* Without a control channel tunnels work all the same; with a single stream they need it.
	 */
	if (mt_conn_streams_left(conn) > 1 && mt_conn_open_stream(conn, &stream) == 0) {
		err = mt_channel_open(&link->channel, stream, &channel_events, channel_now_ns);
		(void)err;
	}
	return link;
}

void mt_link_close(struct mt_link *link, uint64_t app_code)
{
	if (link == NULL) {
		return;
	}
	mt_channel_close(&link->channel);
	mt_conn_set_user(link->conn, NULL);
	mt_conn_close(link->conn, app_code, "");
	free(link);
}

bool mt_link_is_usable(const struct mt_link *link)
{
	return !link->draining && !link->silent && !mt_conn_is_closing(link->conn);
}

bool mt_link_is_proven(const struct mt_link *link)
{
	return link->channel.stream == NULL || link->channel.answered;
}

void mt_link_check_path(struct mt_link *link, struct mt_route *route, uint64_t now_ns)
{
	struct mt_conn_info info;
	struct mt_path path;
	int err;

	mt_conn_get_info(link->conn, &info);
	if (mt_route_find(route, &info.remote, &path) < 0 ||
		mt_addr_equal_host(&path.local, &info.local)) {
		return;
	}
	err = mt_conn_migrate(link->conn, &path.local, path.socket, now_ns);
	(void)err; /* not possible yet: the tick of a silent link tries again */
}

void mt_link_tick(struct mt_link *link, struct mt_route *route, uint64_t now_ns)
{
	struct mt_conn_info info;
	uint64_t heard_ns = mt_conn_last_received_ns(link->conn);
	uint64_t bytes;
	uint64_t quiet_ns;
	bool busy;

	mt_conn_get_info(link->conn, &info);
	bytes = info.bytes_received + info.bytes_sent;
	if (bytes != link->moved_bytes) {
		link->moved_bytes = bytes;
		link->moved_ns = now_ns;
	}
	if (info.streams > (link->channel.stream != NULL ? 1u : 0u)) {
		link->unused_ns = now_ns;
	}
	busy = now_ns - link->moved_ns < MT_LINK_ACTIVE_NS;
	if (busy != link->busy) {
		link->busy = busy;
		link->busy_ns = now_ns;
		mt_conn_set_keep_alive(
			link->conn, busy ? MT_LINK_ALIVE_BUSY_NS : MT_LINK_ALIVE_IDLE_NS);
	}
	if (heard_ns < link->busy_ns) {
		heard_ns = link->busy_ns;
	}
	/* While it is idle the server has nothing to say between two keep-alives. */
	if (!busy) {
		heard_ns += MT_LINK_ALIVE_IDLE_NS;
	}
	quiet_ns = now_ns > heard_ns ? now_ns - heard_ns : 0;
	link->silent = quiet_ns >= MT_LINK_SILENT_NS;
	link->suspect = quiet_ns >= MT_LINK_SUSPECT_NS;
	if (link->suspect) {
		/* New data makes QUIC send now, and not at the end of its doubled timeouts: a
		 * server that was restarted answers it with a stateless reset.
		 */
		int err = mt_channel_ping(&link->channel);

		(void)err; /* no channel, or a full one: the keep-alive must do */
		mt_link_check_path(link, route, now_ns);
	}
}
