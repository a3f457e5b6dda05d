#include "ctl/ctl.h"
#include "ctl/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_MAX      10000
#define LINE_MAX_BYTES 512

/* Adds to a line; what does not fit is cut, with the list behind --json. */
static void append(char *line, const char *text)
{
	size_t used = strlen(line);

	(void)snprintf(line + used, LINE_MAX_BYTES - used, "%s", text);
}

static void append_value(char *line, const json_t *value)
{
	char *text =
		json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	append(line, text != NULL                     ? text
		     : json_string_length(value) == 0 ? "(empty)"
						      : json_string_value(value));
	free(text);
}

static void describe(char *line, const json_t *detail)
{
	const char *key;
	json_t *value;
	const char *separator = "";

	line[0] = '\0';
	json_object_foreach(json_object_get(detail, "args"), key, value)
	{
		append(line, separator);
		append(line, key);
		append(line, "=");
		append_value(line, value);
		separator = " ";
	}
	json_object_foreach(json_object_get(detail, "changes"), key, value)
	{
		append(line, separator);
		append(line, key);
		append(line, ": ");
		append_value(line, json_array_get(value, 0));
		append(line, " -> ");
		append_value(line, json_array_get(value, 1));
		separator = ", ";
	}
	value = json_object_get(detail, "rule");
	if (value != NULL) {
		append(line, " rule ");
		append_value(line, value);
	}
	value = json_object_get(detail, "fingerprint");
	if (value != NULL) {
		append(line, " certificate ");
		append_value(line, value);
	}
}

static int print_entries(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"WHEN", "WHO", "VERB", "WHAT"};
	struct mt_table *t = mt_table_new(headings, 4);
	char time_text[MT_NUMBER_TEXT_MAX];
	char line[LINE_MAX_BYTES];
	size_t i;
	json_t *row;
	int rv;

	if (json_array_size(json_object_get(result, "entries")) == 0) {
		mt_table_free(t);
		puts("nothing has been changed yet");
		return CTL_OK;
	}
	json_array_foreach(json_object_get(result, "entries"), i, row)
	{
		if (t == NULL) {
			break;
		}
		describe(line, json_object_get(row, "detail"));
		mt_table_add(t,
			mt_format_time(time_text, json_integer_value(json_object_get(row, "at"))));
		mt_table_add(t, mt_ctl_text(row, "user"));
		mt_table_add(t, mt_ctl_text(row, "verb"));
		mt_table_add(t, line);
	}
	rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_audit(const struct mt_ctl *ctl, int argc, char **argv)
{
	const char *text = NULL;
	char *end = NULL;
	long limit = 0;

	if (argc == 2 && strcmp(argv[0], "--limit") == 0) {
		text = argv[1];
	} else if (argc == 1 && strncmp(argv[0], "--limit=", 8) == 0) {
		text = argv[0] + 8;
	} else if (argc > 0) {
		return mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl audit [--limit N]");
	}
	if (text != NULL) {
		errno = 0;
		limit = strtol(text, &end, 10);
		if (errno != 0 || end == text || *end != '\0' || limit < 1 || limit > LIMIT_MAX) {
			return mt_ctl_fail(
				CTL_USAGE, "--limit takes a number from 1 to %d", LIMIT_MAX);
		}
	}
	return mt_ctl_ask(ctl, "audit",
		text != NULL ? json_pack("{s:I}", "limit", (json_int_t)limit) : NULL,
		print_entries);
}
