#include "ctl/ctl.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Texts that came over the network reach the terminal without control characters. */
static void print_value(const json_t *value)
{
	const char *text = json_string_value(value);

	if (json_is_integer(value)) {
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return;
	}
	if (text == NULL) {
		/* A write that fails shows at the flush. */
		(void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
		return;
	}
	if (*text == '\0' || strpbrk(text, " \"=") != NULL) {
		putchar('"');
	}
	for (const char *p = text; *p != '\0'; p++) {
		putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
	}
	if (*text == '\0' || strpbrk(text, " \"=") != NULL) {
		putchar('"');
	}
}

static void print_text(const json_t *event)
{
	char time[MT_NUMBER_TEXT_MAX];
	const char *key;
	json_t *value;

	printf("%s  %-18s",
		mt_format_time(time, json_integer_value(json_object_get(event, "time_ms")) / 1000),
		mt_ctl_text(event, "event"));
	json_object_foreach((json_t *)(uintptr_t)event, key, value)
	{
		if (strcmp(key, "number") != 0 && strcmp(key, "time_ms") != 0 &&
			strcmp(key, "event") != 0) {
			printf(" %s=", key);
			print_value(value);
		}
	}
	putchar('\n');
}

static int print_line(const struct mt_ctl *ctl, const json_t *event)
{
	if (!ctl->json) {
		print_text(event);
		return 0;
	}
	if (json_dumpf(event, stdout, JSON_COMPACT) != 0) {
		return -1;
	}
	putchar('\n');
	return 0;
}

/* One batch; `*last` moves on. */
static int print_batch(const struct mt_ctl *ctl, const json_t *result, json_int_t *last)
{
	json_int_t missed = json_integer_value(json_object_get(result, "missed"));
	json_t *event;
	size_t i;
	int rv = 0;

	if (missed > 0 && *last > 0) {
		fprintf(stderr, "mytunnelctl: %" JSON_INTEGER_FORMAT " events were missed\n",
			missed);
	}
	json_array_foreach(json_object_get(result, "events"), i, event)
	{
		rv = rv != 0 ? rv : print_line(ctl, event);
	}
	*last = json_integer_value(json_object_get(result, "last"));
	return rv == 0 && fflush(stdout) == 0
		       ? CTL_OK
		       : mt_ctl_fail(CTL_FAILED, "the events could not be printed");
}

int mt_ctl_events(const struct mt_ctl *ctl, int argc, char **argv)
{
	bool follow = argc == 1 && (strcmp(argv[0], "-f") == 0 || strcmp(argv[0], "--follow") == 0);
	json_int_t last = 0;
	bool wait = false;
	int rv;

	if (argc == 1 && !follow) {
		return mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl events [-f]");
	}
	do {
		json_t *root = NULL;
		json_t *result = NULL;

		rv = mt_ctl_call(ctl, "events",
			json_pack("{s:I, s:b}", "after", last, "wait", wait), &root, &result);
		if (rv == 0) {
			rv = print_batch(ctl, result, &last);
			json_decref(root);
		}
		wait = true;
	} while (rv == 0 && follow);
	return rv;
}
