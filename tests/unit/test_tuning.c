/* links: daemon/tuning.c daemon/tuning_read.c daemon/process.c daemon/memory.c
 * proto/io/udp_socket.c proto/io/steer.c proto/wire/settings.c proto/wire/settings_table.c
 * proto/wire/addr.c proto/wire/err.c proto/wire/bytes.c proto/wire/encode.c
 * proto/wire/verdict.c
 */
#include "daemon/tuning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants those above first */
#include <cmocka.h>

#define MIB (UINT64_C(1024) * 1024)

/* A machine without a fault. */
static struct mt_tuning good(void)
{
	return (struct mt_tuning){
		.max_connections = 100000,
		.workers = 4,
		.tls_enabled = true,
		.files_max = 1048576,
		.files_used = 100,
		.receive_buffer = MT_TUNING_BUFFER,
		.send_buffer = MT_TUNING_BUFFER,
		.gso = true,
		.gro = true,
		.messages = 77,
		.machine_memory = 8192 * MIB,
	};
}

/* The one verdict about `check`: its text holds `text`, what to run next holds `next`. */
static void expect(const struct mt_tuning *t, const char *check, const char *verdict,
	const char *text, const char *next)
{
	json_t *list = json_array();
	unsigned found = 0;
	size_t i;
	json_t *row;

	mt_tuning_checks(list, t);
	json_array_foreach(list, i, row)
	{
		const char *says = json_string_value(json_object_get(row, "text"));
		const char *run = json_string_value(json_object_get(row, "next"));

		if (strcmp(json_string_value(json_object_get(row, "check")), check) != 0) {
			continue;
		}
		found++;
		assert_string_equal(json_string_value(json_object_get(row, "verdict")), verdict);
		if (strstr(says, text) == NULL) {
			fail_msg("\"%s\" is not in \"%s\"", text, says);
		}
		if (next == NULL) {
			assert_string_equal(run, "");
		} else if (strstr(run, next) == NULL) {
			fail_msg("\"%s\" is not in \"%s\"", next, run);
		}
	}
	assert_int_equal(found, 1);
	json_decref(list);
}

static void test_tuning_checks_good_machine(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	expect(&t, "open files", "ok", "100 of 1048576", NULL);
	expect(&t, "udp buffers", "ok", "4096 KiB to receive", NULL);
	expect(&t, "offload", "ok", "none refused in 77", NULL);
	expect(&t, "cpu", "ok", "4 workers, no quota", NULL);
	expect(&t, "memory", "ok", "6144 MiB of the machine's 8192", NULL);
}

static void test_tuning_checks_files(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	t.files_max = 1024;
	expect(&t, "open files", "warn", "at most 1024 open files, 100 in use",
		"LimitNOFILE=1048576");
	t.files_used = 1000;
	expect(&t, "open files", "fail", "1000 of 1024", "LimitNOFILE=1048576");
	t = good();
	t.files_max = 524288; /* enough for 87,000 tunnels over TLS, or for 262,144 over QUIC */
	expect(&t, "open files", "info", "quic.max_connections 100000", "LimitNOFILE=1048576");
	t.tls_enabled = false;
	expect(&t, "open files", "ok", "of 524288", NULL);
	t.max_connections = 1000000;
	expect(&t, "open files", "info", "up to 2000000", "LimitNOFILE=2000000");
	t.files_max = UINT64_MAX;
	expect(&t, "open files", "ok", "100 of", NULL);
}

static void test_tuning_checks_buffers(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	t.receive_buffer = 212992;
	expect(&t, "udp buffers", "warn", "208 KiB to receive and 4096 KiB to send instead of 4096",
		"sysctl -w net.core.rmem_max=4194304 && ");
	expect(&t, "udp buffers", "warn", "busy for 0.9 ms", "restart mytunnel");
	t = good();
	t.send_buffer = 212992;
	expect(&t, "udp buffers", "warn",
		"208 KiB to send instead of 4096: packets wait for room, which",
		"sysctl -w net.core.wmem_max=4194304 && ");
	t.socket_error = "out of files";
	expect(&t, "udp buffers", "fail", "out of files", "restart mytunnel");
}

static void test_tuning_checks_offload(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	t.gso_fallbacks = 3;
	expect(&t, "offload", "warn", "refused batches 3 times", "ethtool");
	t.gso = false;
	expect(&t, "offload", "warn", "lacks UDP_SEGMENT:", "5.0");
	t.gro = false;
	expect(&t, "offload", "warn", "lacks UDP_SEGMENT and UDP_GRO:", "5.0");
	t.gso = true;
	expect(&t, "offload", "warn", "lacks UDP_GRO:", "5.0");
}

