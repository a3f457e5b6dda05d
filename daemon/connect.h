/* Connects to the first of several addresses that answers: happy eyeballs (RFC 8305). Each address
 * is judged by the rules right before the attempt, and that very address is connected to. One
 * thread.
 */
#pragma once

#include "daemon/access.h"
#include "daemon/env.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

#include <stddef.h>
#include <stdint.h>

#define MT_CONNECT_ADDRS_MAX  16
#define MT_CONNECT_DELAY_MS   250   /* between attempts, section 8 */
#define MT_CONNECT_TIMEOUT_MS 10000 /* all of it */

struct mt_connect;

struct mt_connect_config {
	struct mt_env *env;
	const struct mt_addr
		*addrs; /* in the order of preference; copied, at most MT_CONNECT_ADDRS_MAX */
	size_t count;
	/* What the rules are asked about; its port is connected to. Copied, but for its texts,
	 * which live until the end. */
	struct mt_access_request request;
	/* The end; the struct mt_connect is gone. On success `fd` is taken: non-blocking,
	 * TCP_NODELAY, parked in the poller (mt_poller_park), connected to `addr`, which is
	 * borrowed for the call. Otherwise `err` is the most telling error of all attempts:
	 * MT_E_DENIED (every address), MT_E_TIMEOUT or a negative errno, and `fd` is -1.
	 */
	void (*on_done)(void *user, int err, int fd, const struct mt_addr *addr);
	void *user;
};

/* Returns 0 and on_done follows, never from inside this call; or the error when every attempt
 * failed at once. */
int mt_connect_start(struct mt_connect **out, const struct mt_connect_config *config) MT_MUST_CHECK;
/* Closes all attempts; no on_done follows. */
void mt_connect_cancel(struct mt_connect *c);
