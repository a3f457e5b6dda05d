/* TLS connections to the server, one for each request: opened when they are wanted, a few of them
 * ahead of time, so that a request need not wait for a handshake. One thread.
 */
#pragma once

#include "client/reason.h"
#include "proto/io/poller.h"
#include "proto/quic/mem.h"
#include "proto/quic/stream.h"
#include "proto/quic/tls.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MT_TLS_DIALS_MAX 16   /* under way at a time */
#define MT_TLS_READY_MAX 32   /* connections that wait for a request */
#define MT_TLS_READY_MS  7000 /* for so long; a server ends those without a request after 10 s */

struct mt_tls_pool;

struct mt_tls_pool_config {
	uv_loop_t *loop; /* all borrowed */
	struct mt_poller *poller;
	struct mt_mem *mem;
	struct mt_tls_client *tls;
	const char *host;
	uint16_t port;
	/* From the loop. A connection can be taken. */
	void (*on_ready)(void *user);
	/* One could not be opened. Others may be under way; no more follow until they are wanted
	 * again.
	 */
	void (*on_failed)(const struct mt_reason *reason, void *user);
	/* A connection has ended with something that the user should know, such as a refusal. */
	void (*on_word)(const struct mt_reason *reason, void *user);
	void *user;
};

int mt_tls_pool_new(
	struct mt_tls_pool **out, const struct mt_tls_pool_config *config) MT_MUST_CHECK;
/* Ends all connections, also those taken: their streams must be released before. The memory goes
 * when the loop has run again. NULL is allowed.
 */
void mt_tls_pool_free(struct mt_tls_pool *pool);
/* Opens connections until as many are ready or under way, within the limits above. */
void mt_tls_pool_want(struct mt_tls_pool *pool, size_t count);
/* A connection on which nothing has been sent, the caller's now; NULL: none is ready. */
struct mt_stream *mt_tls_pool_take(struct mt_tls_pool *pool);
/* How many of those that were taken are there still. */
size_t mt_tls_pool_taken(const struct mt_tls_pool *pool);
/* Gives up what is ready or under way. */
void mt_tls_pool_clear(struct mt_tls_pool *pool);
/* Closes those that were ready for too long; now and then. */
void mt_tls_pool_tick(struct mt_tls_pool *pool);
/* Where the last connection went; its length is 0 before there was one. */
const struct mt_addr *mt_tls_pool_remote(const struct mt_tls_pool *pool);
