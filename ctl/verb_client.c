#include "ctl/ctl.h"
#include "ctl/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The profile and nothing else on standard output: it is meant for a file. */
static int print_profile(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts(mt_ctl_text(result, "uri"));
	fprintf(stderr, "client '%s' is enrolled; this profile is not shown again\n",
		mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

int mt_ctl_client_add(const struct mt_ctl *ctl, int argc, char **argv)
{
	const char *name = NULL;
	const char *key_file = NULL;
	char *key = NULL;
	json_t *args;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--key") == 0 && i + 1 < argc) {
			key_file = argv[++i];
		} else if (strncmp(argv[i], "--key=", 6) == 0) {
			key_file = argv[i] + 6;
		} else if (name == NULL && argv[i][0] != '-') {
			name = argv[i];
		} else {
			name = NULL;
			break;
		}
	}
	if (name == NULL) {
		return mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl client add NAME [--key FILE]");
	}
	if (key_file != NULL) {
		key = mt_ctl_read_file(key_file, NULL);
		if (key == NULL) {
			return CTL_FAILED;
		}
		if (strstr(key, "PRIVATE KEY") != NULL) {
			free(key);
			return mt_ctl_fail(CTL_FAILED,
				"%s holds a private key; give the public one (mytunnel keygen "
				"prints it)",
				key_file);
		}
	}
	args = json_pack("{s:s, s:s*}", "name", name, "public_key", key);
	free(key);
	if (args == NULL) {
		return mt_ctl_fail(CTL_USAGE, "the name or the key file is not text");
	}
	return mt_ctl_ask(ctl, "client.add", args, print_profile);
}

static int print_clients(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"NAME", "STATE", "ADDED", "KEY"};
	const json_t *list = json_object_get(result, "clients");
	struct mt_table *t = mt_table_new(headings, 4);
	char when[MT_NUMBER_TEXT_MAX];
	size_t i;
	json_t *row;
	int rv;

	json_array_foreach(list, i, row)
	{
		if (t != NULL) {
			mt_table_add(t, mt_ctl_text(row, "name"));
			mt_table_add(t, json_is_true(json_object_get(row, "revoked")) ? "revoked"
										      : "active");
			mt_table_add(t, mt_format_time(when, json_integer_value(json_object_get(
								     row, "created_at"))));
			mt_table_addf(t, "%.16s", mt_ctl_text(row, "fingerprint"));
		}
	}
	if (json_array_size(list) == 0) {
		fputs("no clients yet; mytunnelctl client add NAME\n", stderr);
		mt_table_free(t);
		return CTL_OK;
	}
	rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_client_list(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "client.list", NULL, print_clients);
}

static int print_revoked(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("client '%s' is revoked; its connections have been ended\n",
		mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

int mt_ctl_client_revoke(const struct mt_ctl *ctl, int argc, char **argv)
{
	char question[160];

	(void)argc;
	(void)snprintf(question, sizeof(question), "Revoke client '%.64s' for good?",
		argv[0]); /* for people: cut when too long */
	if (!mt_ctl_confirm(ctl, question)) {
		return CTL_FAILED;
	}
	return mt_ctl_ask(ctl, "client.revoke", json_pack("{s:s}", "name", argv[0]), print_revoked);
}

static int print_removed(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("client '%s' is removed; its connections have been ended\n",
		mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

int mt_ctl_client_remove(const struct mt_ctl *ctl, int argc, char **argv)
{
	char question[160];

	(void)argc;
	(void)snprintf(question, sizeof(question), "Remove client '%.64s'?",
		argv[0]); /* for people: cut when too long */
	if (!mt_ctl_confirm(ctl, question)) {
		return CTL_FAILED;
	}
	return mt_ctl_ask(ctl, "client.remove", json_pack("{s:s}", "name", argv[0]), print_removed);
}
