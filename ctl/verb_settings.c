#include "ctl/ctl.h"
#include "ctl/table.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int finish_table(const struct mt_ctl *ctl, struct mt_table *t)
{
	int rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;

	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

static int print_values(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"KEY", "VALUE", "DEFAULT"};
	struct mt_table *t = mt_table_new(headings, 3);
	size_t i;
	json_t *row;

	json_array_foreach(json_object_get(result, "settings"), i, row)
	{
		if (t != NULL) {
			mt_table_add(t, mt_ctl_text(row, "key"));
			mt_table_addf(t, "%s%s", mt_ctl_text(row, "value"),
				json_is_true(json_object_get(row, "on_trial")) ? " (on trial)"
									       : "");
			mt_table_add(t, json_is_true(json_object_get(row, "changed"))
						? mt_ctl_text(row, "default")
						: "");
		}
	}
	return finish_table(ctl, t);
}

/* For `get` with exactly one key. */
static int print_value(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts(mt_ctl_text(json_array_get(json_object_get(result, "settings"), 0), "value"));
	return CTL_OK;
}

int mt_ctl_get(const struct mt_ctl *ctl, int argc, char **argv)
{
	json_t *root = NULL;
	json_t *result = NULL;
	const char *key = NULL;
	bool changed = false;
	bool one;
	int rv;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--changed") == 0) {
			changed = true;
		} else if (key == NULL) {
			key = argv[i];
		} else {
			return mt_ctl_fail(
				CTL_USAGE, "usage: mytunnelctl get [KEY|PREFIX] [--changed]");
		}
	}
	rv = mt_ctl_call(ctl, "get", json_pack("{s:s*, s:b}", "key", key, "changed", changed),
		&root, &result);
	if (rv != 0) {
		return rv;
	}
	one = key != NULL && !changed &&
	      strcmp(mt_ctl_text(json_array_get(json_object_get(result, "settings"), 0), "key"),
		      key) == 0;
	if (ctl->json) {
		rv = mt_ctl_print_json(result);
	} else {
		rv = one ? print_value(ctl, result) : print_values(ctl, result);
	}
	json_decref(root);
	return rv;
}

static void print_applies(const json_t *row)
{
	const char *applies = mt_ctl_text(row, "applies");

	if (!json_is_true(json_object_get(row, "changed"))) {
		printf("%s is %s already\n", mt_ctl_text(row, "key"),
			*mt_ctl_text(row, "value") != '\0' ? mt_ctl_text(row, "value") : "empty");
		return;
	}
	printf("%s = %s (was %s; %s)\n", mt_ctl_text(row, "key"),
		*mt_ctl_text(row, "value") != '\0' ? mt_ctl_text(row, "value") : "empty",
		*mt_ctl_text(row, "previous") != '\0' ? mt_ctl_text(row, "previous") : "empty",
		applies);
}

static int print_changes(const struct mt_ctl *ctl, const json_t *result)
{
	char within[MT_NUMBER_TEXT_MAX];
	size_t i;
	json_t *row;

	(void)ctl;
	json_array_foreach(json_object_get(result, "settings"), i, row)
	{
		print_applies(row);
	}
	if (json_integer_value(json_object_get(result, "confirm_within")) > 0) {
		printf("goes back by itself in %s, unless you run: mytunnelctl confirm\n",
			mt_format_duration(within,
				json_integer_value(json_object_get(result, "confirm_within"))));
	}
	return CTL_OK;
}

/* Takes "--confirm TIME" out of the arguments; a TIME is like 90, 90s, 2m or 1h. */
static int take_confirm(int *argc, char **argv, json_int_t *seconds)
{
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		json_int_t unit = 1;
		long value;
		char *end;

		if (strcmp(argv[i], "--confirm") != 0) {
			argv[kept++] = argv[i];
			continue;
		}
		errno = 0;
		value = i + 1 < *argc ? strtol(argv[i + 1], &end, 10) : -1;
		if (value > 0 && errno == 0 && (*end == 's' || *end == 'm' || *end == 'h')) {
			unit = *end == 'h' ? 3600 : *end == 'm' ? 60 : 1;
			end++;
		}
		if (value <= 0 || errno != 0 || *end != '\0' || value > INT32_MAX) {
			return mt_ctl_fail(CTL_USAGE, "--confirm takes a time such as 90s or 2m");
		}
		*seconds = value * unit;
		i++;
	}
	*argc = kept;
	return 0;
}

