/* links: ctl/host_checks.c proto/wire/verdict.c */
#include "ctl/host_checks.h"

#include "proto/wire/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants those above first */
#include <cmocka.h>

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	assert_non_null(text);
	return text;
}

static const json_t *find(const json_t *list, const char *check)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);

		if (strcmp(text_of(row, "check"), check) == 0) {
			return row;
		}
	}
	return NULL;
}

/* Whatever machine this is, each check says something, and a bad one what to do. */
static void test_host_checks_each_says_something(void **state)
{
	static const char *const checks[] = {
		"kernel buffers", "kernel pipes", "queueing", "kernel TLS", "group"};
	json_t *list = json_array();

	(void)state;
	mt_host_checks(list, MT_HOST_SYS);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		assert_non_null(find(list, checks[i]));
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);
		const char *verdict = text_of(row, "verdict");

		assert_true(strlen(text_of(row, "text")) > 0);
		if (strcmp(verdict, "warn") == 0 || strcmp(verdict, "fail") == 0) {
			assert_true(strlen(text_of(row, "next")) > 0);
		} else {
			assert_true(strcmp(verdict, "ok") == 0 || strcmp(verdict, "info") == 0);
		}
	}
	json_decref(list);
}

#define GOOD_FILES                                                                                 \
	{"net/core/rmem_max", "4194304"}, {"net/core/wmem_max", "4194304"},                        \
		{"net/ipv4/udp_mem", "186000 248000 372000"}, {"fs/nr_open", "1048576"},           \
		{"fs/file-max", "9223372036854775807"}, {"net/core/somaxconn", "4096"},            \
		{"fs/pipe-user-pages-soft", "262144"}, {"net/core/default_qdisc", "fq"},           \
		{"net/ipv4/tcp_congestion_control", "bbr"},                                        \
	{                                                                                          \
		"net/ipv4/tcp_available_ulp", "espintcp mptcp tls"                                 \
	}

struct setting {
	const char *name;
	const char *value; /* NULL: the file is missing */
};

static void put(const char *root, const char *name, const char *value)
{
	char path[256];
	FILE *out;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
		*at = '\0';
		(void)mkdir(path, 0700); /* it may be there */
	}
	out = fopen(path, "w");
	assert_non_null(out);
	assert_true(fprintf(out, "%s\n", value) > 0);
	assert_int_equal(fclose(out), 0);
}

/* A kernel with good settings, but for one: the check's verdict, a part of its text and of what to
 * run. */
static void expect(struct setting changed, const char *check, const char *verdict, const char *text,
	const char *next)
{
	static const struct setting good[] = {GOOD_FILES};
	static const char *const folders[] = {
		"net/netfilter", "net/ipv4", "net/core", "net", "fs", ""};
	char root[] = "/tmp/mytunnel-sys-XXXXXX", path[256];
	json_t *list = json_array();
	const json_t *row;

	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		put(root, good[i].name, good[i].value);
	}
	put(root, "net/netfilter/nf_conntrack_max", "262144");
	put(root, "net/netfilter/nf_conntrack_count", "1000");
	(void)snprintf(path, sizeof(path), "%s/%s", root, changed.name);
	if (changed.value != NULL) {
		put(root, changed.name, changed.value);
	} else {
		assert_int_equal(remove(path), 0);
	}
	mt_host_checks(list, root);
	row = find(list, check);
	if (verdict == NULL) {
		assert_null(row);
	} else {
		assert_non_null(row);
		assert_string_equal(text_of(row, "verdict"), verdict);
		if (strstr(text_of(row, "text"), text) == NULL) {
			fail_msg("\"%s\" is not in \"%s\"", text, text_of(row, "text"));
		}
		if (strstr(text_of(row, "next"), next) == NULL) {
			fail_msg("\"%s\" is not in \"%s\"", next, text_of(row, "next"));
		}
		if (*next == '\0') {
			assert_string_equal(text_of(row, "next"), "");
		}
	}
	json_decref(list);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", root, good[i].name);
		(void)remove(path); /* one of them is missing */
	}
	(void)snprintf(path, sizeof(path), "%s/net/netfilter/nf_conntrack_max", root);
	(void)remove(path);
	(void)snprintf(path, sizeof(path), "%s/net/netfilter/nf_conntrack_count", root);
	(void)remove(path);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
		assert_int_equal(rmdir(path), 0);
	}
}

