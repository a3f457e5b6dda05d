/* links: proto/io/poller.c */
#include "proto/io/poller.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct probe {
	struct mt_poll_item item; /* first member */
	struct mt_poller *poller;
	struct probe *victim; /* removed by the handler */
	int peer;
	unsigned calls;
	unsigned events;
	unsigned again; /* how often the handler still defers itself */
	bool remove_self;
	bool close_victim;
	bool park_victim;
	int parked_fd;
};

struct world {
	uv_loop_t loop;
	struct mt_poller *poller;
};

static int set_up(void **state)
{
	static struct world w;

	assert_int_equal(uv_loop_init(&w.loop), 0);
	assert_int_equal(mt_poller_new(&w.poller, &w.loop), 0);
	*state = &w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	mt_poller_free(w->poller);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	return 0;
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct probe *p = (struct probe *)item;

	p->calls++;
	p->events |= events;
	if (p->victim != NULL) {
		if (p->close_victim) {
			mt_poller_close(p->poller, &p->victim->item);
		} else if (p->park_victim) {
			p->victim->parked_fd = mt_poller_park(p->poller, &p->victim->item, 0);
		} else {
			mt_poller_remove(p->poller, &p->victim->item);
		}
		/* whoever is called first takes the other one out */
		p->victim->victim = NULL;
		p->victim = NULL;
	}
	if (p->remove_self) {
		mt_poller_remove(p->poller, item);
	}
	if (p->again > 0) {
		p->again--;
		mt_poller_defer(p->poller, item, MT_POLL_IN);
	}
}

static void open_probe(struct world *w, struct probe *p)
{
	int fds[2];

	*p = (struct probe){.poller = w->poller};
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	p->peer = fds[1];
	assert_int_equal(mt_poller_add(w->poller, &p->item, fds[0], on_ready), 0);
}

static void close_probe(struct probe *p, int fd)
{
	mt_poller_remove(p->poller, &p->item);
	close(fd);
	close(p->peer);
}

static void turn(struct world *w)
{
	uv_run(&w->loop, UV_RUN_NOWAIT);
}

static void test_poller_reports_edges(void **state)
{
	struct world *w = *state;
	struct probe p;
	int fd;

	open_probe(w, &p);
	fd = p.item.fd;
	turn(w);
	assert_int_equal(p.calls, 1);
	assert_int_equal(p.events, MT_POLL_OUT);
	turn(w);
	assert_int_equal(p.calls, 1); /* nothing new */
	assert_int_equal(write(p.peer, "x", 1), 1);
	turn(w);
	assert_int_equal(p.calls, 2);
	assert_int_equal(p.events, MT_POLL_OUT | MT_POLL_IN);
	turn(w);
	assert_int_equal(p.calls, 2); /* though unread */
	assert_int_equal(shutdown(p.peer, SHUT_WR), 0);
	turn(w);
	assert_int_equal(p.events, MT_POLL_OUT | MT_POLL_IN | MT_POLL_EOF);
	close(p.peer);
	turn(w);
	assert_int_equal(p.events & MT_POLL_HUP, MT_POLL_HUP);
	p.peer = -1;
	close_probe(&p, fd);
}

static void remove_within_handler(struct world *w, bool closing)
{
	struct probe a, b;
	int fd_a, fd_b;

	open_probe(w, &a);
	open_probe(w, &b);
	fd_a = a.item.fd;
	fd_b = b.item.fd;
	a.victim = &b;
	b.victim = &a;
	a.close_victim = b.close_victim = closing;
	turn(w); /* both are ready, in one batch: only one may be called */
	assert_int_equal(a.calls + b.calls, 1);
	assert_int_equal(write(a.peer, "x", 1), closing && a.item.fd < 0 ? -1 : 1);
	turn(w);
	assert_int_equal(a.calls + b.calls, a.item.fd >= 0 ? 2 : 1);
	if (closing) {
		int gone = a.item.fd < 0 ? fd_a : fd_b;

		assert_int_equal(fcntl(gone, F_GETFD), -1);
		assert_int_equal(errno, EBADF);
		mt_poller_close(w->poller, &a.item);
		mt_poller_close(w->poller, &b.item);
		close(a.peer);
		close(b.peer);
	} else {
		close_probe(&a, fd_a);
		close_probe(&b, fd_b);
	}
}

static void test_poller_remove_within_handler(void **state)
{
	remove_within_handler(*state, false);
}

static void test_poller_close_within_handler(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	remove_within_handler(*state, true);
}

static void test_poller_remove_self_and_add_again(void **state)
{
	struct world *w = *state;
	struct probe p;
	int fd;

	open_probe(w, &p);
	fd = p.item.fd;
	p.remove_self = true;
	turn(w);
	assert_int_equal(p.calls, 1);
	assert_int_equal(p.item.fd, -1);
	assert_int_equal(mt_poller_add(w->poller, &p.item, fd, on_ready), 0);
	p.remove_self = false;
	turn(w);
	assert_int_equal(p.calls, 2); /* the first events are reported anew */
	close_probe(&p, fd);
}

