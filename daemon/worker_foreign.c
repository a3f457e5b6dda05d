#include "daemon/worker_impl.h"

#include <stdlib.h>
#include <string.h>

/* A packet on its way to the worker that owns its connection. It comes from the heap, since one
 * thread makes it and another one frees it; only connections whose packets were coalesced with
 * others' pay for that.
 */
struct foreign {
	struct mt_message_node node;
	struct mt_path path;
	unsigned ecn;
	size_t len;
	uint8_t data[];
};

static void run_foreign(struct mt_message_node *node, void *receiver)
{
	struct foreign *f = (struct foreign *)((char *)node - offsetof(struct foreign, node));
	struct mt_worker *w = receiver;

	if (w != NULL) {
		mt_mailbox_return_room(w->mailbox);
		mt_driver_inject(w->driver, &f->path, f->ecn, f->data, f->len);
	}
	free(f);
}

void mt_worker_forward(struct mt_worker *w, uint8_t to, const struct mt_path *path, unsigned ecn,
	const uint8_t *data, size_t len)
{
	struct mt_mailbox *box = w->others != NULL && to < w->count ? w->others[to] : NULL;
	struct foreign *f = NULL;

	if (box == NULL || to == w->index || !mt_mailbox_take_room(box)) {
		mt_count(&w->env.counters->foreign_dropped, 1);
		return;
	}
	f = malloc(sizeof(*f) + len);
	if (f == NULL) {
		mt_mailbox_return_room(box);
		mt_count(&w->env.counters->errors, 1);
		return;
	}
	f->node.run = run_foreign;
	f->path = *path;
	f->ecn = ecn;
	f->len = len;
	memcpy(f->data, data, len);
	mt_mailbox_post(box, &f->node);
}
