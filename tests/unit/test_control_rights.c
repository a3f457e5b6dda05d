/* links: daemon/verbs.c daemon/control_peer.c proto/wire/err.c */
#include "daemon/control_peer.h"
#include "daemon/verbs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* The table refers to its handlers; what they do is tested with a running daemon. */
#define HANDLER(name)                                                                              \
	void name(struct mt_appliance *a, json_t *args, struct mt_reply *reply)                    \
	{                                                                                          \
		(void)a;                                                                           \
		(void)args;                                                                        \
		(void)reply;                                                                       \
	}
HANDLER(mt_verb_status)
HANDLER(mt_verb_stats)
HANDLER(mt_verb_version)
HANDLER(mt_verb_connections)
HANDLER(mt_verb_events)
HANDLER(mt_verb_get)
HANDLER(mt_verb_describe)
HANDLER(mt_verb_client_list)
HANDLER(mt_verb_access_list)
HANDLER(mt_verb_access_test)
HANDLER(mt_verb_client_show)
HANDLER(mt_verb_cert_show)
HANDLER(mt_verb_audit)
HANDLER(mt_verb_doctor)
HANDLER(mt_verb_token_create)
HANDLER(mt_verb_token_remove)
HANDLER(mt_verb_set)
HANDLER(mt_verb_reset)
HANDLER(mt_verb_confirm)
HANDLER(mt_verb_client_add)
HANDLER(mt_verb_client_set)
HANDLER(mt_verb_client_disable)
HANDLER(mt_verb_client_enable)
HANDLER(mt_verb_client_kick)
HANDLER(mt_verb_client_revoke)
HANDLER(mt_verb_client_remove)
HANDLER(mt_verb_access_add)
HANDLER(mt_verb_access_remove)
HANDLER(mt_verb_cert_import)
HANDLER(mt_verb_cert_renew)
HANDLER(mt_verb_kick)
HANDLER(mt_verb_backup)
HANDLER(mt_verb_restore_begin)
HANDLER(mt_verb_restore_part)
HANDLER(mt_verb_restore_finish)
HANDLER(mt_verb_drain)
HANDLER(mt_verb_trace_start)
HANDLER(mt_verb_trace_read)
HANDLER(mt_verb_trace_stop)
HANDLER(mt_verb_trace_list)

static enum mt_rights rights_of(uid_t uid, gid_t group)
{
	gid_t groups[] = {5000, group, 5001};
	struct mt_credentials peer = {.uid = uid, .groups = groups, .group_count = 3};

	return mt_control_rights(&peer, 200, 300, 301);
}

static void test_rights(void **state)
{
	(void)state;
	assert_int_equal(rights_of(0, 1), MT_RIGHTS_ADMIN);
	assert_int_equal(rights_of(200, 1), MT_RIGHTS_ADMIN);
	assert_int_equal(rights_of(1000, 300), MT_RIGHTS_ADMIN);
	assert_int_equal(rights_of(1000, 301), MT_RIGHTS_READ);
	assert_int_equal(rights_of(1000, 302), MT_RIGHTS_NONE);
}

static void test_rights_without_groups(void **state)
{
	gid_t nobody = (gid_t)-1;
	struct mt_credentials peer = {.uid = 1000, .groups = &nobody, .group_count = 1};

	(void)state;
	/* A group that does not exist is nobody's, whatever number stands for it. */
	assert_int_equal(mt_control_rights(&peer, 200, (gid_t)-1, (gid_t)-1), MT_RIGHTS_NONE);
	peer.group_count = 0;
	assert_int_equal(mt_control_rights(&peer, 200, 300, 301), MT_RIGHTS_NONE);
}

static void test_identify_own_socket(void **state)
{
	enum mt_rights rights = MT_RIGHTS_NONE;
	uid_t uid = (uid_t)-1;
	pid_t pid = 0;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(mt_control_identify(fds[0], &rights, &uid, &pid), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(rights, MT_RIGHTS_ADMIN);
	assert_int_equal(uid, geteuid());
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void test_verbs_that_change_need_full_rights(void **state)
{
	static const char *const changing[] = {"set", "reset", "confirm", "client.add",
		"client.set", "client.disable", "client.enable", "client.kick", "client.revoke",
		"client.remove", "access.add", "access.remove", "cert.import", "cert.renew", "kick",
		"backup", "restore.begin", "restore.part", "restore.finish", "drain", "trace.start",
		"trace.read", "trace.stop", "trace.list", "token.create", "token.remove"};
	static const char *const reading[] = {"status", "stats", "version", "connections", "events",
		"get", "describe", "client.list", "access.list", "access.test", "client.show",
		"cert.show", "audit", "doctor"};
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(changing) / sizeof(changing[0]); i++) {
		assert_non_null(mt_verb_find(changing[i]));
		assert_int_equal(mt_verb_find(changing[i])->needs, MT_RIGHTS_ADMIN);
	}
	for (size_t i = 0; i < sizeof(reading) / sizeof(reading[0]); i++) {
		assert_non_null(mt_verb_find(reading[i]));
		assert_int_equal(mt_verb_find(reading[i])->needs, MT_RIGHTS_READ);
	}
	(void)mt_verbs_table(&count);
	assert_int_equal(count,
		sizeof(changing) / sizeof(changing[0]) + sizeof(reading) / sizeof(reading[0]));
	assert_null(mt_verb_find("client"));
	assert_null(mt_verb_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_rights_without_groups),
		cmocka_unit_test(test_identify_own_socket),
		cmocka_unit_test(test_verbs_that_change_need_full_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
