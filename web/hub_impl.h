/* The inside of the hub, shared by its files. */
#pragma once

#include "web/hub.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mt_hub_reader {
	struct mt_hub *hub;
	struct mt_hub_user *user;
	struct MHD_Connection *connection;
	bool suspended;
	bool greeted;
	int64_t next;   /* number of the event that comes next */
	uint64_t ticks; /* of the last one seen */
	char *out;      /* what is being sent; for free() */
	size_t len;
	size_t sent;
};

struct mt_hub {
	pthread_mutex_t lock; /* of everything below */
	const char *version;
	int64_t started_at;
	struct mt_hub_rows *pictures[MT_WEB_LISTINGS]; /* NULL: none yet */
	bool wanted[MT_WEB_LISTINGS];
	struct waiter {
		struct MHD_Connection *connection;
		struct mt_hub_user *user;
		enum mt_web_listing which;
	} waiters[MT_HUB_WAITERS_MAX];
	size_t waiter_count;

	char *events[MT_HUB_EVENTS_MAX]; /* by number; NULL: none, or lost */
	int64_t last;                    /* number of the newest; 0: none */
	char *tick;
	uint64_t ticks;
	uint64_t woken_ms;
	struct mt_hub_reader *readers[MT_HUB_READERS_MAX];
	unsigned reader_count;

	_Atomic uint64_t answers[6]; /* by the first digit of the status; any thread */
};

uint64_t mt_hub_now_ms(void);
void mt_hub_lock(struct mt_hub *hub);
void mt_hub_unlock(struct mt_hub *hub);
/* hub_reader.c, with the lock held: resumes the suspended readers of `user`, or of all (NULL). */
void mt_hub_wake_readers(struct mt_hub *hub, const struct mt_hub_user *user);
