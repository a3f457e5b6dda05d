/* links: daemon/queue.c daemon/mailbox.c */
#include "daemon/mailbox.h"
#include "daemon/queue.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PRODUCERS 4
#define EACH      20000

struct letter {
	struct mt_message_node node;
	unsigned producer;
	unsigned number;
};

struct reader {
	unsigned next[PRODUCERS];
	unsigned total;
	unsigned disorder;
};

static void take(struct mt_message_node *node, void *receiver)
{
	struct letter *l = (struct letter *)node;
	struct reader *r = receiver;

	if (r != NULL) {
		if (r->next[l->producer] != l->number) {
			r->disorder++;
		}
		r->next[l->producer] = l->number + 1;
		r->total++;
	}
	free(l);
}

static struct mt_message_node *letter(unsigned producer, unsigned number)
{
	struct letter *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->node.run = take;
	l->producer = producer;
	l->number = number;
	return &l->node;
}

static void test_push_says_empty(void **state)
{
	struct mt_queue q;
	struct reader r = {.total = 0};

	(void)state;
	mt_queue_init(&q);
	assert_true(mt_queue_push(&q, letter(0, 0)));
	assert_false(mt_queue_push(&q, letter(0, 1)));
	assert_int_equal(mt_queue_run(&q, &r), 2);
	assert_int_equal(r.disorder, 0);
	assert_true(mt_queue_push(&q, letter(0, 2)));
	assert_int_equal(mt_queue_run(&q, &r), 1);
	assert_int_equal(mt_queue_run(&q, &r), 0);
	assert_int_equal(r.next[0], 3);
}

struct again {
	struct mt_message_node node;
	struct mt_queue *q;
	unsigned runs;
};

static void push_again(struct mt_message_node *node, void *receiver)
{
	struct again *a = (struct again *)node;

	(void)receiver;
	if (++a->runs < 3) {
		assert_true(mt_queue_push(a->q, node));
	}
}

/* What is pushed while messages run belongs to the next round: nobody can hold the consumer. */
static void test_run_leaves_new_messages(void **state)
{
	struct mt_queue q;
	struct again a = {.node = {.run = push_again}, .q = &q};

	(void)state;
	mt_queue_init(&q);
	(void)mt_queue_push(&q, &a.node); /* the first */
	assert_int_equal(mt_queue_run(&q, NULL), 1);
	assert_int_equal(a.runs, 1);
	assert_int_equal(mt_queue_run(&q, NULL), 1);
	assert_int_equal(mt_queue_run(&q, NULL), 1);
	assert_int_equal(mt_queue_run(&q, NULL), 0);
	assert_int_equal(a.runs, 3);
}

struct producer {
	struct mt_mailbox *box;
	unsigned index;
};

static void *produce(void *arg)
{
	struct producer *p = arg;

	for (unsigned i = 0; i < EACH; i++) {
		struct letter *l = calloc(1, sizeof(*l));

		if (l == NULL) {
			abort();
		}
		l->node.run = take;
		l->producer = p->index;
		l->number = i;
		mt_mailbox_post(p->box, &l->node);
	}
	mt_mailbox_unref(p->box);
	return NULL;
}

/* Each producer's messages arrive once and in order, and no wake-up is lost. */
static void test_mailbox_many_producers(void **state)
{
	struct mt_mailbox *box = NULL;
	struct producer producers[PRODUCERS];
	pthread_t threads[PRODUCERS];
	struct reader r = {.total = 0};

	(void)state;
	assert_int_equal(mt_mailbox_new(&box), 0);
	for (unsigned i = 0; i < PRODUCERS; i++) {
		producers[i] = (struct producer){.box = mt_mailbox_ref(box), .index = i};
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
	}
	while (r.total < PRODUCERS * EACH) {
		struct pollfd p = {.fd = box->fd, .events = POLLIN};

		assert_int_equal(poll(&p, 1, 10000), 1);
		mt_mailbox_run(box, &r);
	}
	for (unsigned i = 0; i < PRODUCERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(r.next[i], EACH);
	}
	assert_int_equal(r.disorder, 0);
	mt_mailbox_unref(box);
}

static void test_mailbox_unref_runs_the_rest(void **state)
{
	struct mt_mailbox *box = NULL;

	(void)state;
	assert_int_equal(mt_mailbox_new(&box), 0);
	mt_mailbox_post(box, letter(0, 0));
	mt_mailbox_post(box, letter(0, 1));
	mt_mailbox_unref(box); /* freed by their own run: the leak checker watches */
}

static void test_mailbox_room_is_bounded(void **state)
{
	struct mt_mailbox *box = NULL;

	(void)state;
	assert_int_equal(mt_mailbox_new(&box), 0);
	for (unsigned i = 0; i < MT_MAILBOX_FOREIGN_MAX; i++) {
		assert_true(mt_mailbox_take_room(box));
	}
	assert_false(mt_mailbox_take_room(box));
	mt_mailbox_return_room(box);
	assert_true(mt_mailbox_take_room(box));
	mt_mailbox_unref(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_push_says_empty),
		cmocka_unit_test(test_run_leaves_new_messages),
		cmocka_unit_test(test_mailbox_many_producers),
		cmocka_unit_test(test_mailbox_unref_runs_the_rest),
		cmocka_unit_test(test_mailbox_room_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
