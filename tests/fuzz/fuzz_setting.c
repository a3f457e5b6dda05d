/* links: proto/wire/settings.c proto/wire/settings_table.c proto/wire/addr.c */
#include "proto/wire/settings.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses the setting. What is accepted is a fixed point and has a value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mt_settings settings;
	char out[MT_SETTING_VALUE_MAX], again[MT_SETTING_VALUE_MAX], why[256] = "", *text = NULL;
	const struct mt_setting *s = NULL;
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];

	if (size == 0) {
		return 0;
	}
	text = malloc(size);
	assert(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	s = &mt_settings_table()[data[0] % MT_SETTING_COUNT];
	(void)mt_setting_suggest(text); /* must only not crash */
	assert(mt_setting_find(text) == NULL ||
		mt_setting_suggest(text) == mt_setting_find(text)->key);
	if (mt_setting_normalize(s, text, out, why, sizeof(why)) == 0) {
		assert(why[0] == '\0');
		assert(mt_setting_normalize(s, out, again, why, sizeof(why)) == 0);
		assert(strcmp(out, again) == 0);
		mt_settings_init(&settings);
		memcpy(settings.text[s->id], out, strlen(out) + 1);
		if (s->type == MT_SETTING_INT || s->type == MT_SETTING_SIZE ||
			s->type == MT_SETTING_DURATION) {
			int64_t v = mt_settings_int(&settings, s->id);

			assert(v >= s->minimum && v <= s->maximum);
		} else if (s->type == MT_SETTING_ADDRS) {
			size_t n = mt_settings_addrs(&settings, s->id, addrs, MT_SETTING_ADDRS_MAX);

			assert((int64_t)n >= s->minimum && (int64_t)n <= s->maximum);
		}
	} else {
		assert(strncmp(why, s->key, strlen(s->key)) == 0);
	}
	free(text);
	return 0;
}
