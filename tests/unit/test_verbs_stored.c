/* links: daemon/verbs_stored.c daemon/log.c daemon/log_budget.c daemon/log_ring.c
 * proto/wire/log_line.c proto/wire/err.c
 */
/* What is stored is recorded, whatever becomes of it. The appliance and the replies are stand-ins
 * that remember. */
#include "daemon/verbs_stored.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct mt_reply {
	int recorded;
	int succeeded;
	int failed;
	char code[16];
	char message[256];
};

static struct {
	int prepare;
	int commit;
	bool renewed_tls;
	void (*done)(void *user, bool cancelled);
	void *user;
} fake;

int mt_appliance_prepare(struct mt_appliance *a, struct mt_publication *p,
	const struct mt_settings *settings, bool renew_tls, char *why, size_t why_cap)
{
	(void)a;
	(void)settings;
	fake.renewed_tls = renew_tls;
	(void)snprintf(why, why_cap, "it could not be built");
	*p = (struct mt_publication){.snapshot = NULL};
	return fake.prepare;
}

int mt_appliance_commit(struct mt_appliance *a, struct mt_publication *p,
	void (*done)(void *user, bool cancelled), void *user)
{
	(void)a;
	(void)p;
	fake.done = done;
	fake.user = user;
	return fake.commit;
}

void mt_rules_set_keep(struct mt_rules *rules)
{
	(void)rules;
}

void mt_reply_result(struct mt_reply *reply, json_t *result)
{
	assert_non_null(result);
	reply->recorded++;
	reply->succeeded++;
	json_decref(result);
}

void mt_reply_made(struct mt_reply *reply, json_t *result, const char *code, const char *message,
	const char *next)
{
	(void)next;
	reply->recorded++;
	reply->failed++;
	(void)snprintf(reply->code, sizeof(reply->code), "%s", code);
	(void)snprintf(reply->message, sizeof(reply->message), "%s", message);
	json_decref(result);
}

static struct mt_appliance appliance;

static struct mt_reply publish(int prepare, int commit, json_t *result)
{
	struct mt_reply reply = {0};

	memset(&fake, 0, sizeof(fake));
	fake.prepare = prepare;
	fake.commit = commit;
	mt_stored_publish(&appliance, &reply, true, false, result);
	assert_true(fake.renewed_tls);
	return reply;
}

static void test_publish_not_in_force(void **state)
{
	struct mt_reply reply;

	(void)state;
	reply = publish(MT_E_STORE, 0, json_object());
	assert_int_equal(reply.recorded, 1);
	assert_int_equal(reply.failed, 1);
	assert_non_null(strstr(reply.message, "stored, but not yet in force: it could not be"));
	reply = publish(0, -ENOMEM, json_object());
	assert_int_equal(reply.recorded, 1);
	assert_non_null(strstr(reply.message, "workers could not be told"));
}

static void test_publish_caught_up(void **state)
{
	(void)state;
	appliance.behind = false;
	mt_stored_catch_up(&appliance);
	memset(&fake, 0, sizeof(fake));
	mt_stored_catch_up(&appliance);
	assert_null(fake.done); /* there was nothing to do */
	(void)publish(MT_E_STORE, 0, json_object());
	assert_true(appliance.behind);
	/* A later change does not know of everything that the failed one wanted. */
	(void)publish(0, 0, json_object());
	fake.done(fake.user, false);
	assert_true(appliance.behind);
	fake.prepare = MT_E_STORE;
	mt_stored_catch_up(&appliance);
	assert_true(appliance.behind);
	fake.prepare = 0;
	fake.commit = -ENOMEM;
	mt_stored_catch_up(&appliance);
	assert_true(appliance.behind);
	fake.commit = 0;
	fake.renewed_tls = false;
	mt_stored_catch_up(&appliance);
	assert_false(appliance.behind);
	assert_true(fake.renewed_tls);
	fake.done(fake.user, false);
}

static void test_publish_done(void **state)
{
	static const struct {
		bool cancelled;
		bool no_memory;
		int succeeded;
		const char *code;
	} cases[] = {{false, false, 1, ""}, {true, false, 0, "stopping"},
		{false, true, 0, "failed"}, {true, true, 0, "stopping"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mt_reply reply = {0};

		memset(&fake, 0, sizeof(fake));
		mt_stored_publish(&appliance, &reply, false, false,
			cases[i].no_memory ? NULL : json_object());
		assert_int_equal(reply.recorded, 0); /* not before the workers have it */
		fake.done(fake.user, cases[i].cancelled);
		assert_int_equal(reply.recorded, 1);
		assert_int_equal(reply.succeeded, cases[i].succeeded);
		assert_int_equal(reply.failed, 1 - cases[i].succeeded);
		assert_string_equal(reply.code, cases[i].code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_publish_not_in_force),
		cmocka_unit_test(test_publish_caught_up),
		cmocka_unit_test(test_publish_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
