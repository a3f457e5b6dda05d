/* links: web/hub.c web/hub_reader.c web/metrics.c proto/wire/err.c */
#include "web/hub.h"

#include "web/hub_impl.h"

#include <microhttpd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int connection; /* its address stands for a connection */
static unsigned suspended;
static unsigned resumed;
static unsigned wanted;

void MHD_suspend_connection(struct MHD_Connection *c)
{
	assert_ptr_equal(c, &connection);
	suspended++;
}

void MHD_resume_connection(struct MHD_Connection *c)
{
	assert_ptr_equal(c, &connection);
	resumed++;
}

static void want(void *user, enum mt_web_listing which)
{
	(void)user;
	(void)which;
	wanted++;
}

static const struct mt_web_view view = {.want = want};

static enum mt_hub_answer get(
	struct mt_hub *hub, struct mt_hub_user *user, bool waited, struct mt_hub_rows **rows)
{
	return mt_hub_get(hub, user, (struct MHD_Connection *)&connection, &view,
		MT_WEB_CONNECTIONS, waited, rows);
}

static int setup(void **state)
{
	(void)state;
	suspended = resumed = wanted = 0;
	return 0;
}

static void test_get_waits_once_then_shares(void **state)
{
	struct mt_hub *hub = mt_hub_new("0", 1);
	struct mt_hub_user user = {.closing = false};
	struct mt_hub_rows *rows = NULL;
	struct mt_hub_rows *same = NULL;

	(void)state;
	assert_int_equal(get(hub, &user, false, &rows), MT_HUB_WAIT);
	assert_int_equal(get(hub, &user, false, &rows), MT_HUB_WAIT);
	assert_int_equal(suspended, 2);
	assert_int_equal(wanted, 1); /* one picture for both */
	mt_hub_publish(hub, MT_WEB_CONNECTIONS, calloc(1, 64), 1);
	assert_int_equal(resumed, 2);
	assert_int_equal(get(hub, &user, true, &rows), MT_HUB_READY);
	assert_int_equal(get(hub, &user, false, &same), MT_HUB_READY);
	assert_ptr_equal(rows, same);
	mt_hub_put(hub, rows);
	mt_hub_put(hub, same);
	mt_hub_free(hub);
}

/* What was as large as all connections does not stay for good. */
static void test_expire_lets_go_of_old_pictures(void **state)
{
	struct mt_hub *hub = mt_hub_new("0", 1);
	struct mt_hub_user user = {.closing = false};
	struct mt_hub_rows *rows = NULL;

	(void)state;
	mt_hub_publish(hub, MT_WEB_CONNECTIONS, calloc(1, 64), 1);
	mt_hub_expire(hub);
	assert_non_null(hub->pictures[MT_WEB_CONNECTIONS]);
	assert_int_equal(get(hub, &user, false, &rows), MT_HUB_READY);
	hub->pictures[MT_WEB_CONNECTIONS]->at_ms -= MT_HUB_KEEP_MS + 1;
	mt_hub_expire(hub);
	assert_null(hub->pictures[MT_WEB_CONNECTIONS]);
	assert_int_equal(rows->count, 1); /* who looks at it keeps it */
	mt_hub_put(hub, rows);
	assert_int_equal(get(hub, &user, true, &rows), MT_HUB_REFUSED);
	mt_hub_free(hub);
}

static void test_release_resumes_and_refuses(void **state)
{
	struct mt_hub *hub = mt_hub_new("0", 1);
	struct mt_hub_user user = {.closing = false};
	struct mt_hub_user other = {.closing = false};
	struct mt_hub_rows *rows = NULL;

	(void)state;
	assert_int_equal(get(hub, &user, false, &rows), MT_HUB_WAIT);
	assert_int_equal(get(hub, &other, false, &rows), MT_HUB_WAIT);
	mt_hub_release(hub, &user);
	assert_int_equal(resumed, 1); /* the other endpoint's goes on waiting */
	assert_int_equal(get(hub, &user, true, &rows), MT_HUB_REFUSED);
	assert_int_equal(get(hub, &user, false, &rows), MT_HUB_REFUSED);
	mt_hub_release(hub, &other);
	assert_int_equal(resumed, 2);
	mt_hub_free(hub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_get_waits_once_then_shares, setup),
		cmocka_unit_test_setup(test_expire_lets_go_of_old_pictures, setup),
		cmocka_unit_test_setup(test_release_resumes_and_refuses, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
