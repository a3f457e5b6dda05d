/* The listening TCP sockets of all workers: one SO_REUSEPORT group per address, in the order of the
 * workers. A program of classic BPF steers by the client's address alone, so that all connections
 * of one address are one worker's. Control thread.
 */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/settings.h"

#include <linux/filter.h>
#include <stddef.h>

#define MT_TLS_BACKLOG   4096
#define MT_TLS_STEER_MAX 24

struct mt_tls_listen {
	int *fds; /* by worker, then by address; -1: taken */
	size_t workers;
	size_t addr_count;
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];  /* with their real ports */
	struct mt_addr wanted[MT_SETTING_ADDRS_MAX]; /* as they were asked for */
};

struct mt_tls_listen_request {
	const struct mt_addr *addrs;
	size_t count;
	size_t workers;
	const struct mt_addr *own; /* what this process listens on already */
	size_t own_count;
};

/* Opens everything or nothing; port 0 takes a free port. On failure `why` says which address
 * failed, `next` what to change. */
int mt_tls_listen_open(struct mt_tls_listen *out, const struct mt_tls_listen_request *request,
	char *why, size_t why_cap, char *next, size_t next_cap) MT_MUST_CHECK;
/* Closes what was not taken. Repeated calls do nothing. */
void mt_tls_listen_close(struct mt_tls_listen *l);
/* Whether nobody listens on TCP there yet. 0 or a negative errno. */
int mt_tls_listen_probe(const struct mt_addr *addr) MT_MUST_CHECK;
/* The program; returns its length. */
size_t mt_tls_steer_program(struct sock_filter *prog, unsigned workers);
