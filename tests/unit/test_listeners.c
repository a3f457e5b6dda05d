/* links: daemon/listeners.c daemon/listener_list.c daemon/log.c daemon/log_budget.c
 * daemon/log_ring.c proto/wire/log_line.c proto/wire/addr.c proto/wire/err.c
 */
/* The end of addresses that were given up. Workers are stand-ins: what they are asked is done at
 * once, and remembered.
 */
#include "daemon/appliance.h"

#include "daemon/listeners.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WORKERS 2

static struct mt_appliance appliance;

static struct {
	unsigned users[8]; /* of a listener, on each worker */
	unsigned ended[8];
	unsigned closed[8];
	unsigned retired_again; /* the first one, while it is counted */
	char events[256];
	bool refuses; /* to start a round */
} fake;

int mt_appliance_ask(struct mt_appliance *a, int only, const struct mt_round_ops *ops, void *user)
{
	(void)a;
	assert_int_equal(only, -1);
	if (fake.refuses) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		if (ops->work != NULL) {
			ops->work(NULL, i, user);
			continue;
		}
		while (ops->work_some(NULL, i, user)) {
		}
	}
	ops->done(user, false);
	return 0;
}

/* Two pieces of a walk, which starts from its beginning. */
static bool walk(struct mt_walk *walk)
{
	walk->is_begun = !walk->is_begun;
	return walk->is_begun;
}

bool mt_worker_count_some_users(struct mt_worker *w, struct mt_walk *way, const unsigned *listeners,
	size_t count, unsigned *users)
{
	(void)w;
	for (size_t i = 0; i < count && !way->is_begun; i++) {
		users[i] += fake.users[listeners[i]];
		if (listeners[i] == fake.retired_again) {
			appliance.listeners.list[0].retired_ms++;
		}
	}
	return walk(way);
}

bool mt_worker_end_some_users(
	struct mt_worker *w, struct mt_walk *way, const unsigned *listeners, size_t count)
{
	(void)w;
	for (size_t i = 0; i < count && !way->is_begun; i++) {
		fake.ended[listeners[i]]++;
	}
	return walk(way);
}

void mt_worker_close_socket(struct mt_worker *w, unsigned listener)
{
	(void)w;
	fake.closed[listener]++;
}

void mt_worker_retire_socket(struct mt_worker *w, unsigned listener, bool retired)
{
	(void)w;
	(void)listener;
	(void)retired;
}

int mt_worker_add_socket(struct mt_worker *w, unsigned listener, const struct mt_udp_socket *socket)
{
	(void)w;
	(void)listener;
	(void)socket;
	return 0;
}

int mt_listen_open(struct mt_listen *out, const struct mt_listen_request *request, char *why,
	size_t why_cap, char *next, size_t next_cap)
{
	(void)out;
	(void)request;
	(void)why;
	(void)why_cap;
	(void)next;
	(void)next_cap;
	return MT_E_LIMIT;
}

void mt_listen_close(struct mt_listen *l)
{
	(void)l;
}

size_t mt_settings_addrs(
	const struct mt_settings *settings, enum mt_setting_id id, struct mt_addr *out, size_t cap)
{
	(void)settings;
	(void)id;
	(void)out;
	(void)cap;
	return 0;
}

void mt_appliance_post_facts(struct mt_appliance *a)
{
	(void)a;
}

void mt_events_add(struct mt_events *e, const char *event, json_t *fields)
{
	size_t len = strlen(fake.events);

	(void)e;
	(void)snprintf(fake.events + len, sizeof(fake.events) - len, "%s ", event);
	json_decref(fields);
}

static struct mt_listener *add(unsigned id, const char *addr, int state)
{
	struct mt_listener *l = &appliance.listeners.list[appliance.listeners.count++];

	*l = (struct mt_listener){.id = id, .retired_ms = uv_now(appliance.loop)};
	assert_int_equal(mt_addr_parse(&l->addr, addr), 0);
	l->state = (unsigned)state;
	return l;
}

