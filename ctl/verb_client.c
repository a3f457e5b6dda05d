#include "ctl/ctl.h"
#include "ctl/qr.h"
#include "ctl/table.h"
#include "proto/wire/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options of "client add" and "client set" that the daemon reads. */
static const struct {
	const char *option;
	const char *member;
} limits[] = {
	{"--expires", "expires"},
	{"--rate", "rate"},
	{"--quota", "quota"},
	{"--max-connections", "max_connections"},
	{"--note", "note"},
};

struct words {
	const char *name;
	const char *key_file;
	bool qr;
	json_t *args; /* of the request */
};

/* The value of `option` at `argv[*i]`, as "--option VALUE" or "--option=VALUE"; NULL when another
 * word stands there. */
static const char *value_of(const char *option, int argc, char **argv, int *i)
{
	size_t len = strlen(option);

	if (argv[*i] == NULL || strncmp(argv[*i], option, len) != 0) {
		return NULL;
	}
	if (argv[*i][len] == '=') {
		return argv[*i] + len + 1;
	}
	return argv[*i][len] == '\0' && *i + 1 < argc ? argv[++*i] : NULL;
}

static int take_limit(struct words *w, int argc, char **argv, int *i)
{
	for (size_t n = 0; n < sizeof(limits) / sizeof(limits[0]); n++) {
		const char *value = value_of(limits[n].option, argc, argv, i);

		if (value != NULL) {
			return json_object_set_new(w->args, limits[n].member, json_string(value));
		}
	}
	return -1;
}

/* 0, or a usage error; `args` is then nobody's. */
static int read_words(struct words *w, bool adding, int argc, char **argv)
{
	bool ok = true;

	*w = (struct words){.args = json_object()};
	for (int i = 0; i < argc && ok; i++) {
		const char *key_file = adding ? value_of("--key", argc, argv, &i) : NULL;

		if (key_file != NULL) {
			w->key_file = key_file;
		} else if (adding && strcmp(argv[i], "--qr") == 0) {
			w->qr = true;
		} else if (argv[i][0] == '-') {
			ok = take_limit(w, argc, argv, &i) == 0;
		} else {
			ok = w->name == NULL;
			w->name = argv[i];
		}
	}
	if (!ok || w->name == NULL ||
		json_object_set_new(w->args, "name", json_string(w->name)) != 0) {
		json_decref(w->args);
		return mt_ctl_fail(CTL_USAGE,
			"usage: mytunnelctl client %s NAME %s[--expires 30d] [--rate 50M] "
			"[--quota 100G/month] [--max-connections N] [--note TEXT]",
			adding ? "add" : "set", adding ? "[--key FILE] [--qr] " : "");
	}
	return 0;
}

/* The profile and nothing else on standard output: it is meant for a file. */
static int print_profile(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts(mt_ctl_text(result, "uri"));
	fprintf(stderr, "client '%s' is enrolled; this profile is not shown again\n",
		mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

static int print_profile_and_code(const struct mt_ctl *ctl, const json_t *result)
{
	int rv = mt_qr_print(mt_ctl_text(result, "uri"), stderr);

	if (rv != 0) {
		fprintf(stderr, "warning: the QR code cannot be drawn: %s\n", mt_strerror(rv));
	}
	return print_profile(ctl, result);
}

static int read_key(const char *path, char **out)
{
	char *key = mt_ctl_read_file(path, NULL);

	if (key == NULL) {
		return CTL_FAILED;
	}
	if (strstr(key, "PRIVATE KEY") != NULL) {
		mt_wipe(key, strlen(key));
		free(key);
		return mt_ctl_fail(CTL_FAILED,
			"%s holds a private key; give the public one (mytunnel keygen prints it)",
			path);
	}
	*out = key;
	return 0;
}

int mt_ctl_client_add(const struct mt_ctl *ctl, int argc, char **argv)
{
	struct words w;
	char *key = NULL;
	int rv = read_words(&w, true, argc, argv);

	if (rv != 0) {
		return rv;
	}
	if (w.key_file != NULL) {
		rv = read_key(w.key_file, &key);
		if (rv == 0 && json_object_set_new(w.args, "public_key", json_string(key)) != 0) {
			rv = mt_ctl_fail(CTL_USAGE, "the key file is not text");
		}
		free(key);
		if (rv != 0) {
			json_decref(w.args);
			return rv;
		}
	}
	return mt_ctl_ask(ctl, "client.add", w.args, w.qr ? print_profile_and_code : print_profile);
}

int mt_ctl_client_set(const struct mt_ctl *ctl, int argc, char **argv)
{
	struct words w;
	int rv = read_words(&w, false, argc, argv);

	return rv != 0 ? rv : mt_ctl_ask(ctl, "client.set", w.args, mt_ctl_print_client);
}

static int ask_by_name(const struct mt_ctl *ctl, const char *verb, const char *name,
	int (*print)(const struct mt_ctl *ctl, const json_t *result))
{
	return mt_ctl_ask(ctl, verb, json_pack("{s:s}", "name", name), print);
}

static int print_enabled(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("client '%s' is enabled\n", mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

int mt_ctl_client_enable(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return ask_by_name(ctl, "client.enable", argv[0], print_enabled);
}

static int print_disabled(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("client '%s' is disabled; its connections have been ended\n",
		mt_ctl_text(json_object_get(result, "client"), "name"));
	return CTL_OK;
}

int mt_ctl_client_disable(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return ask_by_name(ctl, "client.disable", argv[0], print_disabled);
}

static int print_kicked(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("%" JSON_INTEGER_FORMAT " connections of client '%s' have been ended\n",
		json_integer_value(json_object_get(result, "connections")),
		mt_ctl_text(result, "client"));
	return CTL_OK;
}

int mt_ctl_client_kick(const struct mt_ctl *ctl, int argc, char **argv)
{
	char question[160];

	(void)argc;
	(void)snprintf(question, sizeof(question), "End all connections of client '%.64s'?",
		argv[0]); /* for people: cut when too long */
	if (!mt_ctl_confirm(ctl, question)) {
		return CTL_FAILED;
	}
	return ask_by_name(ctl, "client.kick", argv[0], print_kicked);
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