static void test_host_checks_limits_of_sockets(void **state)
{
	(void)state;
	expect((struct setting){"fs/nr_open", "1048576"}, "kernel buffers", "ok", "4194304", "");
	expect((struct setting){"net/core/rmem_max", "212992"}, "kernel buffers", "warn",
		"rmem_max is 212992 and net.core.wmem_max 4194304", "net.core.rmem_max=4194304");
	expect((struct setting){"net/core/wmem_max", "212992"}, "kernel buffers", "warn",
		"net.core.wmem_max 212992: at high rates a daemon without CAP_NET_ADMIN waits for",
		"sysctl -w net.core.wmem_max=4194304");
	expect((struct setting){"net/core/wmem_max", NULL}, "kernel buffers", "info",
		"cannot be read", "");
	expect((struct setting){"fs/nr_open", "1048576"}, "udp memory", "ok", "MiB for all", "");
	expect((struct setting){"net/ipv4/udp_mem", "4000 5000 8000"}, "udp memory", "warn",
		"hold 31 MiB", "net.ipv4.udp_mem='");
	expect((struct setting){"net/ipv4/udp_mem", NULL}, "udp memory", NULL, "", "");
	expect((struct setting){"fs/nr_open", "1048576"}, "backlog", "ok", "somaxconn 4096", "");
	expect((struct setting){"net/core/somaxconn", "128"}, "backlog", "warn", "somaxconn is 128",
		"net.core.somaxconn=4096");
}

static void test_host_checks_limits_of_files(void **state)
{
	(void)state;
	expect((struct setting){"net/core/somaxconn", "128"}, "kernel files", "ok",
		"fs.nr_open 1048576", "");
	expect((struct setting){"fs/nr_open", "65536"}, "kernel files", "warn",
		"fs.nr_open is 65536", "sysctl -w fs.nr_open=1048576 && ");
	expect((struct setting){"fs/file-max", "100000"}, "kernel files", "warn",
		"fs.file-max 100000", "sysctl -w fs.file-max=2097152 && ");
	expect((struct setting){"fs/file-max", NULL}, "kernel files", "info", "cannot be read", "");
	expect((struct setting){"fs/nr_open", "1048576"}, "kernel pipes", "ok", "262144", "");
	expect((struct setting){"fs/pipe-user-pages-soft", "16384"}, "kernel pipes", "info",
		"is 16384", "fs.pipe-user-pages-soft=262144");
}

static void test_host_checks_limits_of_the_firewall(void **state)
{
	(void)state;
	expect((struct setting){"fs/nr_open", "1048576"}, "conntrack", "ok", "1000 of 262144", "");
	expect((struct setting){"net/netfilter/nf_conntrack_count", "240000"}, "conntrack", "fail",
		"240000 of 262144", "nf_conntrack_max=524288");
	expect((struct setting){"net/netfilter/nf_conntrack_max", "65536"}, "conntrack", "info",
		"1000 of 65536", "nf_conntrack_max=262144");
	expect((struct setting){"net/netfilter/nf_conntrack_max", NULL}, "conntrack", NULL, "", "");
}

static void test_host_checks_queueing_and_tls(void **state)
{
	(void)state;
	expect((struct setting){"fs/nr_open", "1048576"}, "queueing", "ok", "fq", "");
	expect((struct setting){"net/core/default_qdisc", "pfifo_fast"}, "queueing", "info",
		"default queue pfifo_fast, TCP to targets by bbr", "default_qdisc=fq");
	expect((struct setting){"fs/nr_open", "1048576"}, "kernel TLS", "info", "available", "");
	expect((struct setting){"net/ipv4/tcp_available_ulp", "mptcp"}, "kernel TLS", "info",
		"not loaded", "modprobe tls");
}

static void test_verdict_add_cuts_long_text(void **state)
{
	json_t *list = json_array();
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	mt_verdict_add(list, "name", "ok", "", "%s", text);
	assert_int_equal(json_array_size(list), 1);
	assert_in_range(strlen(text_of(json_array_get(list, 0), "text")), 100, 1000);
	json_decref(list);
}

static void test_verdict_add_keeps_every_part(void **state)
{
	json_t *list = json_array();
	const json_t *row;

	(void)state;
	mt_verdict_add(list, "kernel pipes", "warn", "sudo sysctl -w x=1", "%d of %s", 3, "4");
	row = find(list, "kernel pipes");
	assert_non_null(row);
	assert_string_equal(text_of(row, "verdict"), "warn");
	assert_string_equal(text_of(row, "next"), "sudo sysctl -w x=1");
	assert_string_equal(text_of(row, "text"), "3 of 4");
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_checks_each_says_something),
		cmocka_unit_test(test_host_checks_limits_of_sockets),
		cmocka_unit_test(test_host_checks_limits_of_files),
		cmocka_unit_test(test_host_checks_limits_of_the_firewall),
		cmocka_unit_test(test_host_checks_queueing_and_tls),
		cmocka_unit_test(test_verdict_add_cuts_long_text),
		cmocka_unit_test(test_verdict_add_keeps_every_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
