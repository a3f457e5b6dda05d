/* A worker's mailbox: a queue and the descriptor that wakes its owner. Counted by reference, since
 * other workers may still hold letters for one that has ended already.
 */
#pragma once

#include "daemon/queue.h"
#include "proto/wire/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define MT_MAILBOX_FOREIGN_MAX 1024 /* packets of other workers waiting in one mailbox */

struct mt_mailbox {
	_Atomic unsigned refs;
	_Atomic unsigned foreign;
	struct mt_queue queue;
	int fd; /* an eventfd */
};

int mt_mailbox_new(struct mt_mailbox **out) MT_MUST_CHECK;
struct mt_mailbox *mt_mailbox_ref(struct mt_mailbox *box);
/* Any thread. The last one runs what nobody took, with NULL as receiver: such messages free
 * themselves. */
void mt_mailbox_unref(struct mt_mailbox *box); /* NULL is allowed */
/* Any thread. */
void mt_mailbox_post(struct mt_mailbox *box, struct mt_message_node *node);
/* The owner, when `fd` is readable: runs everything that is there. */
void mt_mailbox_run(struct mt_mailbox *box, void *receiver);
/* Any thread: room for one more foreign packet is taken, or not; given back by the owner. */
bool mt_mailbox_take_room(struct mt_mailbox *box);
void mt_mailbox_return_room(struct mt_mailbox *box);