static void test_poller_add_refuses_closed(void **state)
{
	struct world *w = *state;
	struct mt_poll_item item;
	int fd = dup(STDERR_FILENO);

	close(fd);
	assert_int_equal(mt_poller_add(w->poller, &item, fd, on_ready), -EBADF);
}

static void test_poller_defer_runs_next_turn(void **state)
{
	struct world *w = *state;
	struct probe p;
	int fd;

	open_probe(w, &p);
	fd = p.item.fd;
	p.again = 3;
	turn(w);
	for (unsigned i = 1; i <= 4; i++) {
		assert_int_equal(p.calls, i);
		turn(w);
	}
	turn(w);
	assert_int_equal(p.calls, 4);
	assert_int_equal(p.events, MT_POLL_OUT | MT_POLL_IN);
	close_probe(&p, fd);
}

static void test_poller_defer_removed(void **state)
{
	struct world *w = *state;
	struct probe a, b;

	a = (struct probe){.poller = w->poller};
	b = (struct probe){.poller = w->poller};
	mt_poller_init_item(&a.item, on_ready);
	mt_poller_init_item(&b.item, on_ready);
	mt_poller_defer(w->poller, &a.item, MT_POLL_IN);
	mt_poller_defer(w->poller, &b.item, MT_POLL_IN);
	mt_poller_defer(w->poller, &b.item, MT_POLL_OUT);
	a.victim = &b; /* taken out while the list is being run */
	turn(w);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	mt_poller_defer(w->poller, &b.item, MT_POLL_OUT);
	turn(w);
	assert_int_equal(b.calls, 1);
	assert_int_equal(b.events, MT_POLL_OUT);
	mt_poller_defer(w->poller, &a.item, 0);
	mt_poller_remove(w->poller, &a.item);
	turn(w);
	assert_int_equal(a.calls, 1);
}

/* Neither what was known before nor what comes between is lost. */
static void test_poller_park_keeps_events(void **state)
{
	struct world *w = *state;
	struct probe first, second;
	unsigned events = 0;
	int fd;

	open_probe(w, &first);
	turn(w);
	assert_int_equal(first.events, MT_POLL_OUT);
	fd = mt_poller_park(w->poller, &first.item, MT_POLL_OUT);
	assert_true(fd >= 0);
	assert_int_equal(first.item.fd, -1);
	assert_int_equal(write(first.peer, "x", 1), 1);
	turn(w);
	assert_int_equal(first.calls, 1);
	assert_int_equal(mt_poller_take(w->poller, &second.item, fd, on_ready, &events), 0);
	assert_int_equal(events, MT_POLL_OUT | MT_POLL_IN);
	fd = mt_poller_park(w->poller, &second.item, MT_POLL_OUT);
	second = (struct probe){.poller = w->poller};
	assert_int_equal(mt_poller_add(w->poller, &second.item, fd, on_ready), 0);
	turn(w);
	assert_int_equal(second.calls, 1);
	assert_int_equal(second.events, MT_POLL_OUT);
	/* Still edge-triggered, and still in the set. */
	assert_int_equal(write(first.peer, "y", 1), 1);
	turn(w);
	assert_int_equal(second.calls, 2);
	mt_poller_close(w->poller, &second.item);
	(void)close(first.peer);
}

/* Two are ready in one batch; the first one's handler parks the other. */
static void test_poller_park_within_batch(void **state)
{
	struct world *w = *state;
	struct probe a, b;
	struct probe *other;
	unsigned events = 0;

	open_probe(w, &a);
	open_probe(w, &b);
	turn(w);
	a.victim = &b;
	b.victim = &a;
	a.park_victim = b.park_victim = true;
	assert_int_equal(write(a.peer, "x", 1), 1);
	assert_int_equal(write(b.peer, "x", 1), 1);
	turn(w);
	assert_int_equal(a.calls + b.calls, 3); /* one of them twice */
	other = a.calls == 1 ? &a : &b;
	assert_int_equal(other->item.fd, -1);
	assert_int_equal(
		mt_poller_take(w->poller, &other->item, other->parked_fd, on_ready, &events), 0);
	assert_true((events & MT_POLL_IN) != 0);
	mt_poller_close(w->poller, &a.item);
	mt_poller_close(w->poller, &b.item);
	(void)close(a.peer);
	(void)close(b.peer);
}

/* The next socket with that number is a new one. */
static void test_poller_close_fd_forgets(void **state)
{
	struct world *w = *state;
	struct probe first, second;
	int fd;

	open_probe(w, &first);
	fd = mt_poller_park(w->poller, &first.item, MT_POLL_HUP);
	(void)close(first.peer);
	mt_poller_close_fd(w->poller, fd);
	open_probe(w, &second);
	assert_true(second.item.fd == fd || second.peer == fd);
	turn(w);
	assert_int_equal(second.events, MT_POLL_OUT);
	mt_poller_close(w->poller, &second.item);
	(void)close(second.peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_poller_reports_edges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_poller_remove_within_handler, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_poller_close_within_handler, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_poller_remove_self_and_add_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poller_add_refuses_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_poller_defer_runs_next_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poller_defer_removed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poller_park_keeps_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poller_park_within_batch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poller_close_fd_forgets, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
