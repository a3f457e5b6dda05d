#include "client/local.h"

#include "client/http.h"
#include "client/local_impl.h"
#include "client/say.h"
#include "client/socks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_FIRST 1024
#define BUFFER_MAX   (MT_HTTP_HEAD_MAX + 4096)
#define ANSWER_MAX   1024
#define DISCARD_MAX  (256 * 1024) /* read from a refused application, in one go */
#define TICK_MS      1000

void mt_local_close(struct mt_local *local)
{
	struct mt_locals *locals = local->locals;

	if (local->request != NULL) {
		mt_tunnel_request_cancel(local->request);
	}
	if (local->pump != NULL) {
		mt_pump_cancel(local->pump, MT_APP_CANCELLED);
	}
	mt_tunnel_log_deinit(&local->log);
	mt_udp_assoc_close(local->assoc);
	if (local->item.fd >= 0) {
		mt_poller_close(locals->config.poller, &local->item);
	}
	TAILQ_REMOVE(&locals->list, local, entry);
	locals->count--;
	mt_mem_release(locals->config.mem, local->buffer);
	mt_mem_release(locals->config.mem, local);
}

/* An application that reads EOF takes what it has got for complete: a failure must look like one.
 */
static void close_by_reset(struct mt_local *local)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* If this fails the close is an ordinary one: nothing else can be done. */
	(void)setsockopt(local->item.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	mt_local_close(local);
}

void mt_local_consume(struct mt_local *local, size_t len)
{
	local->fill -= len;
	memmove(local->buffer, local->buffer + len, local->fill);
}

static bool send_all(int fd, const void *data, size_t len)
{
	/* The socket's buffer has held nothing but an answer or two: all of it fits, or it is
	 * broken. */
	return len == 0 || send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

bool mt_local_send(struct mt_local *local, const void *data, size_t len)
{
	if (!send_all(local->item.fd, data, len)) {
		close_by_reset(local);
		return false;
	}
	return true;
}

void mt_local_finish(struct mt_local *local, const void *data, size_t len)
{
	if (!mt_local_send(local, data, len)) {
		return;
	}
	/* Closing with unread input would reset the connection, and the answer might be lost. */
	local->state = MT_LOCAL_LINGERING;
	local->deadline_ms = uv_now(local->locals->config.loop) + MT_LOCAL_LINGER_MS;
	(void)shutdown(local->item.fd, SHUT_WR); /* gone already: the read tells */
	mt_poller_defer(local->locals->config.poller, &local->item, MT_POLL_IN);
}

static void say_forward(const struct mt_local *local, const char *reason)
{
	char listen[MT_ADDR_TEXT_MAX];
	char target[300];

	mt_say("forward %s to %s: %s",
		mt_addr_format(&local->forward->bind, listen, sizeof(listen)),
		mt_target_format(
			local->forward->host, local->forward->port, target, sizeof(target)),
		reason);
}

static void refuse(struct mt_local *local, uint8_t status, const char *reason)
{
	uint8_t answer[ANSWER_MAX];

	mt_tunnel_log_failed(&local->log, reason);
	if (local->protocol == NULL) {
		say_forward(local, reason);
		close_by_reset(local);
		return;
	}
	mt_local_finish(
		local, answer, local->protocol->refuse(answer, sizeof(answer), status, reason));
}

static void on_pump_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	struct mt_local *local = user;

	(void)pump; /* freed right afterwards */
	mt_tunnel_log_closed(&local->log, result);
	local->pump = NULL;
	mt_local_close(local);
}