static void test_tuning_checks_cpu(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	t.cpus = 1.5;
	expect(&t, "cpu", "info", "4 workers share the control group's quota of 1.50",
		"CPUQuota=400%, or mytunnelctl set server.workers 1");
	t.periods = 1000;
	t.throttled = 10; /* now and then is nothing to be told */
	expect(&t, "cpu", "info", "quota of 1.50", "CPUQuota=400%");
	t.throttled = 11;
	t.throttled_ms = 420;
	expect(&t, "cpu", "warn", "in 11 of 1000 periods: the daemon stood still for 420 ms",
		"CPUQuota=400%");
	t.cpus = 4;
	t.throttled = 0;
	expect(&t, "cpu", "ok", "a quota of 4.00", NULL);
	t.cpus = 0.5;
	expect(&t, "cpu", "info", "quota of 0.50", "server.workers 1");
}

static void test_tuning_checks_memory(void **state)
{
	struct mt_tuning t = good();

	(void)state;
	t.memory_limit = 9000 * MIB;
	expect(&t, "memory", "warn", "limits.max_memory_mb is 9000, the machine has 8192",
		"limits.max_memory_mb 6144");
	t.memory_limit = 1000 * MIB;
	expect(&t, "memory", "ok", "1000 MiB of the machine's 8192", NULL);
	t.group_memory = 512 * MIB;
	expect(&t, "memory", "warn", "the control group has 512", "limits.max_memory_mb 384");
	t.memory_limit = 0;
	expect(&t, "memory", "ok", "384 MiB of the control group's 512", NULL);
}

static void put(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *out;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
}

/* The tightest quota on the way up counts, with its own account of what it held up. */
static void test_tuning_read_group(void **state)
{
	static const char *const files[] = {"slice/x.service/cpu.max", "slice/x.service/cpu.stat",
		"slice/x.service", "slice/cpu.max", "slice/cpu.stat", "slice/memory.max", "slice",
		"cpu.max", "self"};
	char root[] = "/tmp/mytunnel-group-XXXXXX";
	char service[256], self[256];
	struct mt_tuning t = {0};

	(void)state;
	assert_non_null(mkdtemp(root));
	(void)snprintf(service, sizeof(service), "%s/slice", root);
	assert_int_equal(mkdir(service, 0700), 0);
	(void)snprintf(service, sizeof(service), "%s/slice/x.service", root);
	assert_int_equal(mkdir(service, 0700), 0);
	(void)snprintf(self, sizeof(self), "%s/self", root);
	put(root, "self", "1:name=systemd:/old\n0::/slice/x.service\n");
	put(service, "cpu.max", "max 100000\n");
	mt_tuning_read_group(&t, self, root);
	assert_true(t.cpus == 0);
	assert_int_equal(t.group_memory, 0);

	put(service, "cpu.max", "300000 100000\n");
	put(service, "cpu.stat", "usage_usec 1\nnr_periods 1\nnr_throttled 1\n");
	put(root, "slice/cpu.max", "150000 100000\n");
	put(root, "slice/cpu.stat",
		"usage_usec 9\nnr_periods 50\nnr_throttled 7\nthrottled_usec 123456\n");
	put(root, "slice/memory.max", "268435456\n");
	mt_tuning_read_group(&t, self, root);
	assert_true(t.cpus > 1.49 && t.cpus < 1.51);
	assert_int_equal(t.periods, 50);
	assert_int_equal(t.throttled, 7);
	assert_int_equal(t.throttled_ms, 123);
	assert_int_equal(t.group_memory, 256 * MIB);

	put(root, "self", "0::/\n"); /* a container: its own group looks like the root */
	put(root, "cpu.max", "50000 100000\n");
	t = (struct mt_tuning){0};
	mt_tuning_read_group(&t, self, root);
	assert_true(t.cpus > 0.49 && t.cpus < 0.51);

	t = (struct mt_tuning){0};
	mt_tuning_read_group(&t, "/nonexistent", "/nonexistent");
	assert_true(t.cpus == 0);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[256];

		(void)snprintf(path, sizeof(path), "%s/%s", root, files[i]);
		assert_int_equal(remove(path), 0);
	}
	assert_int_equal(rmdir(root), 0);
}

/* Whatever machine this is, something is known about it. */
static void test_tuning_read(void **state)
{
	struct mt_tuning t = {.workers = 1};

	(void)state;
	mt_tuning_read(&t);
	assert_null(t.socket_error);
	assert_true(t.files_max > 0 && t.files_used > 0);
	assert_true(t.receive_buffer > 0 && t.send_buffer > 0);
	assert_true(t.machine_memory > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tuning_checks_good_machine),
		cmocka_unit_test(test_tuning_checks_files),
		cmocka_unit_test(test_tuning_checks_buffers),
		cmocka_unit_test(test_tuning_checks_offload),
		cmocka_unit_test(test_tuning_checks_cpu),
		cmocka_unit_test(test_tuning_checks_memory),
		cmocka_unit_test(test_tuning_read_group),
		cmocka_unit_test(test_tuning_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
