#include "ctl/ctl.h"
#include "ctl/table.h"
#include "proto/wire/addr.h"
#include "proto/wire/rule.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static int print_rules(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"NUMBER", "RULE"};
	const json_t *list = json_object_get(result, "rules");
	struct mt_table *t = mt_table_new(headings, 2);
	bool private_open = json_is_true(json_object_get(result, "allow_private"));
	size_t i;
	json_t *row;
	int rv = -1;

	json_array_foreach(list, i, row)
	{
		if (t != NULL) {
			mt_table_addf(t, "%" PRId64, number_of(row, "number"));
			mt_table_add(t, mt_ctl_text(row, "rule"));
		}
	}
	if (t != NULL) {
		mt_table_add(t, "-");
		mt_table_add(t, private_open ? "otherwise: public and private targets are open, "
					       "special ranges closed"
					     : "otherwise: public targets are open, private and "
					       "special ranges closed");
		rv = mt_table_print(t, stdout, ctl->color);
	}
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_access_list(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "access.list", NULL, print_rules);
}

/* 1 to 999999999, digits alone; 0 for anything else. */
static int parse_number(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > 9 || strspn(text, "0123456789") != len) {
		return 0;
	}
	return (int)strtol(text, NULL, 10);
}

static const char *about_tunnels(const json_t *result)
{
	return json_is_true(json_object_get(result, "kept"))
		       ? "running tunnels stay as they are"
		       : "tunnels that are not allowed any more have been ended";
}

static int print_added(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("rule %" PRId64 " is now: %s\n%s\n", number_of(result, "number"),
		mt_ctl_text(result, "rule"), about_tunnels(result));
	return CTL_OK;
}

/* Appends a word to a line of words. */
static int append_word(char *line, size_t cap, const char *word)
{
	size_t len = strlen(line);
	int n = snprintf(line + len, cap - len, "%s%s", len > 0 ? " " : "", word);

	return n >= 0 && (size_t)n < cap - len ? 0 : MT_E_TOO_LONG;
}

int mt_ctl_access_add(const struct mt_ctl *ctl, int argc, char **argv)
{
	char rule[2 * MT_RULE_TEXT_MAX] = "";
	char why[256];
	struct mt_rule parsed;
	const char *at = NULL;
	bool keep = false;
	int number = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--at") == 0 && i + 1 < argc) {
			at = argv[++i];
		} else if (strncmp(argv[i], "--at=", 5) == 0) {
			at = argv[i] + 5;
		} else if (strcmp(argv[i], "--keep") == 0) {
			keep = true;
		} else if (append_word(rule, sizeof(rule), argv[i]) != 0) {
			return mt_ctl_fail(CTL_USAGE, "the rule is too long");
		}
	}
	if (at != NULL) {
		number = parse_number(at);
		if (number == 0) {
			return mt_ctl_fail(
				CTL_USAGE, "--at takes the number of a rule, not '%.32s'", at);
		}
	}
	if (mt_rule_parse(&parsed, rule, why, sizeof(why)) != 0) {
		return mt_ctl_fail(CTL_USAGE, "%s; see mytunnelctl access add --help", why);
	}
	return mt_ctl_ask(ctl, "access.add",
		json_pack("{s:s, s:i, s:b}", "rule", rule, "at", number, "keep", keep),
		print_added);
}

/* With what puts it back. */
static int print_removed(const struct mt_ctl *ctl, const json_t *result)
{
	const char *rule = mt_ctl_text(result, "rule");
	bool wild = strchr(rule, '*') != NULL;

	(void)ctl;
	printf("rule %" PRId64 " is removed: %s\n%s\n", number_of(result, "number"), rule,
		about_tunnels(result));
	fprintf(stderr, "to put it back: mytunnelctl access add --at %" PRId64 " %s%s%s\n",
		number_of(result, "number"), wild ? "'" : "", rule, wild ? "'" : "");
	return CTL_OK;
}

int mt_ctl_access_remove(const struct mt_ctl *ctl, int argc, char **argv)
{
	bool keep = false;
	int number = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--keep") == 0) {
			keep = true;
		} else if (number == 0 && parse_number(argv[i]) != 0) {
			number = parse_number(argv[i]);
		} else {
			return mt_ctl_fail(CTL_USAGE,
				"a rule is removed by its number, not '%.32s'; see mytunnelctl "
				"access list",
				argv[i]);
		}
	}
	if (number == 0) {
		return mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl access remove [--keep] NUMBER");
	}
	return mt_ctl_ask(ctl, "access.remove",
		json_pack("{s:i, s:b}", "number", number, "keep", keep), print_removed);
}

static int print_test(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"ADDRESS", "DECISION", "WHY"};
	const json_t *list = json_object_get(result, "addresses");
	struct mt_table *t;
	size_t i;
	json_t *row;
	int rv;

	printf("%s: %s %s port %" PRId64 " for client %s\n",
		json_is_true(json_object_get(result, "allowed")) ? "allowed" : "refused",
		mt_ctl_text(result, "protocol"), mt_ctl_text(result, "host"),
		number_of(result, "port"),
		*mt_ctl_text(result, "client") != '\0' ? mt_ctl_text(result, "client")
						       : "- (without identity)");
	if (json_array_size(list) == 0) {
		printf("%s\n", mt_ctl_text(result, "why"));
		return CTL_OK;
	}
	t = mt_table_new(headings, 3);
	json_array_foreach(list, i, row)
	{
		if (t != NULL) {
			mt_table_add(t, mt_ctl_text(row, "address"));
			mt_table_add(t, json_is_true(json_object_get(row, "allowed")) ? "allowed"
										      : "refused");
			mt_table_add(t, mt_ctl_text(row, "why"));
		}
	}
	rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_access_test(const struct mt_ctl *ctl, int argc, char **argv)
{
	const char *host = NULL;
	size_t len = 0;
	uint16_t port = 0;
	json_t *args;

	(void)argc;
	if (strcmp(argv[1], "tcp") != 0 && strcmp(argv[1], "udp") != 0) {
		return mt_ctl_fail(CTL_USAGE, "the protocol is tcp or udp, not '%.32s'", argv[1]);
	}
	if (mt_host_split(&host, &len, &port, argv[2], strlen(argv[2])) != 0 || port == 0) {
		return mt_ctl_fail(CTL_USAGE,
			"a target looks like www.example.com:443 or [2001:db8::1]:443, not "
			"'%.128s'",
			argv[2]);
	}
	args = json_pack("{s:s, s:s, s:s%, s:i}", "client", argv[0], "protocol", argv[1], "host",
		host, len, "port", (int)port);
	if (args == NULL) {
		return mt_ctl_fail(CTL_USAGE, "the client or the target is not text");
	}
	return mt_ctl_ask(ctl, "access.test", args, print_test);
}
