/* links: daemon/memory.c proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c
 * proto/wire/err.c proto/wire/bytes.c proto/wire/encode.c
 */
#include "daemon/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static char root[] = "/tmp/mt-groups-XXXXXX";

static void put(const char *dir, const char *text)
{
	char path[256];
	FILE *file;

	assert_true(snprintf(path, sizeof(path), "%s%s", root, dir) > 0);
	if (mkdir(path, 0700) != 0) {
		/* the root is there */
	}
	assert_true(snprintf(path, sizeof(path), "%s%s/memory.max", root, dir) > 0);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void take_away(const char *dir)
{
	char path[256];

	assert_true(snprintf(path, sizeof(path), "%s%s/memory.max", root, dir) > 0);
	assert_int_equal(unlink(path), 0);
	assert_true(snprintf(path, sizeof(path), "%s%s", root, dir) > 0);
	assert_int_equal(rmdir(path), 0);
}

static void test_of_group_least_counts(void **state)
{
	static const char *const dirs[] = {"", "/system.slice", "/system.slice/a.service",
		"/low.slice", "/low.slice/b.service", "/low.slice/c.service"};

	(void)state;
	assert_non_null(mkdtemp(root));
	put("/system.slice", "max\n");
	put("/system.slice/a.service", "4194304\n");
	put("/low.slice", "1048576\n");
	put("/low.slice/b.service", "8388608\n");
	put("/low.slice/c.service", "rubbish\n");
	assert_true(mt_memory_of_group(root, "/system.slice") == UINT64_MAX);
	assert_int_equal(mt_memory_of_group(root, "/system.slice/a.service"), 4194304);
	assert_int_equal(mt_memory_of_group(root, "/low.slice/b.service"), 1048576);
	assert_int_equal(mt_memory_of_group(root, "/low.slice/c.service"), 1048576);
	assert_true(mt_memory_of_group(root, "/none/at/all") == UINT64_MAX);
	assert_true(mt_memory_of_group(root, "/") == UINT64_MAX);
	put("", "2097152\n");
	assert_int_equal(mt_memory_of_group(root, "/"), 2097152);
	assert_int_equal(mt_memory_of_group(root, "/system.slice/a.service"), 2097152);
	for (size_t i = sizeof(dirs) / sizeof(dirs[0]); i-- > 0;) {
		take_away(dirs[i]);
	}
}

static void test_limit_of_setting(void **state)
{
	struct mt_settings settings;

	(void)state;
	mt_settings_init(&settings);
	assert_in_range(mt_memory_limit(&settings), 1u << 20, INT64_MAX);
	memcpy(settings.text[MT_SET_LIMITS_MAX_MEMORY_MB], "300", 4);
	assert_int_equal(mt_memory_limit(&settings), 300u << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_group_least_counts),
		cmocka_unit_test(test_limit_of_setting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
