/* Messages between threads: many producers, one consumer, no lock. A message is embedded in what it
 * carries. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct mt_message_node {
	struct mt_message_node *next;
	/* Runs on the consumer's thread, which owns the message from then on. */
	void (*run)(struct mt_message_node *node, void *receiver);
};

struct mt_queue {
	_Atomic(struct mt_message_node *) head;
};

void mt_queue_init(struct mt_queue *q);
/* Any thread. Returns true when the queue was empty: the consumer must then be woken. */
bool mt_queue_push(struct mt_queue *q, struct mt_message_node *node);
/* Consumer: runs everything that is there, in the order of pushing; returns how many. */
unsigned mt_queue_run(struct mt_queue *q, void *receiver);
