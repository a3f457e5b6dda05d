#include "daemon/queue.h"

#include <stddef.h>

void mt_queue_init(struct mt_queue *q)
{
	atomic_init(&q->head, NULL);
}

bool mt_queue_push(struct mt_queue *q, struct mt_message_node *node)
{
	struct mt_message_node *head = atomic_load_explicit(&q->head, memory_order_relaxed);

	/* The consumer takes the whole stack at once and never pops one node, so a head that was
	 * seen twice is the same list (no ABA problem). */
	do {
		node->next = head;
	} while (!atomic_compare_exchange_weak_explicit(
		&q->head, &head, node, memory_order_release, memory_order_relaxed));
	return head == NULL;
}

unsigned mt_queue_run(struct mt_queue *q, void *receiver)
{
	struct mt_message_node *node =
		atomic_exchange_explicit(&q->head, NULL, memory_order_acquire);
	struct mt_message_node *ordered = NULL;
	struct mt_message_node *next;
	unsigned count = 0;

	for (; node != NULL; node = next) {
		next = node->next;
		node->next = ordered;
		ordered = node;
	}
	for (; ordered != NULL; ordered = next) {
		next = ordered->next; /* run() may free the message */
		ordered->run(ordered, receiver);
		count++;
	}
	return count;
}
