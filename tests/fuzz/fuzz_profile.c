/* links: proto/wire/profile.c proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c */
#include "proto/wire/profile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* parse(format(x)) = x, and a refusal points into the text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), buf[MT_PROFILE_MAX + 1];
	struct mt_profile profile, again;
	const char *what = NULL;
	size_t where = 0;
	int err = 0;

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	err = mt_profile_parse(&profile, text, &where, &what);
	if (err == 0) {
		assert(what == NULL);
		assert(mt_profile_format(&profile, buf, sizeof(buf)) == 0);
		assert(mt_profile_parse(&again, buf, NULL, NULL) == 0);
		assert(memcmp(&profile, &again, sizeof(profile)) == 0);
	} else {
		assert(err == MT_E_MALFORMED || err == MT_E_TOO_LONG);
		assert(what != NULL && where <= strlen(text));
	}
	free(text);
	return 0;
}
