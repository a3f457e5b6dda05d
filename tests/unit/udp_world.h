/* Two UDP sockets on loopback, and a sendmmsg that fails on demand. */
#pragma once

#include "proto/io/udp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GOT_MAX  (4 * 1024 * 1024)
#define SEEN_MAX 512

/* What has arrived: all bytes in order, and the facts of every message. */
struct seen {
	uint8_t *data;
	size_t len;
	size_t messages;
	struct {
		struct mt_path path;
		unsigned ecn;
		size_t len;
		size_t segment;
	} msg[SEEN_MAX];
};

/* Stands in front of the system call: a socket that is full, a device that refuses, a kernel that
 * takes less. */
struct kernel {
	int pass_calls; /* so many calls go through, */
	int fail_calls; /* then so many fail with `err` */
	int err;
	int fail_fd;   /* only for this descriptor; -1: any */
	bool only_gso; /* only when the first message is segmented */
	int take;      /* > 0: at most so many messages a call */
	unsigned calls;
};
extern struct kernel kernel;

struct world {
	struct mt_udp_socket a, b;
	struct mt_udp_rx *rx;
	struct mt_udp_tx *tx;
	struct seen seen;
};

void open_pair(struct world *w, const char *bind_a, const char *bind_b);
int set_up(void **state);
int tear_down(void **state);
/* Reads from `s` until `len` bytes are there. */
void receive(struct world *w, struct mt_udp_socket *s, size_t len);
/* Queues `len` bytes of the pattern from `off` on. */
void queue(struct world *w, const struct mt_path *path, unsigned ecn, size_t off, size_t len,
	size_t segment);
void check_pattern(const struct world *w, size_t len);
struct mt_path from_a_to_b(struct world *w);
/* From a to b, checked byte for byte. */
void round_trip(struct world *w, size_t len, size_t segment);
uint8_t pattern(size_t i);