static void start_pump(struct mt_local *local, struct mt_stream *s)
{
	struct mt_locals *locals = local->locals;
	struct mt_pump_config config = {
		.poller = locals->config.poller,
		.stream = s,
		.fd = local->item.fd,
		.on_end = on_pump_end,
		.user = local,
		.mem = locals->config.mem,
	};
	uint8_t answer[ANSWER_MAX];
	size_t len = 0;

	if (local->protocol != NULL) {
		len = local->protocol->accept(answer, sizeof(answer));
	}
	if (!send_all(local->item.fd, answer, len) ||
		(local->fill > 0 && mt_stream_send(s, local->buffer, local->fill) < 0)) {
		mt_stream_release(s, MT_APP_CANCELLED);
		close_by_reset(local);
		return;
	}
	mt_mem_release(locals->config.mem, local->buffer);
	local->buffer = NULL;
	config.fd = mt_poller_park(locals->config.poller, &local->item, local->ready);
	local->state = MT_LOCAL_PUMPING;
	if (mt_pump_start(&local->pump, &config) < 0) {
		local->pump = NULL;
		mt_stream_release(s, MT_APP_CANCELLED);
		/* Nothing of the target's was written. */
		mt_poller_close_fd(locals->config.poller, config.fd);
		mt_local_close(local);
	}
}

static void on_answer(struct mt_stream *s, uint8_t status, const char *reason, void *user)
{
	struct mt_local *local = user;

	local->request = NULL; /* frees itself */
	if (s != NULL) {
		mt_tunnel_log_open(&local->log);
		start_pump(local, s);
	} else {
		refuse(local, status, reason);
	}
}

void mt_local_request(struct mt_local *local, const char *host, size_t host_len, uint16_t port,
	uint8_t *early, size_t early_len, bool early_is_safe)
{
	struct mt_tunnel_config config = {
		.uplink = local->locals->config.uplink,
		.mem = local->locals->config.mem,
		.host = host,
		.host_len = host_len,
		.port = port,
		.early = early,
		.early_len = early_len,
		.early_is_safe = early_is_safe,
		.trace = &local->log.id,
		.on_answer = on_answer,
		.user = local,
	};
	int err;

	local->state = MT_LOCAL_WAITING;
	mt_tunnel_log_start(
		&local->log, local->locals->config.log, config.mem, host, host_len, port);
	err = mt_tunnel_request_new(&local->request, &config);
	if (err == 0) {
		return;
	}
	local->request = NULL;
	mt_mem_release(config.mem, early);
	if (err == MT_E_MALFORMED) {
		refuse(local, MT_STATUS_ADDRESS_NOT_SUPPORTED,
			"the target is not a host name or address with a port");
	} else if (err == MT_E_LIMIT) {
		refuse(local, MT_STATUS_GENERAL_FAILURE, "too many requests wait for the server");
	} else {
		refuse(local, MT_STATUS_GENERAL_FAILURE, mt_strerror(err));
	}
}

/* Room for more input, up to BUFFER_MAX. */
static bool grow(struct mt_local *local)
{
	struct mt_mem *mem = local->locals->config.mem;
	size_t capacity = local->capacity == 0 ? BUFFER_FIRST : local->capacity * 2;
	uint8_t *buffer;

	if (local->fill < local->capacity) {
		return true;
	}
	if (capacity > BUFFER_MAX) {
		capacity = BUFFER_MAX;
	}
	if (capacity == local->capacity) {
		return false;
	}
	buffer = mt_mem_alloc(mem, capacity);
	if (buffer == NULL) {
		return false;
	}
	if (local->fill > 0) {
		memcpy(buffer, local->buffer, local->fill);
	}
	mt_mem_release(mem, local->buffer);
	local->buffer = buffer;
	local->capacity = capacity;
	return true;
}

/* Reads until the request is complete, the application has gone, or nothing is there. */
static void read_request(struct mt_local *local)
{
	for (;;) {
		ssize_t n;

		if (!grow(local)) {
			close_by_reset(local);
			return;
		}
		n = recv(local->item.fd, local->buffer + local->fill, local->capacity - local->fill,
			MSG_DONTWAIT);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			local->ready &= ~(unsigned)MT_POLL_IN;
			return;
		}
		if (n <= 0) {
			mt_local_close(local);
			return;
		}
		if ((size_t)n < local->capacity - local->fill &&
			(local->ready & MT_POLL_EOF) == 0) {
			local->ready &= ~(unsigned)MT_POLL_IN; /* that was all for now */
		}
		local->fill += (size_t)n;
		if (local->protocol == NULL) {
			local->protocol = local->buffer[0] == MT_SOCKS_VERSION ? &mt_local_socks
									       : &mt_local_http;
		}
		if (!local->protocol->on_data(local)) {
			return;
		}
	}
}