int mt_ctl_set(const struct mt_ctl *ctl, int argc, char **argv)
{
	json_t *values;
	json_int_t confirm = 0;
	int rv = take_confirm(&argc, argv, &confirm);

	if (rv != 0) {
		return rv;
	}
	values = json_object();
	if (argc == 0 || argc % 2 != 0) {
		json_decref(values);
		if (argc == 0) {
			return mt_ctl_fail(CTL_USAGE, "set takes keys with their values");
		}
		return mt_ctl_fail(CTL_USAGE,
			"'%s' has no value; usage: mytunnelctl set KEY VALUE [KEY VALUE]...",
			argv[argc - 1]);
	}
	for (int i = 0; i < argc; i += 2) {
		if (json_object_get(values, argv[i]) != NULL) {
			json_decref(values);
			return mt_ctl_fail(CTL_USAGE, "'%s' is given twice", argv[i]);
		}
		if (json_object_set_new(values, argv[i], json_string(argv[i + 1])) != 0) {
			json_decref(values);
			return mt_ctl_fail(CTL_USAGE, "'%s' or its value is not text", argv[i]);
		}
	}
	return mt_ctl_ask(ctl, "set",
		json_pack("{s:o, s:o*}", "values", values, "confirm",
			confirm > 0 ? json_integer(confirm) : NULL),
		print_changes);
}

static int print_confirmed(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	(void)result;
	puts("confirmed: the settings on trial are stored");
	return CTL_OK;
}

int mt_ctl_settings_confirm(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "confirm", NULL, print_confirmed);
}

int mt_ctl_reset(const struct mt_ctl *ctl, int argc, char **argv)
{
	json_t *keys = json_array();

	for (int i = 0; i < argc; i++) {
		if (json_array_append_new(keys, json_string(argv[i])) != 0) {
			json_decref(keys);
			return mt_ctl_fail(CTL_USAGE, "'%s' is not text", argv[i]);
		}
	}
	return mt_ctl_ask(ctl, "reset", json_pack("{s:o}", "keys", keys), print_changes);
}

static void print_description(const json_t *row)
{
	const char *type = mt_ctl_text(row, "type");
	const char *unit = mt_ctl_text(row, "unit");

	printf("%s\n  %s.\n  value:   %s\n  default: %s\n", mt_ctl_text(row, "key"),
		mt_ctl_text(row, "help"), mt_ctl_text(row, "value"), mt_ctl_text(row, "default"));
	if (strcmp(type, "enum") == 0) {
		printf("  takes:   %s\n", mt_ctl_text(row, "choices"));
	} else if (strcmp(type, "bool") == 0) {
		printf("  takes:   on, off\n");
	} else if (strcmp(type, "addresses") == 0) {
		printf("  takes:   IP:PORT%s\n",
			json_integer_value(json_object_get(row, "maximum")) > 1
				? ", separated by commas"
				: "");
	} else if (strcmp(type, "text") == 0) {
		printf("  takes:   text\n");
	} else {
		printf("  takes:   %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT "%s%s%s\n",
			json_integer_value(json_object_get(row, "minimum")),
			json_integer_value(json_object_get(row, "maximum")),
			*unit != '\0' ? " " : "", unit,
			strcmp(type, "size") == 0       ? " (suffixes K M G Ki Mi Gi)"
			: strcmp(type, "duration") == 0 ? " (suffixes s m h d)"
							: "");
	}
	printf("  applies: %s\n", mt_ctl_text(row, "applies"));
}

static int print_descriptions(const struct mt_ctl *ctl, const json_t *result)
{
	size_t i;
	json_t *row;

	(void)ctl;
	json_array_foreach(json_object_get(result, "settings"), i, row)
	{
		fputs(i > 0 ? "\n" : "", stdout);
		print_description(row);
	}
	return CTL_OK;
}

int mt_ctl_describe(const struct mt_ctl *ctl, int argc, char **argv)
{
	return mt_ctl_ask(ctl, "describe", argc > 0 ? json_pack("{s:s}", "key", argv[0]) : NULL,
		print_descriptions);
}
