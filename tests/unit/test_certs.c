/* links: daemon/certs.c store/store.c store/store_db.c
 * store/store_schema.c store/store_settings.c store/store_clients.c store/store_usage.c
 * store/store_certs.c store/store_secrets.c store/store_backup.c store/store_audit.c
 * store/store_column.c store/pki.c store/pki_check.c proto/quic/identity.c
 * proto/wire/err.c proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c
 * proto/wire/profile.c proto/wire/encode.c proto/wire/bytes.c tests/unit/store_folder.c
 */
#include "daemon/certs.h"

#include "store/pki.h"
#include "tests/unit/store_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DAY 86400

static bool ensure(struct mt_store *store, bool renew, int64_t now)
{
	char why[512] = "";
	bool changed = false;

	assert_int_equal(mt_certs_ensure(store, renew, now, &changed, why, sizeof(why)), 0);
	return changed;
}

static void describe(struct mt_store *store, enum mt_store_cert which, struct mt_cert_info *info)
{
	char *chain = NULL;
	char *key = NULL;

	assert_int_equal(mt_store_cert_get(store, which, &chain, &key), 0);
	assert_int_equal(mt_pki_describe(chain, info), 0);
	free(chain);
	free(key);
}

/* A month before its end the certificate is made anew, under the same authority. */
static void test_ensure_renews_in_time(void **state)
{
	struct mt_store *store = store_must_open(*state);
	struct mt_cert_info first;
	struct mt_cert_info second;
	int64_t now = (int64_t)time(NULL);

	assert_true(ensure(store, true, now));
	describe(store, MT_CERT_SERVER, &first);
	assert_false(ensure(store, true, now));
	assert_false(ensure(store, true, first.not_after - 31 * DAY));
	assert_false(ensure(store, false, first.not_after - 29 * DAY));
	assert_true(ensure(store, true, first.not_after - 29 * DAY));
	describe(store, MT_CERT_SERVER, &second);
	assert_string_not_equal(first.fingerprint, second.fingerprint);
	assert_memory_equal(first.pin, second.pin, sizeof(first.pin));
	assert_false(ensure(store, true, now));
	mt_store_close(store);
}

/* What cannot be read says which file it is about and what to do. */
static void test_explain(void **state)
{
	struct mt_store *store = store_must_open(*state);
	char why[512] = "";
	bool changed = false;

	assert_true(ensure(store, true, (int64_t)time(NULL)));
	assert_int_equal(mt_store_cert_put(store, MT_CERT_CA, "no chain", "no key"), 0);
	assert_int_not_equal(mt_certs_renew(store, why, sizeof(why)), 0);
	assert_non_null(strstr(why, mt_store_path(store)));
	assert_non_null(strstr(why, "backup"));
	assert_int_not_equal(
		mt_certs_ensure(store, true, INT64_C(1) << 40, &changed, why, sizeof(why)), 0);
	assert_false(changed);
	mt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_ensure_renews_in_time, store_setup, store_teardown),
		cmocka_unit_test_setup_teardown(test_explain, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
