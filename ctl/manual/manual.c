/* Writes a manual page: copies standard input, and puts the settings, from the table by which the
 * daemon validates them, where a line says so. Used when building.
 */
#include "proto/wire/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MARK ".\\\" settings\n"

/* Hyphens that are meant as such. */
static void put_escaped(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '-') {
			fputs("\\-", stdout);
		} else if (*text == '\\') {
			fputs("\\e", stdout);
		} else {
			putchar(*text);
		}
	}
}

static void put_number(const struct mt_setting *s, int64_t number)
{
	char text[32];
	char canonical[MT_SETTING_VALUE_MAX];
	char why[256];

	(void)snprintf(text, sizeof(text), "%" PRId64, number); /* fits */
	/* A bound is a valid value, and its canonical form is the one that people write. */
	fputs(mt_setting_normalize(s, text, canonical, why, sizeof(why)) == 0 ? canonical : text,
		stdout);
}

static void put_values(const struct mt_setting *s)
{
	switch (s->type) {
	case MT_SETTING_BOOL: puts("Takes on or off."); break;
	case MT_SETTING_ENUM:
		fputs("Takes one of", stdout);
		for (const char *at = s->choices; *at != '\0';) {
			size_t len = strcspn(at, "|");

			printf("%s %.*s", at == s->choices ? "" : ",", (int)len, at);
			at += len + (at[len] == '|');
		}
		puts(".");
		break;
	case MT_SETTING_ADDRS:
		puts(s->maximum == 1 ? "Takes IP:PORT; port 0 takes a free one."
				     : "Takes IP:PORT, several separated by commas; port 0 takes a "
				       "free one.");
		break;
	case MT_SETTING_INT:
	case MT_SETTING_SIZE:
	case MT_SETTING_DURATION:
		fputs("Takes ", stdout);
		put_number(s, s->minimum);
		fputs(" to ", stdout);
		put_number(s, s->maximum);
		printf("%s%s%s.\n", *s->unit != '\0' ? " " : "", s->unit,
			s->type == MT_SETTING_SIZE       ? ", with the suffixes K, M, G, Ki, Mi, Gi"
			: s->type == MT_SETTING_DURATION ? ", with the suffixes s, m, h, d"
							 : "");
		break;
	default: break;
	}
}

static void put_setting(const struct mt_setting *s)
{
	printf(".TP\n.BR %s \" (default ", s->key);
	put_escaped(*s->initial != '\0' ? s->initial : "empty");
	puts(")\"");
	put_escaped(s->help);
	puts(".");
	put_values(s);
	if (s->applies != MT_APPLIES_LIVE) {
		printf("Applies %s.\n", mt_setting_applies_text(s->applies));
	}
}

int main(void)
{
	const struct mt_setting *table = mt_settings_table();
	char line[4096];
	int found = 0;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, MARK) != 0) {
			fputs(line, stdout);
			continue;
		}
		found++;
		for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
			put_setting(&table[i]);
		}
	}
	if (found != 1 || ferror(stdin) != 0 || fflush(stdout) != 0) {
		fputs("manual: the page has no place for the settings\n", stderr);
		return 1;
	}
	return 0;
}
