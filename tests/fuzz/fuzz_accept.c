/* links: web/assets.c */
#include "web/assets.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const struct mt_web_asset mt_web_assets[1];
const size_t mt_web_asset_count = 0;

/* Whatever a header says, one that goes on with a plain "gzip" and has not named it before takes
 * it, and one that begins with the tag matches it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 16);

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	(void)mt_web_accepts_gzip(text);
	(void)mt_web_etag_matches(text, "\"1-2\"");
	if (memchr(data, 'g', size) == NULL && memchr(data, 'G', size) == NULL &&
		memchr(data, '\0', size) == NULL) {
		memcpy(text + size, ",gzip", 6);
		assert(mt_web_accepts_gzip(text));
	}
	memcpy(text, "\"1-2\",", 6);
	memcpy(text + 6, data, size);
	text[size + 6] = '\0';
	assert(mt_web_etag_matches(text, "\"1-2\""));
	free(text);
	return 0;
}
