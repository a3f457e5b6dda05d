/* The UDP sockets of all workers: one SO_REUSEPORT group per address, bound in the order of the
 * workers, because the kernel numbers a group's members by the order of binding and the steering
 * program returns that number.
 */
#pragma once

#include "proto/io/udp.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mt_listen {
	/* By worker, then by address: the sockets of worker w start at sockets[w * addr_count]. */
	struct mt_udp_socket *sockets;
	size_t workers;
	size_t addr_count;
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];  /* with their real ports */
	struct mt_addr wanted[MT_SETTING_ADDRS_MAX]; /* as they were asked for */
	char notice[256]; /* not empty: an address that was left out, and why */
};

struct mt_listen_request {
	const struct mt_addr *addrs;
	size_t count;
	size_t kept; /* addresses that are served beside these */
	size_t workers;
	uint8_t tag;
	bool tcp_too;              /* a free port (0) is one that is free for TCP as well */
	const struct mt_addr *own; /* what this process has bound already */
	size_t own_count;
};

/* Opens everything or nothing. Port 0 takes a free port, the same one for every worker. An IPv6
 * wildcard on a host without IPv6 is left out when another address remains. On failure `why` says
 * which address failed, and `next` what to change.
 */
int mt_listen_open(struct mt_listen *out, const struct mt_listen_request *request, char *why,
	size_t why_cap, char *next, size_t next_cap) MT_MUST_CHECK;
/* The sockets of worker `w` (addr_count of them), which now belong to the caller. */
void mt_listen_release(struct mt_listen *l, size_t w);
/* Closes what was not released, frees the table. Repeated calls do nothing. */
void mt_listen_close(struct mt_listen *l);
