/* Local addresses that applications connect to. */
#pragma once

#include "client/local.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

struct mt_listener;

/* Binds `bind` and takes connections; for SOCKS5 and HTTP without `forward`, which stays borrowed.
 * `*bound` is the address with its real port. A negative errno.
 */
int mt_listener_open(struct mt_listener **out, uv_loop_t *loop, struct mt_poller *poller,
	struct mt_locals *locals, const struct mt_addr *bind, const struct mt_forward *forward,
	struct mt_addr *bound) MT_MUST_CHECK;
/* The memory goes when the loop has run again. NULL is allowed. */
void mt_listener_close(struct mt_listener *l);
