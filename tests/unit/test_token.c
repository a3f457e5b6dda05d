/* links: web/token.c proto/wire/encode.c */
#include "web/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_accepts(void **state)
{
	uint8_t hash[MT_TOKEN_HASH_LEN];

	(void)state;
	mt_token_hash("secret:1", hash);
	assert_true(mt_token_accepts("Bearer secret:1", hash));
	assert_true(mt_token_accepts("bearer   secret:1", hash));
	assert_true(mt_token_accepts("Basic YW55OnNlY3JldDox", hash)); /* any:secret:1 */
	assert_true(mt_token_accepts("basic OnNlY3JldDox", hash));     /* :secret:1 */
}

static void test_refuses(void **state)
{
	static const char *const bad[] = {"", "Bearer", "Bearer ", "Bearer secret:", "secret:1",
		"Bearer secret:1 ", "Bearersecret:1", "Basic secret:1", "Basic ", "Basic",
		"Basic c2VjcmV0OjE=" /* secret:1: its password is 1 */, "Basic YW55",
		"Digest username=\"secret:1\"", "Basic YW55OnNlY3JldDoxAA==" /* with a NUL */,
		"Basic ====", "Basic YW55OnNlY3JldDox YW55"};
	uint8_t hash[MT_TOKEN_HASH_LEN];

	(void)state;
	mt_token_hash("secret:1", hash);
	assert_false(mt_token_accepts(NULL, hash));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(mt_token_accepts(bad[i], hash));
	}
	mt_token_hash("", hash);
	assert_false(mt_token_accepts("Bearer ", hash));
	assert_false(mt_token_accepts("Basic Og==", hash)); /* ":" */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
