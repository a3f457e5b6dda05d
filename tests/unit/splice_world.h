/* A spliced tunnel between two TCP connections, without a kernel that has TLS. */
#pragma once

#include "proto/io/splice.h"
#include "proto/io/tls_impl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TURNS_MAX 2000000u

/* A client's TCP connection whose records a kernel with TLS would make. Here its bytes are plain,
 * and the records that are no payload are the test's: behind all bytes comes `control`.
 */
extern struct world_kernel {
	int client;
	size_t most;          /* that a splice moves; 0: as it is asked */
	uint8_t type;         /* of the record to come; 0: none */
	uint8_t control[2];   /* its content */
	uint8_t sent[2];      /* the last alert */
	unsigned sent_alerts; /* how many */
	unsigned refusals;    /* alerts that do not fit the socket yet */
	int broken;           /* the errno for a record that it cannot open; 0: none */
} world_kernel;

struct world {
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_pacer *pacer;
	struct mt_tls_loop *tls;
	struct mt_pipes *pipes;
	mt_counter pipes_missing;
	struct mt_tls_stream *s;
	struct mt_splice *splice;
	struct mt_pump_result result;
	bool over;
	bool gone;
	enum mt_tls_fault fault;
	int client; /* the far ends, non-blocking */
	int target;
	int target_near;
};

/* A stream as it is behind a handshake whose keys the kernel took. */
void world_open(struct world *w);
/* Joins it with the target. */
void world_join(struct world *w);
void world_start(struct world *w); /* both */
/* Everything has been given back. */
void world_close(struct world *w);

void world_until(struct world *w, const bool *flag);
void world_turns(struct world *w, unsigned count);

/* One piece of the pattern from byte `at` on, as much as fits. */
size_t world_put(int fd, size_t at, size_t end);
/* One piece of it, if there is one, which is checked. */
size_t world_take(int fd, size_t at);
/* `size` bytes in both directions at once, in step with what the other side takes. */
void world_exchange(struct world *w, size_t size);
/* Waits for the end of what comes: 0, or the errno. */
void world_expect_end(struct world *w, int fd, int want);
/* The client's own end, clean. */
void world_say_close_notify(const struct world *w);
/* Closes it with an RST. */
void world_reset(int *fd);
