#include "client/tls_pool.h"

#include "client/resolve.h"
#include "client/tls_dial.h"
#include "proto/io/tls_stream.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slot {
	struct mt_tls_pool *pool;
	struct mt_stream *stream; /* NULL: free */
	uint64_t since_ms;
};

struct mt_tls_pool {
	struct mt_tls_watch watch; /* first */
	struct mt_tls_pool_config config;
	struct mt_tls_loop *connections;
	struct mt_addresses addresses; /* what worked last comes first; none: to be resolved */
	struct mt_resolve *resolve;    /* NULL: not under way */
	size_t wanted;                 /* while it resolves */
	struct mt_tls_dial *dials[MT_TLS_DIALS_MAX];
	size_t dial_count;
	struct slot ready[MT_TLS_READY_MAX];
	size_t ready_count;
	struct mt_addr remote;
};

static void empty(struct slot *slot)
{
	slot->stream = NULL;
	slot->pool->ready_count--;
}

/* The server has ended a connection on which nothing was asked. */
static void on_ready_over(struct slot *slot)
{
	mt_stream_release(slot->stream, MT_APP_NONE);
	empty(slot);
}

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	on_ready_over(user); /* whatever it says, it was not asked */
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	(void)app_code;
	on_ready_over(user);
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	(void)err;
	on_ready_over(user);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_end,
};

static void on_gone(struct mt_tls_watch *watch, const struct mt_tls_socket *socket)
{
	struct mt_tls_pool *pool = (struct mt_tls_pool *)watch;
	struct mt_reason reason;

	if (socket->fault == MT_TLS_FAULT_ALERT) {
		mt_reason_from_tls(&reason, socket);
		pool->config.on_word(&reason, pool->config.user);
	}
}

/* What has worked is tried first the next time. */
static void prefer(struct mt_tls_pool *pool, const struct mt_addr *remote)
{
	struct mt_addr *list = pool->addresses.list;

	for (size_t i = 1; i < pool->addresses.count; i++) {
		if (mt_addr_equal(&list[i], remote)) {
			struct mt_addr found = list[i];

			memmove(&list[1], &list[0], i * sizeof(list[0]));
			list[0] = found;
			return;
		}
	}
}

static void keep(struct mt_tls_pool *pool, struct mt_stream *stream)
{
	for (size_t i = 0; i < MT_TLS_READY_MAX; i++) {
		struct slot *slot = &pool->ready[i];

		if (slot->stream == NULL) {
			*slot = (struct slot){.pool = pool,
				.stream = stream,
				.since_ms = uv_now(pool->config.loop)};
			pool->ready_count++;
			mt_stream_set_handler(stream, &handler, slot);
			return;
		}
	}
	mt_stream_release(stream, MT_APP_NONE);
}

static void on_dial_done(struct mt_tls_dial *dial, struct mt_stream *stream,
	const struct mt_addr *remote, const struct mt_reason *reason, void *user)
{
	struct mt_tls_pool *pool = user;

	for (size_t i = 0; i < pool->dial_count; i++) {
		if (pool->dials[i] == dial) {
			pool->dials[i] = pool->dials[--pool->dial_count];
			break;
		}
	}
	if (stream == NULL) {
		pool->addresses.count = 0; /* the name may have another one now */
		pool->config.on_failed(reason, pool->config.user);
		return;
	}
	pool->remote = *remote;
	prefer(pool, remote);
	keep(pool, stream);
	pool->config.on_ready(pool->config.user);
}

static void start_dials(struct mt_tls_pool *pool, size_t count)
{
	while (pool->dial_count < MT_TLS_DIALS_MAX &&
		pool->ready_count + pool->dial_count < count) {
		struct mt_tls_dial_config config = {
			.loop = pool->config.loop,
			.poller = pool->config.poller,
			.mem = pool->config.mem,
			.connections = pool->connections,
			.tls = pool->config.tls,
			.addresses = &pool->addresses,
			.watch = &pool->watch,
			.on_done = on_dial_done,
			.user = pool,
		};
		int err = mt_tls_dial_start(&pool->dials[pool->dial_count], &config);

		if (err < 0) {
			return; /* without memory: whoever waits asks again */
		}
		pool->dial_count++;
	}
}

