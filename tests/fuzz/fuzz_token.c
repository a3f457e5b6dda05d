/* links: web/token.c proto/wire/encode.c */
#include "web/token.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An Authorization header of any bytes is read within its bounds, and opens nothing: the token is
 * out of reach. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t hash[MT_TOKEN_HASH_LEN];
	char *header = malloc(size + 1);

	assert(header != NULL);
	memcpy(header, data, size);
	header[size] = '\0';
	mt_token_hash("o8VtxljcLQvtltTQsmaWKLjnFk1KR9fNmihIa82afwo", hash);
	assert(!mt_token_accepts(header, hash));
	free(header);
	return 0;
}