/* Drops what comes; closes at its end. Used for lingering and for UDP associations. */
static void discard(struct mt_local *local)
{
	uint8_t waste[4096];

	for (size_t total = 0; total < DISCARD_MAX;) {
		ssize_t n = recv(local->item.fd, waste, sizeof(waste), MSG_DONTWAIT);

		if (n > 0) {
			total += (size_t)n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			return;
		} else {
			mt_local_close(local);
			return;
		}
	}
	mt_poller_defer(local->locals->config.poller, &local->item, MT_POLL_IN);
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct mt_local *local = (struct mt_local *)item;

	local->ready |= events;
	switch (local->state) {
	case MT_LOCAL_READING:
		if ((events & MT_POLL_IN) != 0) {
			read_request(local);
		}
		return;
	case MT_LOCAL_WAITING:
		/* Half-closed is fine, that is the pump's to carry; gone altogether is not. */
		if ((events & MT_POLL_HUP) != 0) {
			mt_local_close(local);
		}
		return;
	case MT_LOCAL_ASSOCIATED:
	case MT_LOCAL_LINGERING:
		if ((events & MT_POLL_IN) != 0) {
			discard(local);
		}
		return;
	case MT_LOCAL_PUMPING: return;
	}
}

int mt_local_start(struct mt_locals *locals, int fd, const struct mt_forward *forward)
{
	struct mt_local *local;
	int err;

	if (locals->count >= MT_LOCALS_MAX) {
		return MT_E_LIMIT;
	}
	local = mt_mem_calloc(locals->config.mem, sizeof(*local));
	if (local == NULL) {
		return -ENOMEM;
	}
	local->locals = locals;
	local->forward = forward;
	local->deadline_ms = uv_now(locals->config.loop) + MT_LOCAL_REQUEST_MS;
	err = mt_poller_add(locals->config.poller, &local->item, fd, on_ready);
	if (err < 0) {
		mt_mem_release(locals->config.mem, local);
		return err;
	}
	TAILQ_INSERT_TAIL(&locals->list, local, entry);
	locals->count++;
	if (forward != NULL) {
		mt_local_request(
			local, forward->host, strlen(forward->host), forward->port, NULL, 0, false);
	}
	return 0;
}

static void on_tick(uv_timer_t *timer)
{
	struct mt_locals *locals = timer->data;
	uint64_t now = uv_now(locals->config.loop);
	struct mt_local *local = TAILQ_FIRST(&locals->list);

	while (local != NULL) {
		struct mt_local *next = TAILQ_NEXT(local, entry);

		if ((local->state == MT_LOCAL_READING || local->state == MT_LOCAL_LINGERING) &&
			local->deadline_ms <= now) {
			mt_local_close(local);
		}
		local = next;
	}
	mt_udp_relay_tick(locals->config.udp);
}

struct mt_locals *mt_locals_new(const struct mt_locals_config *config)
{
	struct mt_locals *locals = calloc(1, sizeof(*locals));

	if (locals == NULL) {
		return NULL;
	}
	locals->config = *config;
	TAILQ_INIT(&locals->list);
	/* Neither can fail. */
	(void)uv_timer_init(config->loop, &locals->tick);
	locals->tick.data = locals;
	(void)uv_timer_start(&locals->tick, on_tick, TICK_MS, TICK_MS);
	return locals;
}

static void on_tick_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void mt_locals_free(struct mt_locals *locals)
{
	if (locals == NULL) {
		return;
	}
	while (!TAILQ_EMPTY(&locals->list)) {
		mt_local_close(TAILQ_FIRST(&locals->list));
	}
	uv_close((uv_handle_t *)&locals->tick, on_tick_closed);
}