static void on_resolved(const struct mt_addresses *addresses, const char *why, void *user)
{
	struct mt_tls_pool *pool = user;

	pool->resolve = NULL;
	if (addresses == NULL) {
		struct mt_reason reason = {.permanent = false};

		(void)snprintf(reason.text, sizeof(reason.text),
			"the server's name '%s' does not resolve (%s)", pool->config.host, why);
		pool->config.on_failed(&reason, pool->config.user);
		return;
	}
	pool->addresses = *addresses;
	start_dials(pool, pool->wanted);
}

void mt_tls_pool_want(struct mt_tls_pool *pool, size_t count)
{
	int err;

	count = count < MT_TLS_READY_MAX ? count : MT_TLS_READY_MAX;
	pool->wanted = count;
	if (pool->resolve != NULL || pool->ready_count + pool->dial_count >= count) {
		return;
	}
	if (pool->addresses.count == 0) {
		err = mt_addresses_of_literal(
			&pool->addresses, pool->config.host, pool->config.port);
		if (err == MT_E_AGAIN) {
			err = mt_resolve_start(&pool->resolve, pool->config.loop, pool->config.host,
				pool->config.port, on_resolved, pool);
			if (err == 0) {
				return;
			}
		}
		if (err < 0) {
			return; /* without memory: whoever waits asks again */
		}
	}
	start_dials(pool, count);
}

struct mt_stream *mt_tls_pool_take(struct mt_tls_pool *pool)
{
	struct slot *youngest = NULL;
	struct mt_stream *stream;

	for (size_t i = 0; i < MT_TLS_READY_MAX; i++) {
		struct slot *slot = &pool->ready[i];

		if (slot->stream != NULL && !mt_stream_is_detached(slot->stream) &&
			(youngest == NULL || slot->since_ms > youngest->since_ms)) {
			youngest = slot;
		}
	}
	if (youngest == NULL) {
		return NULL;
	}
	stream = youngest->stream;
	empty(youngest);
	mt_stream_set_handler(stream, NULL, NULL);
	return stream;
}

size_t mt_tls_pool_taken(const struct mt_tls_pool *pool)
{
	return mt_tls_loop_open(pool->connections) - pool->ready_count;
}

void mt_tls_pool_clear(struct mt_tls_pool *pool)
{
	pool->wanted = 0;
	mt_resolve_cancel(pool->resolve);
	pool->resolve = NULL;
	while (pool->dial_count > 0) {
		mt_tls_dial_cancel(pool->dials[--pool->dial_count]);
	}
	for (size_t i = 0; i < MT_TLS_READY_MAX; i++) {
		if (pool->ready[i].stream != NULL) {
			on_ready_over(&pool->ready[i]);
		}
	}
}

void mt_tls_pool_tick(struct mt_tls_pool *pool)
{
	uint64_t now = uv_now(pool->config.loop);

	for (size_t i = 0; i < MT_TLS_READY_MAX; i++) {
		struct slot *slot = &pool->ready[i];

		if (slot->stream != NULL && now - slot->since_ms >= MT_TLS_READY_MS) {
			on_ready_over(slot);
		}
	}
}

const struct mt_addr *mt_tls_pool_remote(const struct mt_tls_pool *pool)
{
	return &pool->remote;
}

int mt_tls_pool_new(struct mt_tls_pool **out, const struct mt_tls_pool_config *config)
{
	struct mt_tls_pool *pool = calloc(1, sizeof(*pool));
	int err;

	if (pool == NULL) {
		return -ENOMEM;
	}
	pool->watch.on_gone = on_gone;
	LIST_INIT(&pool->watch.lines);
	pool->config = *config;
	err = mt_tls_loop_new(&pool->connections, config->loop, config->poller, config->mem);
	if (err < 0) {
		free(pool);
		return err;
	}
	*out = pool;
	return 0;
}

void mt_tls_pool_free(struct mt_tls_pool *pool)
{
	if (pool != NULL) {
		mt_tls_pool_clear(pool);
		mt_tls_loop_free(pool->connections);
		mt_tls_watch_deinit(&pool->watch);
		free(pool);
	}
}
