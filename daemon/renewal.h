/* Looks at the appliance's certificates from time to time: what runs out is renewed, stored and put
 * in force. What could not be done is tried again soon, until it is done. One loop.
 */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct mt_renewal {
	uv_timer_t timer;
	/* Renews what runs out and stores it; `*changed` says whether there was anything. */
	int (*renew)(void *user, bool *changed, char *why, size_t why_cap);
	/* Puts what is stored in force. */
	int (*publish)(void *user, char *why, size_t why_cap);
	/* It has been done (`why` is NULL), or has failed for now. */
	void (*told)(void *user, const char *why);
	void *user;
	uint64_t every_ms; /* between looks */
	uint64_t again_ms; /* after a failure */
	bool stored;       /* but not in force yet */
};

/* `r` has all but its timer and `stored` set. The first look comes after `every_ms`. */
void mt_renewal_start(struct mt_renewal *r, uv_loop_t *loop);
/* Looks in the next turn of the loop; nothing happens when it was not started, or has ended. */
void mt_renewal_soon(struct mt_renewal *r);
/* Ends it: closes the timer, once it was started. */
void mt_renewal_stop(struct mt_renewal *r);
