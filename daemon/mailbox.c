#include "daemon/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mt_mailbox_new(struct mt_mailbox **out)
{
	struct mt_mailbox *box = calloc(1, sizeof(*box));

	if (box == NULL) {
		return -ENOMEM;
	}
	box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (box->fd < 0) {
		int rv = -errno;

		free(box);
		return rv;
	}
	atomic_init(&box->refs, 1);
	atomic_init(&box->foreign, 0);
	mt_queue_init(&box->queue);
	*out = box;
	return 0;
}

struct mt_mailbox *mt_mailbox_ref(struct mt_mailbox *box)
{
	(void)atomic_fetch_add_explicit(&box->refs, 1, memory_order_relaxed);
	return box;
}

void mt_mailbox_unref(struct mt_mailbox *box)
{
	if (box == NULL || atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	(void)mt_queue_run(&box->queue, NULL); /* how many does not matter */
	(void)close(box->fd);                  /* nothing to lose in an eventfd */
	free(box);
}

void mt_mailbox_post(struct mt_mailbox *box, struct mt_message_node *node)
{
	const uint64_t one = 1;

	if (mt_queue_push(&box->queue, node)) {
		ssize_t n = write(box->fd, &one, sizeof(one));

		(void)n; /* fails only when the counter is full, and then the owner is awake */
	}
}

void mt_mailbox_run(struct mt_mailbox *box, void *receiver)
{
	uint64_t value;
	/* Before the queue: a message that comes later wakes us again. */
	ssize_t n = read(box->fd, &value, sizeof(value));

	(void)n; /* EAGAIN: somebody's wake-up was taken together with an earlier one */
	(void)mt_queue_run(&box->queue, receiver); /* how many does not matter */
}

bool mt_mailbox_take_room(struct mt_mailbox *box)
{
	if (atomic_fetch_add_explicit(&box->foreign, 1, memory_order_relaxed) <
		MT_MAILBOX_FOREIGN_MAX) {
		return true;
	}
	mt_mailbox_return_room(box);
	return false;
}

void mt_mailbox_return_room(struct mt_mailbox *box)
{
	(void)atomic_fetch_sub_explicit(&box->foreign, 1, memory_order_relaxed);
}
