/* links: client/profile_file.c proto/wire/profile.c proto/wire/encode.c proto/wire/err.c
 * proto/wire/addr.c proto/wire/bytes.c */
#include "client/profile_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
#define URI "mytunnel://" KEY "@server.example:443#laptop"

static char folder[64];
static bool joined; /* by the last import() */

static int setup(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/test_profile_file.XXXXXX");
	assert_non_null(mkdtemp(folder));
	return setenv("XDG_CONFIG_HOME", folder, 1);
}

static int teardown(void **state)
{
	static const char *const names[] = {"mytunnel/laptop", "mytunnel/laptop.key",
		"mytunnel/other", "mytunnel/vpn", "plain", "mytunnel", ""};
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		(void)remove(path); /* not every test makes all of them */
	}
	return 0;
}

static FILE *input(const char *text)
{
	static char buffer[256];

	(void)snprintf(buffer, sizeof(buffer), "%s", text);
	return fmemopen(buffer, strlen(buffer), "r");
}

static int import(const char *name, const char *text, bool force, char *why)
{
	FILE *in = input(text);
	char path[MT_WHY_MAX];
	int err;

	assert_non_null(in);
	err = mt_profile_import(name, in, force, path, &joined, why);
	assert_int_equal(fclose(in), 0);
	return err;
}

static void test_import_then_load(void **state)
{
	struct mt_profile profile;
	struct stat st;
	char why[MT_WHY_MAX];
	char warning[MT_WHY_MAX];
	char path[128];

	(void)state;
	assert_int_equal(import("laptop", "  " URI "\n", false, why), 0);
	(void)snprintf(path, sizeof(path), "%s/mytunnel/laptop", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(mt_profile_load(&profile, "laptop", stdin, warning, why), 0);
	assert_string_equal(profile.host, "server.example");
	assert_string_equal(warning, "");
	assert_int_equal(import("laptop", URI, false, why), MT_E_EXISTS);
	assert_int_equal(import("laptop", URI, true, why), 0);
	assert_int_equal(import("../x", URI, false, why), MT_E_MALFORMED);
	assert_int_equal(import("other", "mytunnel://", false, why), MT_E_MALFORMED);
}

static void test_load_open_to_others(void **state)
{
	struct mt_profile profile;
	char why[MT_WHY_MAX];
	char warning[MT_WHY_MAX];
	char path[128];
	FILE *out;

	(void)state;
	assert_int_equal(import("laptop", URI, false, why), 0);
	(void)snprintf(path, sizeof(path), "%s/mytunnel/laptop", folder);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(mt_profile_load(&profile, "laptop", stdin, warning, why), MT_E_PERMS);
	assert_non_null(strstr(why, "chmod 600"));

	(void)snprintf(path, sizeof(path), "%s/plain", folder);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_true(fputs(URI "\n", out) >= 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(mt_profile_load(&profile, path, stdin, warning, why), 0);
	assert_non_null(strstr(warning, "chmod 600"));
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(mt_profile_load(&profile, path, stdin, warning, why), 0);
	assert_string_equal(warning, "");
}

static void test_load_joins_key(void **state)
{
	static const char bare[] = "mytunnel://server.example:443#laptop";
	struct mt_profile profile;
	uint8_t key[MT_KEY_LEN];
	char why[MT_WHY_MAX];
	char warning[MT_WHY_MAX];
	char path[MT_WHY_MAX];

	(void)state;
	assert_int_equal(import("laptop", bare, false, why), 0);
	assert_non_null(strstr(why, "keygen"));
	assert_false(joined);
	assert_int_equal(mt_profile_load(&profile, "laptop", stdin, warning, why), MT_E_NOT_FOUND);
	memset(key, 7, sizeof(key));
	assert_int_equal(mt_profile_store_key("laptop", key, false, path, why), 0);
	assert_int_equal(mt_profile_store_key("laptop", key, false, path, why), MT_E_EXISTS);
	assert_int_equal(mt_profile_load(&profile, "laptop", stdin, warning, why), 0);
	assert_true(profile.has_key);
	assert_memory_equal(profile.key, key, sizeof(key));
	assert_int_equal(import("vpn", bare, false, why), 0); /* the key of the client's name */
	assert_true(joined);
	assert_string_equal(why, "");
	assert_int_equal(mt_profile_load(&profile, "vpn", stdin, warning, why), 0);
	assert_memory_equal(profile.key, key, sizeof(key));
	assert_int_equal(chmod(path, 0604), 0);
	assert_int_equal(mt_profile_load(&profile, "laptop", stdin, warning, why), MT_E_PERMS);
}

static void test_load_standard_input_and_uri(void **state)
{
	struct mt_profile profile;
	char why[MT_WHY_MAX];
	char warning[MT_WHY_MAX];
	FILE *in = input(URI "\n");

	(void)state;
	assert_non_null(in);
	assert_int_equal(mt_profile_load(&profile, "-", in, warning, why), 0);
	assert_string_equal(profile.name, "laptop");
	assert_int_equal(fclose(in), 0);
	assert_int_equal(mt_profile_load(&profile, URI, stdin, warning, why), MT_E_DENIED);
	assert_null(strstr(why, KEY));
	assert_int_equal(mt_profile_load(&profile, "nothing", stdin, warning, why), MT_E_NOT_FOUND);
	assert_int_equal(mt_profile_load(&profile, "./", stdin, warning, why), -EISDIR);
	assert_non_null(strstr(why, "directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_import_then_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_open_to_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_joins_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_standard_input_and_uri, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