static int set_up(void **state)
{
	static uv_loop_t loop;

	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(&appliance, 0, sizeof(appliance));
	appliance.loop = &loop;
	return uv_loop_init(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	return uv_loop_close(appliance.loop);
}

/* One that is used no more is closed at once, those that are used stay, as do those that serve. */
static void test_tick_closes_unused(void **state)
{
	(void)state;
	add(1, "127.0.0.1:1", MT_LISTENER_SERVES);
	add(2, "127.0.0.1:2", MT_LISTENER_RETIRED);
	add(3, "127.0.0.1:3", MT_LISTENER_RETIRED);
	fake.users[3] = 1;
	mt_listeners_tick(&appliance, true); /* a change is on trial */
	assert_int_equal(appliance.listeners.count, 3);
	mt_listeners_tick(&appliance, false);
	assert_int_equal(appliance.listeners.count, 2);
	assert_int_equal(fake.closed[2], WORKERS);
	assert_int_equal(appliance.listeners.list[0].id, 1);
	assert_int_equal(appliance.listeners.list[1].id, 3);
	assert_int_equal(fake.ended[3], 0);
	assert_string_equal(fake.events, "listener_closed ");
}

/* After the longest time the connections that are left are ended, and then it is closed. */
static void test_tick_ends_late_users(void **state)
{
	struct mt_listener *late;

	(void)state;
	add(1, "127.0.0.1:1", MT_LISTENER_SERVES);
	late = add(2, "127.0.0.1:2", MT_LISTENER_RETIRED);
	add(3, "127.0.0.1:3", MT_LISTENER_RETIRED);
	fake.users[1] = fake.users[2] = fake.users[3] = 1;
	late->retired_ms = uv_now(appliance.loop) - MT_RETIRED_MAX_MS;
	mt_listeners_tick(&appliance, false);
	assert_int_equal(fake.ended[2], 0);
	late->retired_ms--;
	mt_listeners_tick(&appliance, false);
	assert_int_equal(fake.ended[2], WORKERS);
	assert_int_equal(fake.ended[1] + fake.ended[3], 0);
	assert_int_equal(late->state, MT_LISTENER_ENDING);
	assert_int_equal(appliance.listeners.count, 3);
	mt_listeners_tick(&appliance, false);
	assert_int_equal(fake.closed[2], WORKERS);
	assert_int_equal(fake.closed[1] + fake.closed[3], 0);
	assert_int_equal(appliance.listeners.count, 2);
	assert_false(appliance.listeners.asking);
}

/* What was counted before a listener served once more says nothing about it. */
static void test_tick_leaves_retired_again(void **state)
{
	(void)state;
	add(1, "127.0.0.1:1", MT_LISTENER_RETIRED);
	fake.retired_again = 1;
	mt_listeners_tick(&appliance, false);
	assert_int_equal(appliance.listeners.list[0].state, MT_LISTENER_RETIRED);
	assert_int_equal(fake.closed[1], 0);
	assert_false(appliance.listeners.asking);
	fake.retired_again = 0;
	appliance.listeners.list[0].retired_ms = uv_now(appliance.loop);
	mt_listeners_tick(&appliance, false);
	assert_int_equal(fake.closed[1], WORKERS);
}

/* A change that cannot be handed over has changed nothing and told nothing. */
static void test_move_start_refused(void **state)
{
	struct mt_udp_socket sockets[WORKERS] = {{.fd = -1}, {.fd = -1}};
	struct mt_move move = {.listen = {.sockets = sockets, .workers = WORKERS, .addr_count = 1},
		.prepared = true};

	(void)state;
	add(1, "127.0.0.1:1", MT_LISTENER_SERVES);
	appliance.listeners.last_id = 1;
	assert_int_equal(mt_addr_parse(&move.listen.addrs[0], "127.0.0.1:2"), 0);
	fake.refuses = true;
	assert_int_equal(mt_move_start(&move, &appliance), -ENOMEM);
	assert_true(move.prepared);
	assert_int_equal(appliance.listeners.count, 1);
	assert_int_equal(appliance.listeners.list[0].state, MT_LISTENER_SERVES);
	assert_string_equal(fake.events, "");
	fake.refuses = false;
	assert_int_equal(mt_move_start(&move, &appliance), 0);
	assert_false(move.prepared);
	assert_int_equal(appliance.listeners.count, 2);
	assert_int_equal(appliance.listeners.list[0].state, MT_LISTENER_RETIRED);
	assert_string_equal(fake.events, "listener_retired listening ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_move_start_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tick_closes_unused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tick_ends_late_users, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tick_leaves_retired_again, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
